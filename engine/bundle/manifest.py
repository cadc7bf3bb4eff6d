"""A bundle's manifest: its fields, its digest, and the check of every file that it lists."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

from revstep.engine.bundle.entry import compiled_entry, maker
from revstep.engine.bundle.layout import (
    AGAIN,
    COMPILED,
    DECODER,
    FORMAT,
    KERNELS,
    MANIFEST,
    PARITY,
    PICTURE_ENCODER,
    PLANS,
    VERSION,
    bad_manifest,
    encoder_file,
    file_damage,
    inside,
    kernels_command,
)
from revstep.engine.errors import BundleError
from revstep.engine.json_types import check_object
from revstep.engine.nearest import unknown
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.precisions import PRECISIONS

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


def manifest_digest(manifest: dict[str, Any]) -> str:
    """sha256 of the manifest's canonical JSON without its ``digest`` field."""
    body = {k: v for k, v in manifest.items() if k != "digest"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


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
            raise BundleError(f"{where} {damage}; {_fix(path, manifest, name)}")
    return files


def _fix(path: Path, manifest: dict[str, Any], name: str) -> str:
    """What makes a damaged file anew: compile or export."""
    if name.startswith(KERNELS):
        return f"make it anew with: {kernels_command(path, manifest['files'])}"
    for value in manifest["engines"] if name.startswith(PLANS) else ():
        if isinstance(value, dict) and value.get("file") == name:
            entry = compiled_entry(path, value, manifest["files"])
            others = (compiled_entry(path, e, manifest["files"]) for e in manifest["engines"])
            return f"make it anew with: {maker(entry, others).command(path)}"
    return AGAIN


def check_parts(
    path: Path, manifest: dict[str, Any], spec: DenoiserSpec, files: dict[str, Any]
) -> None:
    """Refuses a manifest that doesn't list the files that its graphs and its spec need.

    Raises:
        BundleError: What it lacks.
    """
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
    for name, what, part in (
        (DECODER, "decoder", spec.decoder),
        (PICTURE_ENCODER, "picture encoder", spec.picture_encoder),
    ):
        if (name in files) != (part is not None):
            which = f"a {what} file but no {what} in the spec"
            if part is not None:
                which = f"a {what} in the spec but no {name}"
            raise bad_manifest(path, f"has {which}")
    wanted = [encoder_file(e.name, precision) for e in spec.encoders for precision in graphs]
    wanted += [t.file for e in spec.encoders for t in e.tokenizers]
    if missing := [name for name in wanted if name not in files]:
        raise bad_manifest(path, f"has encoders in the spec but no {', '.join(missing)}")
