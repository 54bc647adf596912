"""Metrics of cases: what their specifications declare to be counted, and what an engine counts of its own work.

What is counted is what is in the store: a value is worked out when its event is written, and counts when that is committed.
Figures are of this process and begin with it; whoever reads them again and again (Prometheus) adds them up.
A value that cannot be worked out is left out, counted in `Metrics.errors`, and told to the log once: a case never fails of it.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import attrs

from knhk._case_state import CaseState
from knhk._compiled import Compiled
from knhk.case import Case
from knhk.errors import DataError
from knhk.events import EventKind
from knhk.expr import Dialect, Expression, compile_expression
from knhk.history import tell
from knhk.ports import CaseHeader
from knhk.spec import Metric, MetricKind
from knhk.work.outbox import state_before

_LOG: Final = logging.getLogger("knhk.metrics")

OTHER: Final = "other"
"""What a label says whose value is beyond those that it may have."""

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The buckets of a histogram that says nothing of it, as Prometheus has them."""

LONGEST_LABEL: Final = 100
"""Characters of a label's value; what is longer is cut."""

Key = tuple[str, str]
"""The id and the version of a specification."""


@attrs.frozen(kw_only=True)
class Distribution:
    """
    What a histogram knows.

    Args:
        count, total: how many values there were, and their sum.
        buckets: by upper bound, how many were not above it.
    """

    count: int
    total: float
    buckets: Mapping[float, int]


@attrs.frozen(kw_only=True)
class MetricReading:
    """
    A metric as it is now.

    Args:
        spec_id: the specification that declares it.
        name, kind, help: as declared.
        labels: the names of its labels.
        bounds: of a histogram, the upper bounds of its buckets.
        series: by the values of the labels: a number, or for a histogram a distribution.
    """

    spec_id: str
    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]
    series: Mapping[tuple[str, ...], float | Distribution]


class _Family:
    """The series of a metric, over all versions of its specification that declare it alike."""

    def __init__(self, spec_id: str, metric: Metric) -> None:
        self.spec_id = spec_id
        self.metric = metric
        self.labels = tuple(metric.labels or ())
        self.known: tuple[dict[str, None], ...] = tuple({} for _ in self.labels)
        self.bounds = metric.buckets or BUCKETS
        self.numbers: dict[tuple[str, ...], float] = {}
        self.counts: dict[tuple[str, ...], list[int]] = {}

    def add(self, value: float, labels: Sequence[str]) -> None:
        """Count a value; the caller has the lock."""
        most = [each.maximum for each in (self.metric.labels or {}).values()]
        series = tuple(map(_bounded, labels, self.known, most))
        if self.metric.kind is MetricKind.GAUGE:
            self.numbers[series] = value
            return
        self.numbers[series] = self.numbers.get(series, 0.0) + value
        if self.metric.kind is MetricKind.HISTOGRAM:
            counts = self.counts.setdefault(series, [0] * (len(self.bounds) + 1))
            counts[bisect_left(self.bounds, value)] += 1

    def read(self) -> MetricReading:
        """Return it as it is; the caller has the lock."""
        series: dict[tuple[str, ...], float | Distribution] = dict(self.numbers)
        for labels, counts in self.counts.items():
            below = list(accumulate(counts))
            buckets = dict(zip((*self.bounds, math.inf), below, strict=True))
            series[labels] = Distribution(count=below[-1], total=self.numbers[labels], buckets=buckets)
        metric = self.metric
        return MetricReading(
            spec_id=self.spec_id,
            name=metric.name,
            kind=metric.kind.value,
            help=metric.help,
            labels=self.labels,
            bounds=self.bounds if metric.kind is MetricKind.HISTOGRAM else (),
            series=series,
        )


def _bounded(value: str, known: dict[str, None], most: int) -> str:
    if value not in known:
        if len(known) >= most:
            return OTHER
        known[value] = None
    return value


@attrs.frozen(eq=False)
class _Declared:
    """A metric of a specification, compiled."""

    family: _Family
    value: Expression | None
    labels: tuple[Expression, ...]


@attrs.define(eq=False)
class Observed:
    """
    What is known of a case that is counted.

    Args:
        version: of the case, to which `state` belongs.
        state: the case after that commit, from which the next one's events are told.
        undecided: OR-joins that wait because their search met its budget.
        waiting: what counts when the commit is in the store.
    """

    version: int = -1
    state: CaseState | None = None
    undecided: int = 0
    waiting: list[Callable[[], None]] = attrs.field(factory=list)

    def settle(self) -> None:
        """The commit is in the store: count."""
        for count in self.waiting:
            count()
        self.waiting.clear()


class Metrics:
    """
    The metrics of an engine; `knhk.Engine.metrics`.

    Args:
        dialect: the language of expressions.
        measured: whether the engine's own work is counted too.

    Attributes:
        attempts: where that is so, the attempts of handlers by (handler, outcome): ``completed``, ``retried``, ``failed`` or
            ``handed_back``; the handler of a task that calls a service is ``http``.
        undecided: likewise, how often an OR-join met its budget.
        errors: values that could not be worked out.
    """

    def __init__(self, dialect: Dialect = "subset", *, measured: bool = False) -> None:
        self.measured = measured
        self.active = measured
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.undecided = 0
        self.errors = 0
        self._dialect: Dialect = dialect
        self._declared: dict[Key, dict[str, list[_Declared]]] = {}
        self._families: dict[tuple[str, str], _Family] = {}
        self._told: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def read(self) -> list[MetricReading]:
        """Return what was counted of the metrics that specifications declare."""
        with self._lock:
            return [each.read() for each in self._families.values()]

    # --- what the engine tells ----------------------------------------------------------------------------------------

    def know(self, compiled: Compiled) -> None:
        """Count what a specification declares, from now on."""
        specification = compiled.program.specification
        key = (specification.id, specification.version)
        if not specification.metrics or key in self._declared:
            return
        events: dict[str, list[_Declared]] = {}
        with self._lock:
            for metric in specification.metrics:
                value = None if metric.value is None else self._compiled(metric.value)
                labels = tuple(self._compiled(each.value) for each in (metric.labels or {}).values())
                family = self._family(specification.id, metric)
                events.setdefault(metric.on, []).append(_Declared(family, value, labels))
            self._declared[key] = events
            self.active = True

    def created(self, header: CaseHeader, data: Mapping[str, Any]) -> list[Callable[[], None]]:
        """Return what counts once the creation of a case is in the store."""
        events = self._declared.get((header.spec_id, header.spec_version))
        return [] if events is None else self._counts(events, EventKind.CASE_CREATED, "", data)

    def see(
        self,
        observed: Observed | None,
        compiled: Compiled,
        case: Case,
        header: CaseHeader,
        fresh: int,
        batches: Sequence[bytes],
    ) -> Observed:
        """
        Work out what a commit counts for; `waiting` of what is returned has it until the commit is in the store.

        Args:
            observed: what was returned for the case's last commit, or None.
            compiled: its specification.
            case: after the step.
            header: before it.
            fresh: how many of the case's records are new.
            batches: what the step adds to the journal.
        """
        observed = Observed() if observed is None else observed
        if self.measured:
            undecided = sum(len(net.marking.undecided) for net in case.state.nets.values())
            if undecided > observed.undecided:
                more = undecided - observed.undecided
                observed.waiting.append(lambda: self._exceeded(more))
            observed.undecided = undecided
        events = self._declared.get((header.spec_id, header.spec_version))
        if events is None:
            return observed
        if observed.state is None or observed.version != header.version:
            observed.state = state_before(compiled.program, compiled.kernels, case, fresh)
        for batch in batches:
            before: tuple[EventKind, str] | None = None
            for _, kind, path, _ in tell(observed.state, batch):
                # The state is behind the event that was told before this one.
                if before is not None:
                    observed.waiting += self._counts(events, *before, observed.state.data)
                before = kind, path
            if before is not None:
                observed.waiting += self._counts(events, *before, observed.state.data)
        observed.version = header.version + len(batches)
        return observed

    def attempt(self, handler: str, outcome: str) -> None:
        """Count an attempt of a handler."""
        with self._lock:
            self.attempts[handler, outcome] += 1

    # --- inside -------------------------------------------------------------------------------------------------------

    def _compiled(self, text: str) -> Expression:
        return compile_expression(text, variables=("data",), dialect=self._dialect)

    def _family(self, spec_id: str, metric: Metric) -> _Family:
        """Return the family of a metric, a new one where an earlier version declared it otherwise."""
        key = (spec_id, metric.name)
        found = self._families.get(key)
        if found is None or _shape(found.metric) != _shape(metric):
            found = self._families[key] = _Family(spec_id, metric)
        return found

    def _counts(
        self, events: Mapping[str, Sequence[_Declared]], kind: EventKind, path: str, data: Mapping[str, Any]
    ) -> list[Callable[[], None]]:
        """Return what an event counts for."""
        counts = []
        for declared in events.get(kind.value, ()):
            task = declared.family.metric.task
            if task is not None and task != path.rpartition("/")[2].partition("#")[0]:
                continue
            count = self._count(declared, path, data)
            if count is not None:
                counts.append(count)
        return counts

    def _count(self, declared: _Declared, path: str, data: Mapping[str, Any]) -> Callable[[], None] | None:
        family = declared.family
        where = f"metric {family.metric.name}"
        given = {"data": data}
        try:
            value = (
                1.0 if declared.value is None else _number(declared.value.evaluate(given, where), family.metric, where)
            )
            labels = [_text(each.evaluate(given, where), where) for each in declared.labels]
        except DataError as error:
            self._failed(family, path, error)
            return None

        def count() -> None:
            with self._lock:
                family.add(value, labels)

        return count

    def _failed(self, family: _Family, path: str, error: DataError) -> None:
        key = (family.spec_id, family.metric.name)
        with self._lock:
            self.errors += 1
            new = key not in self._told
            self._told.add(key)
        if new:
            about = {"workflow_id": family.spec_id, "metric": family.metric.name, "task": path}
            _LOG.warning("a value is not counted, and further ones like it neither: %s", error, extra=about)

    def _exceeded(self, times: int) -> None:
        with self._lock:
            self.undecided += times


def _shape(metric: Metric) -> tuple[Any, ...]:
    labels = tuple((name, each.maximum) for name, each in (metric.labels or {}).items())
    return metric.kind, metric.buckets, labels


def _number(value: object, metric: Metric, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError("is no finite number", element=where, value=value)
    if metric.kind is MetricKind.COUNTER and value < 0:
        raise DataError("is negative, and a counter only rises", element=where, value=value)
    return float(value)


def _text(value: object, where: str) -> str:
    if isinstance(value, str):
        return value[:LONGEST_LABEL]
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise DataError("is neither text, number nor truth, as a label must be", element=where, value=value)
