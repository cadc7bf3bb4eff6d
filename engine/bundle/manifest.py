"""A bundle's manifest: its fields, its digest, and the check of every file that it lists."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from revstep.engine.errors import BundleError
from revstep.engine.json_types import check_object
from revstep.engine.nearest import unknown
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.fields import fields_from

__all__ = ["CompiledEntry", "file_digest", "manifest_digest", "read_manifest"]

FORMAT = "revstep-bundle"
VERSION = 1
MANIFEST = "manifest.json"
PARITY = "parity.npz"
DECODER = "decoder.onnx"
PLANS = "engines/"
KERNELS = "kernels/"
COMPILED = (PLANS, KERNELS)  # what compile makes, and makes anew where it is damaged
PRECISIONS = ("fp32", "fp16", "bf16")
KINDS: dict[str, Any] = {
    "format": str,
    "version": int,
    "revstep": str,
    "spec": dict,
    "provenance": dict,
    "files": dict[str, dict[str, Any]],
    "graphs": dict[str, str],
    "parity": dict,
    "engines": tuple[dict[str, Any], ...],
    "digest": str,
}
FIELDS = tuple(KINDS)
PARTS: dict[str, dict[str, Any]] = {  # what is read of them; they may hold more
    "provenance": {
        "tools": dict[str, str],
        "opset": int,
        "parameters": int,
        "source": dict[str, str | None] | None,
        "created": str,
    },
    "parity": {"bounds": dict[str, dict[str, float]], "figures": dict[str, dict[str, Any]]},
}
SHA256 = re.compile(r"[0-9a-f]{64}")
CUBIN = re.compile(rf"{KERNELS}.*\.(sm_\d+)\.cubin")
CHUNK = 1 << 20
AGAIN = "export it again (revstep export ... --overwrite) or fetch a whole copy"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CompiledEntry:
    """One compiled form of a bundle's network, checked against the reference.

    Attributes:
        key: Hash of the graph's sha256, runtime, version, device, precision, batch and options.
        target: What ``revstep compile --target`` named.
        precision: The graph it was made from.
        runtime: The library that runs it.
        version: That library's version.
        device: The device it was made for: ``cpu``, a GPU's name and compute capability
            (``NVIDIA L4 (sm_89)``), or compute capabilities alone (``sm_86,sm_89``).
        batch: (least, most) rows a call.
        tuned: The rows that it was tuned for, or None where the runtime has no such thing.
        file: Path in the bundle, or None where the runtime needs none (ONNX Runtime).
        parity: Error and bound of each check, or the text ``not checked on this machine``.
    """

    key: str
    target: str
    precision: str
    runtime: str
    version: str
    device: str
    batch: tuple[int, int]
    file: str | None
    parity: dict[str, Any] | str
    tuned: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The entry as plain JSON values."""
        return {**dataclasses.asdict(self), "batch": list(self.batch)}

    def command(self, path: Path) -> str:
        """The command that makes this entry anew in the bundle at ``path``."""
        text = f"revstep compile {path} --target {self.target} --precision {self.precision}"
        if self.tuned is None:
            return text
        least, most = self.batch
        rows = f"--batch {most}" if least == most else f"--dynamic {least}:{self.tuned}:{most}"
        gpu = "" if " " in self.device else f" --gpu {self.device}"
        return f"{text} {rows}{gpu}"


def manifest_digest(manifest: dict[str, Any]) -> str:
    """sha256 of the manifest's canonical JSON without its ``digest`` field."""
    body = {k: v for k, v in manifest.items() if k != "digest"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def bad_manifest(path: Path, found: str, mend: str = AGAIN) -> BundleError:
    return BundleError(f"{path / MANIFEST}: {found}; {mend}")


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no finite number")
    return value


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a bundle's directory, its fields and digest checked."""
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
        raise BundleError(
            f"{path} {found}; a bundle is a directory with a {MANIFEST}: "
            "make one with revstep export ... -o name.revstep"
        )
    where = inside(path, MANIFEST)
    try:
        manifest = json.loads(
            where.read_text("utf-8"), parse_constant=_no_constant, parse_float=_finite
        )
    except FileNotFoundError:
        raise BundleError(
            f"{path} has no {MANIFEST}, so it is no bundle; "
            "make one with revstep export ... -o name.revstep"
        ) from None
    except (ValueError, RecursionError, OSError) as error:
        raise bad_manifest(path, f"can't be read as JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        form = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise bad_manifest(path, f"format is {form!r}, expected {FORMAT!r}")
    version = manifest.get("version")
    if version != VERSION or isinstance(version, bool):
        raise bad_manifest(
            path,
            f"bundle version is {version!r}, this revstep reads version {VERSION}",
            "use the revstep that wrote it, or export it again with this one",
        )
    _check_fields(path, manifest)
    return manifest


def _check_fields(path: Path, manifest: dict[str, Any]) -> None:
    if unknown := sorted(set(manifest) - set(FIELDS)):
        raise bad_manifest(
            path,
            f"unknown field {', '.join(map(repr, unknown))}, allowed: {', '.join(FIELDS)}",
            "use the revstep that wrote it, or export it again with this one",
        )
    if missing := [name for name in FIELDS if name not in manifest]:
        raise bad_manifest(path, f"lacks the field {', '.join(map(repr, missing))}")
    try:
        check_object(manifest, KINDS, "the manifest")
        for name, kinds in PARTS.items():
            check_object(manifest[name], kinds, name)
    except TypeError as error:
        raise bad_manifest(path, str(error)) from error
    if (digest := manifest_digest(manifest)) != manifest["digest"]:
        raise bad_manifest(
            path,
            f"its content has digest {digest[:12]}..., expected {manifest['digest'][:12]}...: "
            "it was damaged or edited",
        )


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


def checked_files(
    path: Path, manifest: dict[str, Any], *, verify: bool, compiled: bool = True
) -> dict[str, Any]:
    """The manifest's files, each there and (``verify``) unchanged.

    Without ``compiled``, those that compile makes are not looked at.
    """
    files: dict[str, Any] = manifest["files"]
    for name, entry in files.items():
        if set(entry) != {"sha256", "bytes"}:
            raise bad_manifest(path, f"files[{name!r}] must have exactly 'sha256' and 'bytes'")
        where = inside(path, name)
        size, digest = entry["bytes"], entry["sha256"]
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise bad_manifest(path, f"files[{name!r}]'s bytes must be a size; got {size!r:.60}")
        if not isinstance(digest, str) or not SHA256.fullmatch(digest):
            raise bad_manifest(
                path, f"files[{name!r}]'s sha256 must be 64 hexadecimal digits; got {digest!r:.60}"
            )
        if not compiled and name.startswith(COMPILED):
            continue
        if damage := file_damage(where, entry, verify=verify):
            raise BundleError(f"{where} {damage}; {_mend(path, manifest, name)}")
    return files


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


def _mend(path: Path, manifest: dict[str, Any], name: str) -> str:
    """What makes a damaged file anew: compile or export."""
    if name.startswith(KERNELS):
        return f"make it anew with: {kernels_command(path, manifest['files'])}"
    for value in manifest["engines"] if name.startswith(PLANS) else ():
        if isinstance(value, dict) and value.get("file") == name:
            entry = compiled_entry(path, value, manifest["files"])
            return f"make it anew with: {entry.command(path)}"
    return AGAIN


def check_parts(
    path: Path, manifest: dict[str, Any], spec: DenoiserSpec, files: dict[str, Any]
) -> None:
    graphs = manifest["graphs"]
    if not graphs:
        raise bad_manifest(path, "graphs lists no graph")
    for precision, name in graphs.items():
        if precision not in PRECISIONS:
            raise bad_manifest(path, f"graphs: {unknown('precision', precision, PRECISIONS)}")
        if name not in files:
            what = f"graphs has for {precision} {name!r}"
            raise bad_manifest(path, f"{what}, which is not in 'files'")
    if PARITY not in files:
        raise bad_manifest(path, f"{PARITY!r} is not in 'files'")
    if (DECODER in files) != (spec.decoder is not None):
        which = "a decoder file but no decoder in the spec"
        if spec.decoder is not None:
            which = f"a decoder in the spec but no {DECODER}"
        raise bad_manifest(path, f"has {which}")


def compiled_entry(path: Path, value: object, files: dict[str, Any]) -> CompiledEntry:
    what = "an entry of 'engines'"
    try:
        fields = fields_from(CompiledEntry, value, what)
    except (TypeError, ValueError) as error:
        raise bad_manifest(path, str(error)) from error
    entry = CompiledEntry(**{**fields, "batch": tuple(fields["batch"])})
    least, most = entry.batch
    if not 1 <= least <= most:
        raise bad_manifest(path, f"{what} has batch {least} to {most}; it rises from at least 1")
    if entry.tuned is not None and not least <= entry.tuned <= most:
        raise bad_manifest(path, f"{what} has tuned {entry.tuned}; it lies in {least} to {most}")
    if entry.precision not in PRECISIONS:
        raise bad_manifest(path, f"{what}: {unknown('precision', entry.precision, PRECISIONS)}")
    if entry.file is not None and entry.file not in files:
        raise bad_manifest(path, f"{what} has the file {entry.file!r}, which is not in 'files'")
    return entry
