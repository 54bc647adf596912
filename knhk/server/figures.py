"""Figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Figures:
    """
    The counters of one application; no label takes a value that a caller chooses.

    Args:
        instance: what is said of the instance itself.
    """

    def __init__(self, **instance: str) -> None:
        self.registry = CollectorRegistry()
        Info("knhk_instance", "Which instance this is.", registry=self.registry).info(instance)
        self.requests = Counter(
            "knhk_requests", "Requests by operation and status.", ["operation", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "knhk_request_seconds", "Time to answer.", ["operation"], buckets=_BUCKETS, registry=self.registry
        )
        self.patterns = Histogram(
            "knhk_pattern_seconds",
            "Time to run a pattern's net.",
            ["pattern"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.refused = Counter("knhk_refused", "Requests refused, by reason.", ["reason"], registry=self.registry)

    def ask(self, source: Callable[[], Iterable[Metric]]) -> None:
        """Ask for further figures whenever somebody looks."""
        self.registry.register(_Source(source))

    def text(self) -> bytes:
        """Return all figures in Prometheus's text format."""
        return generate_latest(self.registry)


class _Source:
    """Figures that are there already, and counted by somebody else."""

    def __init__(self, source: Callable[[], Iterable[Metric]]) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        """Return them as they are now."""
        return self._source()

    def describe(self) -> Iterable[Metric]:
        """Return nothing: whoever registers it must not have to ask for the figures."""
        return ()


def counted(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return a counter with a value for each value of its label."""
    family = CounterMetricFamily(name, text, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family
