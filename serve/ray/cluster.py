"""The Ray cluster that this process draws on, and how many workers fit there."""

from __future__ import annotations

import logging
import os
from typing import Any

from revstep.engine.errors import ArgumentError


def connect(address: str | None) -> None:
    """Connects this process to a cluster, unless it is already.

    Args:
        address: The cluster; None: Ray's own rule: ``RAY_ADDRESS``, one that runs on this machine,
            or else a new one there, which ends with this process.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False  # the caller has one
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised


def workers_that_fit(cpus: float, gpus: float) -> int:
    """How many workers of so many CPUs and GPUs the cluster's nodes take.

    Raises:
        ArgumentError: None: they would be waited for without end.
    """
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return count_workers([node["Resources"] for node in nodes if node["Alive"]], cpus, gpus)


def count_workers(nodes: list[dict[str, float]], cpus: float, gpus: float) -> int:
    """``workers_that_fit``, of nodes with these resources."""
    needs = {name: amount for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount}
    fit = sum(
        min(int(node.get(name, 0.0) // amount) for name, amount in needs.items()) for node in nodes
    )
    if not fit:
        need = " and ".join(f"{amount:g} {name}" for name, amount in needs.items())
        largest = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
        raise ArgumentError(
            f"a worker takes {need}, and no node of the cluster has them (the largest has "
            f"{largest:g} CPU): give fewer threads, or the number of workers where the cluster "
            "starts nodes when they are asked for",
            "workers",
        )
    return fit
