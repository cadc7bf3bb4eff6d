"""Reading a bundle: the directory that holds an exported denoiser, its reference and its plans.

Nothing is trusted: the manifest carries its own digest, every listed file its sha256; unknown
fields and versions, paths that leave the directory, and pickles are refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.bundle.entry import CompiledEntry, compiled_entry
from revstep.engine.bundle.layout import (
    AGAIN,
    DECODER,
    LATENT,
    PARITY,
    PICTURE,
    PICTURE_ENCODER,
    bad_manifest,
    encoder_file,
    part_keys,
)
from revstep.engine.bundle.manifest import check_parts, checked_files, read_manifest
from revstep.engine.errors import BundleError
from revstep.engine.nearest import unknown
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.precisions import PRECISIONS

BY_SPEC = "by the spec's shape, learned_variance, conditions, encoders and decoder"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        path: The bundle's directory.
        spec: The denoiser's description.
        manifest: The manifest, as JSON values.
        compiled: The compiled forms of the denoiser that the manifest lists.
        compiled_parts: Those of the networks beside it.
    """

    path: Path
    spec: DenoiserSpec
    manifest: dict[str, Any] = dataclasses.field(repr=False)
    compiled: tuple[CompiledEntry, ...]
    compiled_parts: tuple[CompiledEntry, ...] = ()

    @classmethod
    def open(cls, path: str | Path, verify: bool = True, *, compiled: bool = True) -> Bundle:
        """The bundle in a directory.

        Args:
            path: The bundle's directory.
            verify: Compare every file's sha256; False checks names and sizes only.
            compiled: Check what compile made too; False lets a damaged part be compiled anew.

        Raises:
            BundleError: No bundle, another version, or a damaged one; the message names the file,
                what was found, what was expected, and how to fix it.
        """
        path = Path(path)
        manifest = read_manifest(path)
        try:
            spec = DenoiserSpec.from_dict(manifest["spec"])
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise bad_manifest(path, f"field 'spec' is not a denoiser's spec: {error}") from error
        files = checked_files(path, manifest, verify=verify, compiled=compiled)
        check_parts(path, manifest, spec, files)
        entries = tuple(compiled_entry(path, value, files) for value in manifest["engines"])
        keys = part_keys(spec)
        for part in (e.part for e in entries if e.part is not None and e.part not in keys):
            raise bad_manifest(path, f"an entry of 'engines' is of {part!r}, which the spec lacks")
        own = tuple(e for e in entries if e.part is None)
        return cls(path, spec, manifest, own, tuple(e for e in entries if e.part is not None))

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that have a graph."""
        return tuple(self.manifest["graphs"])

    def graph(self, precision: str) -> Path:
        """The ONNX file of a precision.

        Raises:
            BundleError: There is none; the message names the command that adds it.
        """
        graphs = self.manifest["graphs"]
        if precision not in PRECISIONS:
            raise BundleError(unknown("precision", precision, PRECISIONS))
        if precision not in graphs:
            wanted = ",".join(p for p in PRECISIONS if p in graphs or p == precision)
            raise BundleError(
                f"{self.path} holds no {precision} graph, only {', '.join(graphs)}; add it with: "
                f"{self._export_command()} --precision {wanted} --overwrite"
            )
        return self.path / str(graphs[precision])

    def decoder(self) -> Path | None:
        """The decoder's ONNX file, or None."""
        return self.path / DECODER if DECODER in self.manifest["files"] else None

    def picture_encoder(self) -> Path | None:
        """The picture encoder's ONNX file, or None."""
        has = PICTURE_ENCODER in self.manifest["files"]
        return self.path / PICTURE_ENCODER if has else None

    def encoder(self, name: str, precision: str) -> Path:
        """The ONNX file of an encoder in a precision that the bundle has.

        Raises:
            BundleError: There is none of that precision, as of ``graph``.
        """
        self.graph(precision)
        return self.path / encoder_file(name, precision)

    def part_graph(self, key: str, precision: str) -> Path:
        """The ONNX file of a network beside the denoiser: ``encoder.<name>``, ``decoder``, ...

        Encoders have one a precision; the others are fp32.

        Raises:
            BundleError: As ``encoder``.
        """
        kind, _, name = key.partition(".")
        return self.encoder(name, precision) if kind == "encoder" else self.path / f"{key}.onnx"

    def parity(self) -> dict[str, NDArray[Any]]:
        """The reference vectors: ``x``, ``t``, ``out``, ``cond.*``, ``ddim20.*``, ``decoder.out``.

        Bundles of today's export have ``edge.x``, ``edge.t``, ``edge.out`` and ``edge.cond.*`` too;
        those of networks of two times ``second`` and ``edge.second``; with encoders
        ``encoder.<name>.in.<input>`` and ``encoder.<name>.out.<condition>``, and with a picture
        encoder ``picture_encoder.in.picture`` and ``picture_encoder.out.latent``.

        Raises:
            BundleError: Not a plain npz (a pickle, say), or arrays that don't fit the spec.
        """
        import zipfile  # milliseconds, which an import of revstep need not take

        where = self.path / PARITY
        try:
            with np.load(where, allow_pickle=False) as archive:
                arrays = {name: np.asarray(archive[name]) for name in archive.files}
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
            raise BundleError(
                f"{where} can't be read as arrays: {error}; a bundle holds plain arrays, "
                f"never pickles; {AGAIN}"
            ) from error
        _check_parity(where, arrays, self.spec)
        return arrays

    def _export_command(self) -> str:
        source = self.manifest["provenance"].get("source")
        where = "..."
        match source:
            case {"kind": "factory", "name": str(name)}:
                where = name
                if isinstance(output := source.get("output"), str):
                    where += f" --module-output {output}"
            case {"kind": "diffusers"}:  # its path is not kept: bundles travel
                nulls = [c.null for c in self.spec.conditions if c.null is not None]
                where = " ".join(["--diffusers DIR", *(f"--null-class {null}" for null in nulls)])
            case {"kind": "onnx", "name": str(name)}:  # nor is that of a file, or of its spec
                where = f"--onnx {name} --spec spec.toml"
        return f"revstep export {where} -o {self.path}"


def _parity_shapes(
    spec: DenoiserSpec, edges: bool
) -> Iterator[tuple[str, str, tuple[int, ...], str]]:
    """(name, array that shares its rows, row shape, dtype) of every array."""
    for part in ("", "edge.") if edges else ("",):
        yield f"{part}x", f"{part}x", spec.shape, "float32"
        yield f"{part}t", f"{part}x", (), "float32"
        if spec.second_time is not None:
            yield f"{part}second", f"{part}x", (), "float32"
        yield f"{part}out", f"{part}x", spec.output_shape, "float32"
        for c in spec.conditions:
            yield f"{part}cond.{c.name}", f"{part}x", c.shape, c.interface
    yield "ddim20.final", "ddim20.final", spec.shape, "float32"
    if spec.decoder is not None:
        yield "decoder.out", "ddim20.final", spec.decoder.shape, "float32"
    if spec.picture_encoder is not None:
        pictures = spec.picture_encoder.shape
        first = f"picture_encoder.in.{PICTURE}"
        yield first, first, pictures, "float32"
        yield f"picture_encoder.out.{LATENT}", first, spec.shape, "float32"
    given = {c.name: c for c in spec.conditions}
    for e in spec.encoders:
        first = f"encoder.{e.name}.in.{e.inputs[0].name}"
        for c in e.inputs:
            yield f"encoder.{e.name}.in.{c.name}", first, c.shape, c.interface
        for name in e.conditions:
            out = given[name]
            yield f"encoder.{e.name}.out.{name}", first, out.shape, out.interface
    for c in spec.conditions:
        yield f"ddim20.cond.{c.name}", "ddim20.final", c.shape, c.interface


def _check_parity(where: Path, arrays: dict[str, NDArray[Any]], spec: DenoiserSpec) -> None:
    edges = any(name.startswith("edge.") for name in arrays)
    expected = {row[0]: row[1:] for row in _parity_shapes(spec, edges)}
    if set(arrays) != {*expected, "ddim20.seed"}:
        raise BundleError(
            f"{where} holds {', '.join(sorted(arrays))}; expected "
            f"{', '.join(sorted({*expected, 'ddim20.seed'}))}, {BY_SPEC}; {AGAIN}"
        )
    for name, (owner, shape, dtype) in expected.items():
        value, rows = arrays[name], arrays[owner].shape[:1]
        if value.dtype != dtype or value.shape != (*rows, *shape) or not rows:
            raise BundleError(
                f"{where}: {name} is {value.dtype} {value.shape}, "
                f"expected {dtype} {(*rows, *shape)}, {BY_SPEC}; {AGAIN}"
            )
        if value.dtype.kind == "f" and not np.all(np.isfinite(value)):
            raise BundleError(f"{where}: {name} holds NaN or infinity; {AGAIN}")
    seed = arrays["ddim20.seed"]
    if seed.dtype != np.uint64 or seed.shape != ():
        raise BundleError(f"{where}: ddim20.seed is {seed.dtype} {seed.shape}, expected one uint64")
