"""Metrics that a specification declares, as the modeller wrote them: what is counted of its cases, and when.

The three kinds are Prometheus's, https://prometheus.io/docs/concepts/metric_types/.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs


class MetricKind(enum.Enum):
    """What a metric does with its values: adds them up, keeps the last, or counts them by size."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@attrs.frozen(kw_only=True)
class Label:
    """
    What tells the series of a metric apart.

    Args:
        value: an expression over ``data``: text, a number or a truth.
        maximum: how many different values it may have; further ones are ``other``.
    """

    value: str
    maximum: int = 10


@attrs.frozen(kw_only=True)
class Metric:
    """
    Something that is counted of the cases of a specification.

    Args:
        name: what it is called.
        kind: counter, gauge or histogram.
        on: the event at which it is counted, by the value of its `knhk.EventKind`.
        help: what it is, for people.
        task: the task that the event is about, in whatever net; None: any.
        value: an expression over ``data``, a number; None: 1, for a counter.
        buckets: of a histogram, the upper bounds, ascending.
        labels: by name.
    """

    name: str
    kind: MetricKind
    on: str
    help: str = ""
    task: str | None = None
    value: str | None = None
    buckets: tuple[float, ...] | None = None
    labels: Mapping[str, Label] | None = None
