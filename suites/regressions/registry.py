"""The groups, in the order in which they are measured: what takes long comes last."""

from __future__ import annotations

from suites.regressions import (
    dependencies,
    gpu_kernels,
    install_size,
    loop_calls,
    loop_tensors,
    modules,
    native_step,
    sample_call,
    wheel,
)
from suites.regressions.figure import Group

GROUPS: dict[str, Group] = {
    group.name: group
    for group in (
        modules.GROUP,
        loop_calls.GROUP,
        wheel.GROUP,
        dependencies.GROUP,
        install_size.GROUP,
        loop_tensors.GROUP,
        native_step.GROUP,
        sample_call.GROUP,
        gpu_kernels.GROUP,
    )
}
