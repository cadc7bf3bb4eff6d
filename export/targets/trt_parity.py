"""Plans on this machine's GPU against the bundle's reference: each network, and the whole way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from revstep.engine.backends.part import PartGraph
from revstep.engine.backends.trt.choice import keep_kernels
from revstep.engine.backends.trt.denoiser import TrtDenoiser
from revstep.engine.backends.trt.library import TrtLibrary
from revstep.engine.backends.trt.part import TrtPart
from revstep.engine.backends.trt.plan import TrtPlan, on_device
from revstep.engine.bundle.entry import CompiledEntry
from revstep.engine.bundle.reader import Bundle
from revstep.export.module.part import Part
from revstep.export.parity.bounds import Bounds, resolve_bounds
from revstep.export.parity.check import check_parity
from revstep.export.parity.host_denoiser import HostDenoiser
from revstep.export.parity.parts import encoded_parity
from revstep.export.targets.parts import encoder_runs, part_figures

UserBounds = Bounds | Mapping[str, float] | None


def checked_plans(
    bundle: Bundle,
    entries: Sequence[CompiledEntry],
    plans: Mapping[str, bytes],
    bounds: UserBounds,
    library: TrtLibrary,
    device: str = "cuda",
) -> list[CompiledEntry]:
    """The entries with their figures; the denoiser's, which is the first, has those of all.

    Args:
        bundle: The bundle.
        entries: The denoiser's, and those of all networks beside it.
        plans: File -> plan, of those that are not in the bundle yet.
        bounds: As the user gave them.
        library: The TensorRT that built them.
        device: The torch device.

    Raises:
        BackendError: A plan doesn't run here.
        ParityError: NaN, infinity, or an error above its bound.
    """
    first, *others = entries
    parity, precision = bundle.parity(), first.precision
    parts = {
        e.part: TrtPart(_opened(bundle, e, plans, library, device), _who(e), device=device)
        for e in others
    }

    def opened(part: Part) -> PartGraph:
        return parts[part.key]

    runs = encoder_runs(bundle, precision, opened=opened)
    found = part_figures(bundle, parity, precision, runs, opened=opened, bounds=bounds)
    whole = encoded_parity(parity, bundle.spec, runs)
    denoiser = TrtDenoiser(
        (_opened(bundle, first, plans, library, device),), bundle.spec, device=device
    )
    limit = resolve_bounds(precision, bounds, bundle.manifest)
    figures = check_parity(HostDenoiser(denoiser), whole, precision, limit)
    networks: list[TrtDenoiser | TrtPart] = [denoiser, *parts.values()]
    for network in networks:
        keep_kernels(network)  # those that the check's runs compiled
    return [
        dataclasses.replace(first, parity={**figures, **found}),
        *(dataclasses.replace(e, parity={"forward": found[str(e.part)]}) for e in others),
    ]


def _opened(
    bundle: Bundle,
    entry: CompiledEntry,
    plans: Mapping[str, bytes],
    library: TrtLibrary,
    device: str,
) -> TrtPlan:
    file = str(entry.file)
    data = plans[file] if file in plans else (bundle.path / file).read_bytes()
    with on_device(device):
        return TrtPlan(data, library, label=f"{entry.key}.plan", command=entry.command(bundle.path))


def _who(entry: CompiledEntry) -> str:
    return f"the plan of the bundle's {entry.part}"
