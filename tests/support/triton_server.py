"""A real Triton Inference Server with the Python backend: the one in nvidia-pytriton's wheel.

The wheel is installed without what it requires, and never imported. Its server is of Triton 24.10,
whose Python backend misreads arrays of NumPy 2: the server's Python gets NumPy 1 from a folder
``triton-numpy`` beside the environment's own packages, where NumPy here is 2.
"""

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

import httpx
import numpy as np

import revstep

START_S = 120.0
STOP_S = 60.0
STUB = "triton_python_backend_stub"


def missing():
    """Why there is no server here; None: there is one."""
    if (package := _package()) is None:
        return "no Triton server: pip install --no-deps 'nvidia-pytriton>=0.7,<0.8'"
    if not _stub(package).is_file():
        return f"nvidia-pytriton has no Python backend for {_python()}"
    if np.__version__ >= "2" and _old_numpy() is None:
        return f"no NumPy 1: pip install --no-deps --target {sys.prefix}/triton-numpy 'numpy<2'"
    return None


def make_home(folder, *, old_numpy=True):
    """What a server needs: backends with a stub for this Python, and an environment like this one.

    The libraries' run paths are relative, so the copies stand as the wheel has them.
    """
    package = _package()
    python = folder / "pytriton" / "tritonserver" / "backends" / "python"
    shutil.copytree(package / "tritonserver" / "backends" / "python", python)
    shutil.copy(_stub(package), python / STUB)
    (python / STUB).chmod(0o755)
    libraries = "nvidia_pytriton.libs"
    (folder / libraries).symlink_to(package.with_name(libraries))
    venv.create(folder / "venv", with_pip=False)
    packages = folder / "venv" / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    lines = [str(_old_numpy())] if old_numpy and _old_numpy() is not None else []
    lines.append(str(Path(revstep.__file__).parents[1]))
    lines.append(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})")
    (packages / "here.pth").write_text("\n".join(lines) + "\n")
    return folder


@contextlib.contextmanager
def serving(home, repository, log, *options, ready=True):
    """The URL of a server on a repository, which ends with the block; and its process.

    Args:
        home: Of ``make_home``.
        repository: The model repository.
        log: A file for what it says.
        options: Further ones of tritonserver.
        ready: Wait until every model is loaded, else until the server answers.
    """
    with socket.socket() as probe:  # Triton takes 0 for a port, but doesn't say which it got
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "PATH": f"{home / 'venv' / 'bin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR"),  # the stub links Python's library
        "OMP_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    environment.pop("PYTHONPATH", None)
    command = [
        _package() / "tritonserver" / "bin" / "tritonserver",
        f"--model-repository={repository}",
        f"--backend-directory={home / 'pytriton' / 'tritonserver' / 'backends'}",
        "--http-address=127.0.0.1",
        f"--http-port={port}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        *options,
    ]
    with log.open("w") as out:
        server = subprocess.Popen(
            list(map(str, command)), env=environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        _wait(server, f"{url}/v2/health/{'ready' if ready else 'live'}", log)
        yield url, server
    finally:
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise


def _wait(server, url, log):
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server is not ready:\n{log.read_text(errors='replace')}")


def _package():
    found = importlib.util.find_spec("pytriton")
    return None if found is None else Path(found.origin).parent


def _python():
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _stub(package):
    return package / "tritonserver" / "python_backend_stubs" / _python() / STUB


def _old_numpy():
    folders = (Path(folder) / "triton-numpy" for folder in (sys.prefix, *sys.path))
    return next((folder for folder in folders if (folder / "numpy").is_dir()), None)
