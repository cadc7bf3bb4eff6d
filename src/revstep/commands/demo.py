"""``revstep demo``: the bundled denoiser from PyTorch to pictures and latencies."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from revstep.commands.bench.table import latency_table, machine_line, notes
from revstep.commands.choices import choice_line
from revstep.commands.errors import report_errors
from revstep.commands.extras import need
from revstep.commands.output import Bars, counter, out, print_json, progress_bars
from revstep.commands.pictures import save_picture
from revstep.commands.shared_options import AsJson, Threads
from revstep.engine.runtime.samples import sheet_of

if TYPE_CHECKING:
    from revstep.engine.bundle.entry import CompiledEntry
    from revstep.engine.engine import Engine
    from revstep.engine.spec.denoiser import Condition


MODEL = Path("examples") / "fashion_mnist_unet"
SEED = 0
LATENCY_BATCHES = (1, 16)
CHOICE_SECONDS = 8.0  # of timing, to choose what runs


@dataclass(frozen=True, slots=True)
class Picture:
    """One grid of the demo: ``each`` samples of every class, one class per row."""

    sampler: str
    steps: int
    guidance: float
    each: int

    @property
    def name(self) -> str:
        """``ddim-20 guidance 1.5``."""
        return f"{self.sampler}-{self.steps} guidance {self.guidance:g}"

    @property
    def file(self) -> str:
        """``ddim20_guidance1.5.png``."""
        return f"{self.sampler}{self.steps}_guidance{self.guidance:g}.png"


PICTURES = (Picture("ddim", 20, 1.5, 10), Picture("ddpm", 250, 1.0, 4))


@report_errors
def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The folder to write; made if missing.")
    ] = Path("demo-output"),
    model: Annotated[
        Path | None,
        typer.Option(
            help="A class-conditional diffusers UNet2DModel folder; default: "
            "examples/fashion_mnist_unet of a checkout."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="Seconds of latency measurement per batch size.", min=0.1)
    ] = 15.0,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole way once: PyTorch module, ONNX, compiled bundle, pictures, latencies."""
    begun = time.perf_counter()
    folder = _model_folder(model)
    need("torch", "onnx", "onnxscript", "diffusers", purpose="the demo's export")
    need("onnxruntime", purpose="the demo's runtime")
    need("PIL", purpose="writing pictures")
    output.mkdir(parents=True, exist_ok=True)
    bundle = output / f"{folder.name}.revstep"

    files: list[Path] = []
    with progress_bars() as bars:
        entries = _build(folder, bundle, threads, min(seconds, CHOICE_SECONDS), bars)
        import revstep

        engine = revstep.load(bundle, threads=threads)
        labels = _class_labels(engine, folder)
        for picture in PICTURES:
            files.append(output / picture.file)
            _draw(engine, labels, picture, files[-1], bars)
        rows = _measure(bundle, engine, seconds, bars)
    elapsed = time.perf_counter() - begun

    from revstep.bench.machine import machine_info

    machine = machine_info()
    if as_json:
        result: dict[str, Any] = {"bundle": bundle, "pictures": files, "seconds": elapsed}
        result["compiled"] = [entry.to_dict() for entry in entries]
        print_json({**result, "machine": machine, "engine": engine.describe(), "latency": rows})
        return
    for entry in entries:
        typer.echo(choice_line(entry))
    out().print(latency_table(rows))
    for line in notes(rows):
        typer.echo(line)
    typer.echo(machine_line(machine))
    for picture, file in zip(PICTURES, files, strict=True):
        typer.echo(f"{file}: {picture.name}, {picture.each} per class, one class per row")
    typer.echo(f"{bundle}: the bundle; try: revstep info {bundle}")
    typer.echo(f"done in {elapsed:.0f} s", err=True)


def _model_folder(model: Path | None) -> Path:
    folder = MODEL if model is None else model
    if (folder / "unet").is_dir() or (folder / "config.json").is_file():
        return folder.resolve()
    if model is not None:
        raise FileNotFoundError(
            f"{str(model)!r} is no diffusers UNet2DModel folder (unet/, scheduler/)"
        )
    raise FileNotFoundError(
        f"the demo's denoiser is not here: {str(MODEL)!r} lies in a checkout of revstep, not in "
        "the installed package. Run `revstep demo` in a checkout's root (or `make demo`), or give "
        "another class-conditional denoiser: revstep demo --model DIR"
    )


def _build(
    folder: Path, bundle: Path, threads: int | None, seconds: float, bars: Bars
) -> tuple[CompiledEntry, ...]:
    """Exports the model and measures it for this processor."""
    report = bars.bar("Export")
    report("loading PyTorch", 0, 0)
    from revstep.export import compile_bundle, export_diffusers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about its internals
        export_diffusers(
            folder, bundle, null_class=_last_class(folder), overwrite=True, progress=report
        )
    return compile_bundle(
        bundle,
        target="cpu",
        threads=threads,
        batch=[2 * batch for batch in LATENCY_BATCHES],  # guidance takes two rows a sample
        seconds=seconds,
        progress=bars.bar("Compile"),
    )


def _last_class(folder: Path) -> int | None:
    """The null class by custom, the last one; None for a model without classes."""
    inside = folder / "unet" / "config.json"
    text = (inside if inside.is_file() else folder / "config.json").read_text(encoding="utf-8")
    classes = json.loads(text).get("num_class_embeds")
    return classes - 1 if isinstance(classes, int) else None


def _class_labels(engine: Engine, folder: Path) -> Condition:
    for condition in engine.spec.conditions:
        if condition.classes is not None and condition.null is not None:
            return condition
    raise ValueError(
        f"the demo needs class labels with a null class, for guidance; {folder} has none. Use "
        "revstep export, compile and sample for it"
    )


def _draw(engine: Engine, labels: Condition, picture: Picture, file: Path, bars: Bars) -> None:
    assert labels.classes is not None
    classes = [i for i in range(labels.classes) if i != labels.null]
    samples = engine.sample(
        len(classes) * picture.each,
        sampler=picture.sampler,
        steps=picture.steps,
        seed=SEED,
        guidance=picture.guidance,
        conditions={labels.name: np.repeat(np.asarray(classes, np.int64), picture.each)},
        progress=counter(bars.bar(picture.name)),
    )
    save_picture(file, sheet_of(samples.pil(), picture.each))


def _measure(bundle: Path, engine: Engine, seconds: float, bars: Bars) -> list[dict[str, Any]]:
    from revstep.bench.measure.cell import Cell, grid
    from revstep.bench.measure.measure import measure_cell
    from revstep.bench.measure.rounds import Budget
    from revstep.engine.bundle.reader import Bundle

    first, opened = PICTURES[0], Bundle.open(bundle, verify=False)
    base = Cell(sampler=first.sampler, steps=first.steps, guidance=first.guidance)
    return [
        measure_cell(
            opened,
            cell,
            engine,
            Budget(seconds=seconds),
            progress=counter(bars.bar(f"latency, batch {cell.batch}")),
        ).figures
        for cell in grid(base, batch=LATENCY_BATCHES)
    ]
