"""What lies where in a bundle, and whether a file is what the manifest says.

Layout, version 1::

    manifest.json              spec, provenance, sha256 and size of every file, parity, engines
    denoiser.<precision>.onnx  the network: inputs named by the spec, output ``out``, fp32 I/O
    parity.npz                 inputs, the given module's outputs, and the end of a DDIM-20 run
    decoder.onnx               latents to images, where the spec has a decoder
    picture_encoder.onnx       images to latents, where the spec has a picture encoder
    encoder.<name>.<precision>.onnx   conditions of raw inputs, for each encoder of the spec
    tokenizer.json, ...        what the encoders' tokenizers name
    engines/<key>.plan         compiled networks, each with its entry in ``engines``
    engines/<key>.onnx         rewritten graphs of such entries
    kernels/<key>/             compiled kernels of the step, with their index ``kernels.json``
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from revstep.engine.errors import BundleError

if TYPE_CHECKING:
    from revstep.engine.spec.denoiser import DenoiserSpec

FORMAT = "revstep-bundle"
VERSION = 1
MANIFEST = "manifest.json"
PARITY = "parity.npz"
DECODER = "decoder.onnx"
PICTURE_ENCODER = "picture_encoder.onnx"
OUTPUT = "out"  # of a graph
PICTURE, LATENT = "picture", "latent"  # of a picture encoder's graph
IMAGE = "image"  # of a decoder's, which takes LATENT
PLANS = "engines/"
KERNELS = "kernels/"
COMPILED = (PLANS, KERNELS)  # what compile makes, and makes anew where it is damaged
CUBIN = re.compile(rf"{KERNELS}.*\.(sm_\d+)\.cubin")
ROWS_OF_PARTS = 8  # the most that a plan beside the denoiser's takes: such networks are large
KERNEL_CHOICES = ("auto", "triton", "aot")  # of what runs the step on a GPU
AGAIN = "export it again (revstep export ... --overwrite) or fetch a whole copy"


def bundle_name(path: Path) -> str:
    """What the bundle at ``path`` is called: its folder, without ``.revstep``."""
    return path.stem if path.suffix == ".revstep" else path.name


def encoder_file(name: str, precision: str) -> str:
    """The file of an encoder's graph."""
    return f"encoder.{name}.{precision}.onnx"


def part_keys(spec: DenoiserSpec) -> tuple[str, ...]:
    """What the networks beside a denoiser are called in its bundle."""
    alone = ("decoder", spec.decoder), ("picture_encoder", spec.picture_encoder)
    encoders = (f"encoder.{e.name}" for e in spec.encoders)
    return (*encoders, *(name for name, part in alone if part is not None))


def part_precision(key: str, precision: str) -> str:
    """The precision of a part's graph: encoders have one of each, the others are float32."""
    return precision if key.startswith("encoder.") else "fp32"


def bad_manifest(path: Path, found: str, fix: str = AGAIN) -> BundleError:
    """The error of a bundle at ``path`` whose manifest was ``found`` to be wrong."""
    return BundleError(f"{path / MANIFEST}: {found}; {fix}")


def inside(path: Path, name: str) -> Path:
    """The file of that relative name, refused if it is not inside the bundle."""
    pure = PurePosixPath(name)
    plain = not pure.is_absolute() and ".." not in pure.parts and str(pure) == name
    if not plain or "\\" in name or ":" in name or "\0" in name or name == ".":
        raise bad_manifest(
            path, f"path {name!r} is not a plain relative path inside the bundle", "don't use it"
        )
    where = path / name
    try:
        resolved, root = where.resolve(), path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise BundleError(f"{where} can't be followed: {error}; {AGAIN}") from error
    if not resolved.is_relative_to(root):
        raise BundleError(
            f"{where} is a link to {resolved}, which is outside the bundle; "
            "a bundle holds its files itself: copy it with the links followed (cp -rL)"
        )
    return where


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_damage(where: Path, entry: dict[str, Any], *, verify: bool = True) -> str:
    """How a file differs from its entry in the manifest; empty where it doesn't."""
    if not where.is_file():
        return f"is missing, and {MANIFEST} lists it"
    if (size := where.stat().st_size) != entry["bytes"]:
        how = "cut short" if size < entry["bytes"] else "changed"
        return f"has {size} bytes, expected {entry['bytes']} ({how})"
    if verify and (digest := file_digest(where)) != entry["sha256"]:
        return (
            f"has sha256 {digest[:12]}..., expected {str(entry['sha256'])[:12]}...: "
            "its content was changed"
        )
    return ""


def kernels_command(path: Path, files: Iterable[str] = ()) -> str:
    """The command that makes the bundle's kernels, for the same GPUs as those among its files."""
    found = {match[1] for name in files if (match := CUBIN.fullmatch(name))}
    gpus = ",".join(sorted(found, key=lambda sm: int(sm[3:])))
    return f"revstep compile {path} --kernels{f' --gpu {gpus}' if gpus else ''}"
