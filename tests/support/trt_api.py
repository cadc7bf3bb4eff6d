"""Which names of TensorRT's API the code uses, and which names each TensorRT has.

The names of the real libraries are in ``tests/engine/backends/tensorrt_api.json``, made by::

    python tests/support/trt_api.py > tests/engine/backends/tensorrt_api.json

from the bindings' wheels, which pip downloads. They hold the real Python module but not the
libraries it calls; stubs, compiled here, let it be imported, so that every class can be listed.
"""

import ast
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("engine/backends/trt/library.py", "engine/backends/trt/plan.py",
           "engine/backends/trt/denoiser.py", "engine/backends/trt/part.py",
           "export/targets/trt_build.py", "export/targets/monitor.py")  # fmt: skip
API = ROOT / "tests" / "engine" / "backends" / "tensorrt_api.json"
WHEELS = ("10.0.1", "10.16.1.11", "11.4.0.106")

# What the code calls its TensorRT objects -> their class.
VARIABLES = {
    "trt": "",
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "cuda_engine": "ICudaEngine",
    "flag": "NetworkDefinitionCreationFlag",
    "kernel_cache": "IRuntimeCache",
    "network": "INetworkDefinition",
    "network_input": "ITensor",
    "optimization_profile": "IOptimizationProfile",
    "parser": "OnnxParser",
    "parser_error": "ParserError",
    "runtime": "Runtime",
    "runtime_config": "IRuntimeConfig",
    "timings": "ITimingCache",
}

STUB = """
#define S(n) void* n(void){return 0;}
S(createInferBuilder_INTERNAL) S(createInferRefitter_INTERNAL) S(createInferRuntime_INTERNAL)
S(createNvOnnxParserRefitter_INTERNAL) S(createNvOnnxParser_INTERNAL) S(getBuilderPluginRegistry)
S(getPluginRegistry) S(initLibNvInferPlugins) S(createONNXParser_INTERNAL)
int getNvOnnxParserVersion(void){return 0;}
"""

LIST = """
import importlib, json, sys
trt = importlib.import_module(sys.argv[1])
def names(x):
    return sorted(n for n in dir(x) if not n.startswith("__"))
print(json.dumps({"": names(trt), **{
    name: names(getattr(trt, name)) for name in json.loads(sys.argv[2]) if hasattr(trt, name)
}}))
"""


def _owner(node):
    """The TensorRT class of an expression, or None; ``trt.X`` is the class X."""
    if isinstance(node, ast.Name):
        return VARIABLES.get(node.id)
    if isinstance(node, ast.Attribute):
        inner = _owner(node.value)
        if inner == "":
            return node.attr
        return VARIABLES.get(node.attr.lstrip("_"))
    return None


def used_names(sources=None):
    """{(class, name): file} of every attribute of a TensorRT object in the sources."""
    found = {}
    for source in sources or [ROOT / name for name in SOURCES]:
        for node in ast.walk(ast.parse(Path(source).read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and not node.attr.startswith("__"):
                owner = _owner(node.value)
                if owner is not None:
                    found[owner, node.attr] = Path(source).name
            for base in node.bases if isinstance(node, ast.ClassDef) else ():
                if isinstance(base, ast.Attribute) and _owner(base.value) == "":
                    methods = (m.name for m in node.body if isinstance(m, ast.FunctionDef))
                    found |= {(base.attr, m): Path(source).name for m in methods if m[:2] != "__"}
    return found


def list_api(module, classes, env=None):
    """Class -> its public names, of a TensorRT module in its own process."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIST, module, json.dumps(sorted(classes))],
        capture_output=True, text=True, env=env,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)


def wheel_api(version, classes, work):
    """The names of a TensorRT version, from its bindings' wheel and stub libraries."""
    work = Path(work) / version
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:",
         "--disable-pip-version-check", "-d", str(work), f"tensorrt-cu12-bindings=={version}"],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    (wheel,) = work.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(work)
    (work / "stub.c").write_text(STUB)
    major = version.partition(".")[0]
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        soname = f"lib{name}.so.{major}"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", str(work / soname),
             str(work / "stub.c")],
            check=True,
        )  # fmt: skip
    env = {"PYTHONPATH": str(work), "LD_LIBRARY_PATH": str(work), "PATH": "/usr/bin:/bin"}
    return list_api("tensorrt_bindings", classes, env)


def classes_used():
    """The classes whose names are compared."""
    return sorted({owner for owner, _ in used_names()} - {""})


def all_apis(work):
    """Version -> names, of the wheels and of the installed TensorRT-RTX."""
    classes = classes_used()
    apis = {f"tensorrt {v}": wheel_api(v, classes, work) for v in WHEELS}
    import tensorrt_rtx

    version = tensorrt_rtx.__version__
    return {**apis, f"tensorrt_rtx {version}": list_api("tensorrt_rtx", classes)}


def as_text(apis):
    """JSON, one class per line."""
    versions = []
    for version, classes in apis.items():
        rows = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in classes.items())
        versions.append(f" {json.dumps(version)}: {{\n{rows}\n }}")
    return "{\n" + ",\n".join(versions) + "\n}\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(as_text(all_apis(folder)))
