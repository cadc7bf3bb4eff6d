"""Prometheus metrics: what the services say of themselves, read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from revstep.engine.service.service import Service
from revstep.engine.service.stats import ServiceStats, Times

GAUGES = {
    "queue_depth": ("Requests that wait for a slot", "queued"),
    "running_requests": ("Requests that have slots", "running"),
    "waiting_samples": ("Samples that wait for a slot", "samples_waiting"),
    "slots": ("Network rows of the largest call", "slots"),
    "slots_in_use": ("Samples that step", "slots_in_use"),
    "rows_in_use": ("Network rows in use", "rows_in_use"),
    "draining": ("1 while no more requests are taken", "draining"),
}
COUNTERS = {
    "steps": ("Steps", "steps"),
    "network_rows": ("Network rows of all calls", "rows_run"),
    "network_rows_wasted": ("Network rows that were padding", "rows_wasted"),
}
TIMES = {
    "queue_seconds": ("From a request to its first slot", "queued_s"),
    "run_seconds": ("From a request's first slot to its result", "run_s"),
    "step_seconds": ("A step", "step_s"),
    "network_seconds": ("The network in a step, measured now and then", "network_s"),
}
QUANTILES = {"0.5": "p50", "0.9": "p90", "0.99": "p99"}


class ServiceCollector:
    """Collects from services, by model.

    Args:
        services: Gives them by name.
    """

    def __init__(self, services: Callable[[], Mapping[str, Service]]) -> None:
        self._services = services

    def describe(self) -> list[Metric]:
        """Nothing, so that registering asks no service."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        stats = {name: service.stats() for name, service in self._services().items()}
        for name, (text, field) in GAUGES.items():
            yield _plain(GaugeMetricFamily(f"revstep_{name}", text, labels=["model"]), stats, field)
        for name, (text, field) in COUNTERS.items():
            family = CounterMetricFamily(f"revstep_{name}", text, labels=["model"])
            yield _plain(family, stats, field)
        outcomes = CounterMetricFamily(
            "revstep_requests", "Requests by how they ended", labels=["model", "outcome"]
        )
        for model, found in stats.items():
            for outcome, count in found.outcomes.items():
                outcomes.add_metric([model, outcome], count)
        yield outcomes
        for name, (text, field) in TIMES.items():
            metric = Metric(f"revstep_{name}", text, "summary")
            for model, found in stats.items():
                _add_summary(metric, model, getattr(found, field))
            yield metric


def _plain(family: Any, stats: Mapping[str, ServiceStats], field: str) -> Metric:
    for model, found in stats.items():
        family.add_metric([model], float(getattr(found, field)))
    result: Metric = family
    return result


def _add_summary(metric: Metric, model: str, times: Times) -> None:
    for quantile, field in QUANTILES.items():
        if (value := getattr(times, field)) is not None:
            metric.add_sample(metric.name, {"model": model, "quantile": quantile}, value)
    metric.add_sample(f"{metric.name}_count", {"model": model}, times.count)
    metric.add_sample(f"{metric.name}_sum", {"model": model}, times.total)


def metrics_text(services: Callable[[], Mapping[str, Service]]) -> Callable[[], bytes]:
    """What gives the metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(ServiceCollector(services))
    return lambda: generate_latest(registry)
