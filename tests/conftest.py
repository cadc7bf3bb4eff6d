"""Bundles that many tests read, exported once a run. Change a copy, never the bundle itself."""

import contextlib
import os
import shutil
from pathlib import Path

import hypothesis
import pytest

import revstep  # noqa: F401  before any test imports a library that reports home

hypothesis.settings.register_profile("busy", deadline=None)  # of one example's time
hypothesis.settings.load_profile("busy")

DEMO = Path(__file__).parents[1] / "examples" / "fashion_mnist_unet"


@contextlib.contextmanager
def _locked(path):
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _once(factory, name, make, suffix=".revstep"):
    """The bundle or folder of that name, made by the first of all workers that asks for it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    path = base / f"{name}{suffix}"
    with _locked(base / f"{name}.lock"):
        if not path.exists():
            make(path)
    return path


def _toy(factory, kind, precisions):
    from toys import build

    from revstep.export import export_module

    module, spec, decoder = build(kind)
    source = {"kind": "factory", "name": f"toys:{kind}"}
    return _once(
        factory,
        kind,
        lambda path: export_module(
            module, spec, path, precisions=precisions, decoder=decoder, source=source
        ),
    )


@pytest.fixture(scope="session")
def demo_folder():
    """The bundled Fashion-MNIST denoiser, as diffusers lays it out."""
    return DEMO


@pytest.fixture(scope="session")
def demo_bundle(tmp_path_factory):
    """The bundled denoiser, fp32 and fp16, null class 10."""
    pytest.importorskip("diffusers")
    from revstep.export import export_diffusers

    return _once(
        tmp_path_factory,
        "demo",
        lambda path: export_diffusers(DEMO, path, precisions=("fp32", "fp16"), null_class=10),
    )


@pytest.fixture(scope="session")
def image_bundle(tmp_path_factory):
    """(3, 8, 8) images, learned variance, class labels, a decoder to (3, 16, 16); fp32, fp16."""
    return _toy(tmp_path_factory, "image", ("fp32", "fp16"))


@pytest.fixture(scope="session")
def policy_bundle(tmp_path_factory):
    """(8, 2) action plans under a float observation; fp32."""
    return _toy(tmp_path_factory, "policy", ("fp32",))


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory):
    """A function: the folder of a small pipeline, by its name in ``pipelines``."""
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    import pipelines

    return lambda name: _once(tmp_path_factory, name, getattr(pipelines, name), suffix="")


@pytest.fixture(scope="session")
def pipeline_bundle(pipeline_folder, tmp_path_factory):
    """A function: the bundle of a small pipeline, fp32."""
    import pipelines

    from revstep.export import export_diffusers

    def bundle(name):
        folder, options = pipeline_folder(name), pipelines.OPTIONS.get(name, {})
        return _once(tmp_path_factory, name, lambda path: export_diffusers(folder, path, **options))

    return bundle


@pytest.fixture(scope="session")
def built(policy_bundle, tmp_path_factory):
    """The policy's bundle with kernels for sm_80."""
    from revstep.export import compile_kernels

    def make(path):
        shutil.copytree(policy_bundle, path)
        compile_kernels(path, gpus=("sm_80",))

    return _once(tmp_path_factory, "policy_kernels", make)


@pytest.fixture(scope="session")
def tabular_bundle(tmp_path_factory):
    """Rows of 6 numbers, flow, no condition; fp32."""
    return _toy(tmp_path_factory, "tabular", ("fp32",))


@pytest.fixture(scope="session")
def two_times_bundle(tmp_path_factory):
    """Rows of 6 numbers, an average velocity of 1000 t and 1000 r, class labels; fp32, fp16."""
    return _toy(tmp_path_factory, "two times", ("fp32", "fp16"))


@pytest.fixture(scope="session")
def observing_bundle(tmp_path_factory):
    """A policy whose condition an encoder makes of an image and a state; fp32 and fp16."""
    return _checkpoint(tmp_path_factory, "observing", ("fp32", "fp16"))


@pytest.fixture(scope="session")
def reading_bundle(tmp_path_factory):
    """A latent denoiser whose conditions an encoder makes of a prompt, and that takes pictures."""
    return _checkpoint(tmp_path_factory, "reading", ("fp32",))


def _checkpoint(factory, name, precisions):
    def make(path):
        import encoders

        from revstep.export import export_module

        found = getattr(encoders, name)(path.parent)
        export_module(
            found.module, found.spec, path, precisions=precisions, decoder=found.decoder,
            encoders=found.encoders, picture_encoder=found.picture_encoder, files=found.files,
        )  # fmt: skip

    return _once(factory, name, make)


@pytest.fixture
def copy_of(tmp_path):
    """A function that copies a bundle to a place where a test may damage it."""
    import shutil

    def copy(bundle, name="copy.revstep"):
        return Path(shutil.copytree(bundle, tmp_path / name, symlinks=True))

    return copy
