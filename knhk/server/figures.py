"""Figures for Prometheus: what is counted where it happens, and what is asked for when somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MutexValue, ValueClass

SHARED: Final = ValueClass is not MutexValue
"""Whether several processes of a machine add up their figures, because prometheus_client was told a directory for that."""

MOST_NAMES: Final = 100
"""Values of a label that is named by a program or a specification; further ones are ``other``."""

OTHER: Final = "other"
STATES: Final = ("created", "running", "compensating", "suspended", "completed", "cancelled", "failed", "deadlocked")
"""States that a case may be in, as they are counted."""

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_QUICK: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Figures:
    """
    The figures of one application; no label takes a value that a caller chooses.

    Args:
        instance: what is said of the instance itself.
    """

    def __init__(self, **instance: str) -> None:
        registry = self.registry = CollectorRegistry()
        self._asked = CollectorRegistry()
        self.ask(lambda: [InfoMetricFamily("knhk_instance", "Which instance this is.", value=instance)])
        ProcessCollector(registry=self._asked)
        self.requests = Counter(
            "knhk_requests", "Requests by operation and status.", ["operation", "status"], registry=registry
        )
        self.seconds = Histogram(
            "knhk_request_seconds", "Time to answer.", ["operation"], buckets=_BUCKETS, registry=registry
        )
        self.patterns = Histogram(
            "knhk_pattern_seconds", "Time to run a pattern's net.", ["pattern"], buckets=_BUCKETS, registry=registry
        )
        self.refused = Counter("knhk_refused", "Requests refused, by reason.", ["reason"], registry=registry)
        self.transitions = Counter(
            "knhk_case_transitions", "How often a case came into a state.", ["state"], registry=registry
        )
        for state in STATES:
            # From 0 on: of a series that begins with 1, nobody sees that it grew.
            self.transitions.labels(state)
        self.steps = Counter(
            "knhk_steps", "Steps of the token game, by what became of the task.", ["step"], registry=registry
        )
        self.store_seconds = Histogram(
            "knhk_store_seconds", "Time of a call of the store.", ["operation"], buckets=_QUICK, registry=registry
        )
        self.store_errors = Counter(
            "knhk_store_errors", "Calls of the store that failed.", ["operation", "error"], registry=registry
        )

        self._answers: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def answered(self, operation: str, status: int, seconds: float) -> None:
        """Count an answer; its series are looked up once."""
        series = self._answers.get((operation, status))
        if series is None:
            series = self.requests.labels(operation, str(status)), self.seconds.labels(operation)
            self._answers[operation, status] = series
        count, histogram = series
        count.inc()
        histogram.observe(seconds)

    def ask(self, source: Callable[[], Iterable[Metric]]) -> None:
        """Ask for further figures whenever somebody looks."""
        self._asked.register(_Source(source))

    def text(self) -> bytes:
        """Return all figures in Prometheus's text format; where processes share a directory, what is counted is that of all."""
        counted = self.registry
        if SHARED:
            counted = CollectorRegistry()
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call] # the library's
        return generate_latest(counted) + generate_latest(self._asked)


class _Source:
    """Figures that are counted by somebody else."""

    def __init__(self, source: Callable[[], Iterable[Metric]]) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        """Return them as they are now."""
        return self._source()

    def describe(self) -> Iterable[Metric]:
        """Return nothing: whoever registers it must not have to ask for the figures."""
        return ()


Values = Mapping[tuple[str, ...], float]
"""A number for the values of each series' labels."""


def counted(name: str, text: str, labels: tuple[str, ...], values: Values) -> Metric:
    """Return a counter."""
    family = CounterMetricFamily(name, text, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def measured(name: str, text: str, labels: tuple[str, ...], values: Values) -> Metric:
    """Return a gauge."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def bounded(values: Values, *, most: int = MOST_NAMES) -> dict[tuple[str, ...], float]:
    """Add up the series whose first label is beyond the values that it may have, by name, as ``other``."""
    names = set(sorted({each[0] for each in values})[:most])
    found: dict[tuple[str, ...], float] = {}
    for labels, value in values.items():
        key = labels if labels[0] in names else (OTHER, *labels[1:])
        found[key] = found.get(key, 0) + value
    return found
