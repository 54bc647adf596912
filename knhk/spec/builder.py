"""Specifications written in Python::

    net = build("order", version="1")
    check = net.task("check", handler="check_credit", split="xor", retry={"max_attempts": 5, "initial": "100ms"})
    approve = net.task("approve", manual="approver")
    expire = net.task("expire", timer="3d")
    pack = net.task("pack", join="xor")

    waiting = net.condition("waiting")
    net.start.to(check)
    check.to(waiting, when="data.amount > 1000")
    check.to(pack, default=True)
    waiting.to(approve).to(pack)
    net.sequence(waiting, expire, net.end)
    net.sequence(pack, net.end)

    specification = net.specification()

A builder writes the document that `knhk.spec` reads: what a keyword takes is what the member of that name takes in
JSON, or an object of the model, and a mistake is reported with the place that it would have in a text.
Nothing is checked before `SpecificationBuilder.specification`, which lists every problem at once.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any, Literal, Self, TypedDict

import attrs

from knhk.expr import Dialect
from knhk.spec.document import write_members
from knhk.spec.durations import format_duration, milliseconds
from knhk.spec.measuring import Metric
from knhk.spec.model import (
    END,
    START,
    Compensate,
    Deadline,
    External,
    Http,
    Join,
    Moment,
    Multiple,
    PartialJoin,
    Retry,
    Schedule,
    Split,
    Termination,
    Trigger,
    WorkletRule,
)
from knhk.spec.resourcing import Manual
from knhk.spec.specification import Specification

Duration = str | timedelta
"""A duration as text (``"30s"``), or as a timedelta."""


class PartialDocument(TypedDict, total=False):
    """A partial join: how many inputs, and what it cancels."""

    partial: int
    cancels: Sequence[Reference]


class ExternalDocument(TypedDict, total=False):
    """External work: the topic, and how long a claim is held."""

    topic: str
    timeout: Duration


class AllocationDocument(TypedDict, total=False):
    """How the engine chooses who does the work."""

    policy: Literal["round_robin", "shortest_queue", "random"]
    seed: int


class RecipientsDocument(TypedDict, total=False):
    """Whom work is offered to that nobody did in time."""

    roles: Sequence[str]
    participants: Sequence[str]


class EscalationDocument(TypedDict, total=False):
    """What follows when work gets old."""

    after: Duration
    unless: Literal["started", "completed"]
    to: RecipientsDocument
    priority: int
    notify: str


class ManualDocument(TypedDict, total=False):
    """Work for people: who may do it, who decides, what they may do with it, and what follows when nobody does it."""

    roles: Sequence[str]
    participants: Sequence[str]
    participants_from: str
    capabilities: Sequence[str]
    positions: Sequence[str]
    offer: Literal["system", "participant"]
    allocate: Literal["participant", "round_robin", "shortest_queue", "random"] | AllocationDocument
    start: Literal["system", "participant"]
    separate_from: Sequence[str]
    familiar_to: str
    chained: bool
    privileges: Sequence[Literal["suspend", "deallocate", "delegate", "reallocate", "skip", "pile", "chain"]]
    escalate: Sequence[EscalationDocument]


class HttpDocument(TypedDict, total=False):
    """A request: what it asks of whom, when it has succeeded, and what comes of its answer."""

    url: str
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    headers: Mapping[str, str]
    body: str
    success: str
    result: str
    timeout: Duration


class TriggerDocument(TypedDict, total=False):
    """A trigger: the event, whether it waits for the task, and which cases it is meant for."""

    event: str
    mode: Literal["persistent", "transient"]
    correlate: str


class RetryDocument(TypedDict, total=False):
    """How often a handler is tried, and how long it is waited in between."""

    max_attempts: int
    initial: Duration
    coefficient: float
    max: Duration
    jitter: float | Literal["full", "none"]
    deadline: Duration
    non_retryable: Sequence[str]


class ScheduleDocument(TypedDict, total=False):
    """When cases are launched by themselves, and with which data."""

    cron: str
    every: Duration
    repeat: str
    zone: str
    data: Mapping[str, Any]
    time: str
    catch_up: Literal["one", "all", "none"]


class LabelDocument(TypedDict, total=False):
    """What tells the series of a metric apart; `value` is needed."""

    value: str
    maximum: int


class MetricDocument(TypedDict, total=False):
    """What is counted of the cases; `name`, `kind` and `on` are needed."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    on: str
    help: str
    task: str
    value: str
    buckets: Sequence[float]
    labels: Mapping[str, str | LabelDocument]


DeadlineDocument = TypedDict(
    "DeadlineDocument", {"after": Duration, "from": Literal["enablement", "start"]}, total=False
)
"""By when a task must be complete: how long, counted from what."""


class WorkletDocument(TypedDict, total=False):
    """One choice of a worklet: the specification, when it is taken, and for an exlet on which errors."""

    worklet: str
    when: str
    on_error: str | Sequence[str]


class CompensateDocument(TypedDict, total=False):
    """What undoes a task: a handler, and what bounds its attempts."""

    handler: str
    retry: RetryDocument
    timeout: Duration


class MultipleDocument(TypedDict, total=False):
    """How many instances a task has, and when they are enough."""

    count: int | str
    for_each: str
    minimum: int
    maximum: int
    threshold: int
    until: str
    creation: Literal["static", "dynamic"]
    remaining: Literal["cancel", "continue"]
    detached: bool


@attrs.frozen(eq=False)
class Element:
    """
    A task or a condition of a net that is being built.

    Attributes:
        net: the net it belongs to.
        id: its name there.
    """

    net: NetBuilder = attrs.field(repr=False)
    id: str

    def to(
        self,
        target: Reference,
        *,
        when: str | None = None,
        default: bool = False,
        weight: int = 1,
        on_error: str | Sequence[str] = (),
    ) -> Element:
        """
        Add a flow from here.

        Args:
            target: a task or a condition of the same net, or its id.
            when: a predicate, on an output of an XOR- or OR-split.
            default: taken when no predicate of the split holds.
            weight: how many tokens move.
            on_error: the errors on which the task completes along this flow alone; ``"*"``: any.

        Returns:
            The target, so that a chain ``a.to(b).to(c)`` reads as the path it makes.
        """
        self.net.flow(self, target, when=when, default=default, weight=weight, on_error=on_error)
        return target if isinstance(target, Element) else Element(self.net, target)


Reference = Element | str
"""An element, or its id."""

Worklets = WorkletRule | WorkletDocument | Sequence[WorkletRule | WorkletDocument]
"""A choice of a worklet, or several in the order in which they are looked at."""


class NetBuilder:
    """
    One net: its tasks, conditions and flows, in the order in which they are added.

    Attributes:
        name: under which tasks refer to it as a subnet.
        start, end: the conditions that every net has.
        tree: the net's document as far as it is built.
    """

    def __init__(
        self, name: str = "", *, termination: Literal["explicit", "implicit"] | Termination = "explicit"
    ) -> None:
        self.name = name
        self.start = Element(self, START)
        self.end = Element(self, END)
        self.tree: dict[str, Any] = {"tasks": [], "conditions": [], "flows": [], "termination": _written(termination)}

    def task(
        self,
        id: str,  # noqa: A002 - the word of the format
        *,
        name: str | None = None,
        join: Literal["and", "xor", "or"] | Join | PartialJoin | PartialDocument | None = None,
        split: Literal["and", "xor", "or"] | Split | None = None,
        cancels: Sequence[Reference] = (),
        reads: Sequence[Reference] = (),
        subnet: NetBuilder | str | None = None,
        multiple: Multiple | MultipleDocument | None = None,
        trigger: str | Trigger | TriggerDocument | None = None,
        timer: Duration | Mapping[Literal["at"], str] | Moment | None = None,
        handler: str | None = None,
        http: str | HttpDocument | Http | None = None,
        manual: bool | str | Sequence[str] | Manual | ManualDocument = False,
        external: str | External | ExternalDocument | None = None,
        worklet: str | Worklets = (),
        exlet: str | Worklets = (),
        retry: Retry | RetryDocument | None = None,
        timeout: Duration | None = None,
        heartbeat: Duration | None = None,
        concurrency: int | None = None,
        breaker: str | None = None,
        deadline: Duration | Deadline | DeadlineDocument | None = None,
        requires: str | None = None,
        ensures: str | None = None,
        compensate: str | Compensate | CompensateDocument | None = None,
        replayable: bool = False,
        input: Mapping[str, str] | None = None,  # noqa: A002 - the word of the format
        output: Mapping[str, str] | None = None,
    ) -> Element:
        """
        Add a task.

        Args:
            id: its name in the net.
            name: what people read.
            join, split: needed where there are several inputs, or several outputs.
            cancels: conditions to empty and tasks to abort when this task completes.
            reads: conditions that must be marked, without being consumed.
            subnet: the net that the task stands for.
            multiple: how many instances: ``{"count": 3}``, ``{"for_each": "data.recipients", "threshold": 2}``.
            trigger: the event that it waits for; a bare name is a persistent trigger.
            timer: after which time it runs by itself; or at which: ISO 8601 text, or ``{"at": ...}`` with an expression.
            handler: the name under which the engine finds the Python function.
            http: the request that does the work, or only its URL.
            manual: work for people: True, the role or roles it is offered to, or all there is to say of it.
            external: work for a program elsewhere: the topic.
            worklet: the specification that runs as its work, or rules of which the first that holds names it.
            exlet: the same for when its work has failed for good.
            retry: what follows when the handler raises.
            timeout: how long one attempt of the handler may take.
            heartbeat: how long the handler may be silent.
            concurrency: how many handlers of this task run at once, over all cases.
            breaker: the dependency whose circuit breaker holds the handler back while it is open.
            deadline: how long after its enablement, or its start, it must be complete.
            requires: what must hold of the data when it becomes enabled.
            ensures: what must hold of the data after its completion.
            compensate: the handler that undoes it when the case is cancelled, or the task around it fails.
            replayable: the handler has no outside effect.
            input: what its work is given in place of the case's data: expressions by name.
            output: what its result changes in the case's data: expressions by name.
        """
        members = {
            "id": id,
            "name": name,
            "join": join,
            "split": split,
            "cancels": cancels or None,
            "reads": reads or None,
            "subnet": subnet,
            "multiple": multiple,
            "trigger": trigger,
            "timer": timer,
            "handler": handler,
            "http": http,
            "manual": _manual(manual),
            "external": external,
            "worklet": worklet or None,
            "exlet": exlet or None,
            "retry": retry,
            "timeout": timeout,
            "heartbeat": heartbeat,
            "concurrency": concurrency,
            "breaker": breaker,
            "deadline": deadline,
            "requires": requires,
            "ensures": ensures,
            "compensate": compensate,
            "replayable": replayable or None,
            "input": input,
            "output": output,
        }
        self.tree["tasks"].append({each: _written(value) for each, value in members.items() if value is not None})
        return Element(self, id)

    def condition(self, id: str, *, name: str | None = None) -> Element:  # noqa: A002 - the word of the format
        """Add a condition; ``start`` and ``end`` are there already, and those between two tasks need not be written."""
        self.tree["conditions"].append({"id": id} if name is None else {"id": id, "name": name})
        return Element(self, id)

    def flow(
        self,
        source: Reference,
        target: Reference,
        *,
        when: str | None = None,
        default: bool = False,
        weight: int = 1,
        on_error: str | Sequence[str] = (),
    ) -> Self:
        """
        Add a flow.

        Args:
            source, target: tasks or conditions of this net, or their ids.
            when: a predicate, on an output of an XOR- or OR-split.
            default: taken when no predicate of the split holds.
            weight: how many tokens move.
            on_error: the errors on which the task completes along this flow alone; ``"*"``: any.
        """
        members = {
            "from": _written(source),
            "to": _written(target),
            "when": when,
            "default": default,
            "weight": weight,
            "on_error": _written(on_error) or None,
        }
        self.tree["flows"].append({each: value for each, value in members.items() if value is not None})
        return self

    def sequence(self, *elements: Reference) -> Self:
        """Add the flows of a path: ``sequence("start", a, b, "end")`` is three flows."""
        for source, target in pairwise(elements):
            self.flow(source, target)
        return self


class SpecificationBuilder(NetBuilder):
    """A specification that is being built: its root net, and what belongs to the whole."""

    def __init__(
        self,
        id: str,  # noqa: A002 - the word of the format
        *,
        version: str = "1",
        name: str = "",
        data: Mapping[str, Any] | None = None,
        schedule: str | ScheduleDocument | Schedule | None = None,
        metrics: Sequence[MetricDocument | Metric] = (),
        termination: Literal["explicit", "implicit"] | Termination = "explicit",
    ) -> None:
        super().__init__(termination=termination)
        self._head: dict[str, Any] = {"id": id, "name": name, "version": version}
        if data is not None:
            self._head["data"] = data
        if schedule is not None:
            self._head["schedule"] = _written(schedule)
        if metrics:
            self._head["metrics"] = _written(metrics)
        self._subnets: dict[str, NetBuilder] = {}

    def subnet(
        self, name: str, *, termination: Literal["explicit", "implicit"] | Termination = "explicit"
    ) -> NetBuilder:
        """Add a subnet, or return the one of that name; any task of any net may stand for it, its own included."""
        return self._subnets.setdefault(name, NetBuilder(name, termination=termination))

    def to_dict(self) -> dict[str, Any]:
        """The document as far as it is built, unchecked."""
        subnets = {name: each.tree for name, each in self._subnets.items()}
        return {**self._head, **self.tree, **({"subnets": subnets} if subnets else {})}

    def specification(self, *, dialect: Dialect = "subset") -> Specification:
        """
        Check what was built.

        Args:
            dialect: the expression language.

        Returns:
            A well-formed specification; the builder may be used on, without effect on it.

        Raises:
            SpecificationError: it is not well-formed; `problems` has every finding with its place.
        """
        return Specification.from_dict(self.to_dict(), dialect=dialect)


def build(
    id: str,  # noqa: A002 - the word of the format
    *,
    version: str = "1",
    name: str = "",
    data: Mapping[str, Any] | None = None,
    schedule: str | ScheduleDocument | Schedule | None = None,
    metrics: Sequence[MetricDocument | Metric] = (),
    termination: Literal["explicit", "implicit"] | Termination = "explicit",
) -> SpecificationBuilder:
    """
    Begin a specification.

    Args:
        id, version: its name; once registered, the pair never changes its content.
        name: what people read.
        data: a JSON Schema for the case data.
        schedule: when cases are launched by themselves; a text is a cron expression.
        metrics: what is counted of the cases, each as the format has it, or a `knhk.spec.Metric`.
        termination: of the root net: at the first token in ``end``, or when no work is left.
    """
    return SpecificationBuilder(
        id, version=version, name=name, data=data, schedule=schedule, metrics=metrics, termination=termination
    )


def _manual(manual: bool | str | Sequence[str] | Manual | ManualDocument) -> Any:
    """The keyword for manual work: the role, the roles, or only that there is some."""
    if isinstance(manual, str):
        return {"roles": [manual]}
    if isinstance(manual, Sequence):
        return {"roles": list(manual)}
    return manual or None


def _written(value: Any) -> Any:
    """A keyword's value as the document has it."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, timedelta):
        return format_duration(milliseconds(value))
    if isinstance(value, Element):
        return value.id
    if isinstance(value, NetBuilder):
        return value.name
    if isinstance(value, Mapping):
        return {name: _written(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_written(each) for each in value]
    return write_members(value) if attrs.has(type(value)) else value
