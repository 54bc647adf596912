"""What the modeller wrote: a specification, its nets, tasks, conditions and flows.

Everything here is frozen data in the words of YAWL (van der Aalst & ter Hofstede, "YAWL: yet another workflow
language", 2005).
It holds no run state, knows no store and evaluates nothing: `knhk._lower` compiles it once, at registration, to the
integer tables that the kernels read.

Two conditions exist in every net without being written: ``start`` (the input condition, which holds the first token)
and ``end`` (the output condition).
A flow from task to task stands for an implicit condition called ``A>B``; cancellation sets and read arcs may name it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs

from knhk.spec.measuring import Metric
from knhk.spec.resourcing import Manual

START = "start"
"""The input condition of every net."""

END = "end"
"""The output condition of every net."""


class Join(enum.Enum):
    """How a task's inputs are put together before it may start (rule 2)."""

    AND = "and"
    XOR = "xor"
    OR = "or"


class Split(enum.Enum):
    """Which of a task's outputs get a token when it completes (rule 3)."""

    AND = "and"
    XOR = "xor"
    OR = "or"


class Termination(enum.Enum):
    """When a net ends (rule 8): at the first token in ``end``, or when no work is left."""

    EXPLICIT = "explicit"
    IMPLICIT = "implicit"


class Creation(enum.Enum):
    """Whether instances may be added to a running multiple-instance task."""

    STATIC = "static"
    DYNAMIC = "dynamic"


class Remaining(enum.Enum):
    """What happens to open instances once a multiple-instance task has passed control on."""

    CANCEL = "cancel"
    CONTINUE = "continue"


class TriggerMode(enum.Enum):
    """Whether an event waits for the task (patterns 24 and 23)."""

    PERSISTENT = "persistent"
    TRANSIENT = "transient"


@attrs.frozen(kw_only=True)
class PartialJoin:
    """
    A join of `required` out of all inputs (rule 4; patterns 9 and 28 to 32).

    Args:
        required: how many inputs must be marked.
        cancels: conditions to empty and tasks to abort when the join's task starts.
            None: the structured or blocking form, which swallows the late arrivals of its round.
            An empty tuple is the cancelling form with nothing to cancel but its own inputs.
    """

    required: int
    cancels: tuple[str, ...] | None = None


@attrs.frozen(kw_only=True)
class Multiple:
    """
    A task with multiple instances (rule 6; patterns 12 to 15, 26, 27, 34 to 36).

    Args:
        count: how many instances start: a number, or an expression over ``data``. None where `for_each` gives it.
        for_each: an expression giving a list; each instance sees its element as ``item`` and its position, from 0, as
            ``index``.
        minimum, maximum: the bounds that the count must keep; `maximum` also bounds all instances ever created in one
            activation.
        threshold: control passes at this many completions.
        until: an expression over ``data``, ``completed`` and ``created``, looked at after each completion; true passes
            control.
        creation: whether instances may be added while the task runs.
        remaining: what happens to open instances when control has passed.
        detached: control passes at once, the instances are independent (pattern 12).
    """

    count: int | str | None = None
    for_each: str | None = None
    minimum: int | None = None
    maximum: int | None = None
    threshold: int | None = None
    until: str | None = None
    creation: Creation = Creation.STATIC
    remaining: Remaining = Remaining.CANCEL
    detached: bool = False


@attrs.frozen(kw_only=True)
class Trigger:
    """
    An event from outside that the task waits for (rule 7; patterns 23 and 24).

    Args:
        event: its name.
        mode: whether an event waits for the task.
        correlate: a predicate over ``data`` and ``event`` (the event's data): which of the events that are sent to all cases
            are meant for this one. None: every one.
    """

    event: str
    mode: TriggerMode = TriggerMode.PERSISTENT
    correlate: str | None = None


@attrs.frozen(kw_only=True)
class External:
    """
    Work for a program elsewhere: offered under a topic, started and completed from outside.

    Args:
        topic: what the worker asks for.
        timeout: how long a claim is held, in milliseconds. None: no limit.
    """

    topic: str
    timeout: int | None = None


@attrs.frozen(kw_only=True)
class WorkletRule:
    """
    One choice of a worklet.

    Args:
        worklet: the id of a specification; the version that was registered last runs.
        when: a predicate over ``data`` (and ``item``, ``index``; in an exlet also ``error``). None: it always holds.
        on_error: of an exlet, the names of the errors that it is for; none, or ``*``: any.
    """

    worklet: str
    when: str | None = None
    on_error: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Moment:
    """
    A time at which a timer ends, in place of a length.

    Args:
        at: ISO 8601 text with an offset, or an expression over ``data`` that gives such text, or milliseconds since the epoch.
            It is evaluated once, when the timer begins.
    """

    at: str


@attrs.frozen(kw_only=True)
class Http:
    """
    Work that a service does: one request.

    Values of the case's data come in by expressions over ``data`` (and ``item``, ``index``): in braces in `url` and `headers`,
    and as a whole in `body`.
    What comes back is ``status``, ``headers`` and ``body`` in `success` and `result`.

    Args:
        url: a template; its host is no hole, and values in path and query are encoded.
        method: of the request.
        headers: templates by name.
        body: an expression; its value is sent as JSON.
        success: a predicate; None: the status is 200 to 299.
        result: an expression giving a map, which is the work's result; None: it has none.
        timeout: milliseconds for the whole of one attempt. None: what the engine says.
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] | None = attrs.field(default=None, hash=False)
    body: str | None = None
    success: str | None = None
    result: str | None = None
    timeout: int | None = None


@attrs.frozen(kw_only=True)
class Retry:
    """
    What follows when a handler raises. Durations are in milliseconds.

    Args:
        max_attempts: attempts in all, the first included.
        initial: the longest wait before the second attempt.
        coefficient: what each further wait is multiplied by.
        max: what no wait is longer than.
        jitter: which part of a wait is left to chance: 1 draws it between nothing and all of it ("full jitter"), 0 draws nothing.
        deadline: how long after the first attempt began all must be over. None: no limit.
        non_retryable: names of error types after which no further attempt is made.
    """

    max_attempts: int = 1
    initial: int = 100
    coefficient: float = 2.0
    max: int = 30_000
    jitter: float = 1.0
    deadline: int | None = None
    non_retryable: tuple[str, ...] = ()


class DeadlineFrom(enum.Enum):
    """What a deadline counts from: the task's enablement, or the start of its work."""

    ENABLEMENT = "enablement"
    START = "start"


@attrs.frozen(kw_only=True)
class Deadline:
    """
    By when a task must be complete, or it fails with the error ``Deadline``.

    Args:
        after: milliseconds.
        since: what they count from.
    """

    after: int
    since: DeadlineFrom = DeadlineFrom.ENABLEMENT


@attrs.frozen(kw_only=True)
class Compensate:
    """
    What undoes a task that has completed.

    Args:
        handler: the name under which the engine finds the Python function.
        retry: what follows when it raises.
        timeout: how many milliseconds one attempt may take.
    """

    handler: str
    retry: Retry | None = None
    timeout: int | None = None


ANY_ERROR = "*"
"""What an error flow says that takes every error."""


@attrs.frozen(kw_only=True)
class Condition:
    """A place that holds tokens."""

    id: str
    name: str = ""


@attrs.frozen(kw_only=True)
class Flow:
    """
    A directed arc between a task and a condition, or between two tasks (over an implicit condition).

    Args:
        source, target: ids of the elements that it joins.
        when: a predicate, on an output of an XOR- or OR-split.
        default: taken when no predicate of the split holds.
        weight: how many tokens move: consumed (condition to task) or produced (out of a task; patterns 41 and 42).
        on_error: the names of the errors on which the task completes along this flow, and along it alone; ``*``: any.
            Normal completion never takes it.
    """

    source: str
    target: str
    when: str | None = None
    default: bool = False
    weight: int = 1
    on_error: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The flow as a person writes it: ``A -> B``."""
        return f"{self.source} -> {self.target}"


@attrs.frozen(kw_only=True)
class Task:
    """
    A task: atomic, composite (`subnet`) or with multiple instances (`multiple`).

    An atomic task does one kind of work at the most: a `handler`, an `http` request, `manual` work, `external` work or a `worklet`.
    With none of these, and neither subnet, timer nor trigger, it is a routing task and completes by itself.

    Args:
        id: its name in the net; part of paths such as ``ship/pick`` and ``notify#2``.
        name: what people read.
        join, split: None where there is one input, or one output.
        cancels: conditions to empty and tasks to abort when this task completes (rule 5).
        reads: conditions that must be marked for the task to be enabled; not consumed (pattern 18).
        subnet: the net that the task stands for.
        multiple: how many instances, and when they are enough.
        trigger: the event that it waits for.
        timer: milliseconds after its join is satisfied at which it runs by itself, or a time.
        handler: the name under which the engine finds the Python function.
        http: the request that does the work.
        manual, external: work done by people, or by a program elsewhere.
        worklet: which registered specification runs as its work: the first rule that holds says so.
        exlet: which one runs in its place when its work has failed for good.
        retry: what follows when the handler raises.
        timeout: how many milliseconds one attempt of the handler may take.
        heartbeat: how many milliseconds a handler may be silent (`Work.heartbeat`) before its attempt counts as failed.
        concurrency: how many handlers of this task an engine runs at once, over all cases.
        breaker: the dependency whose circuit breaker the handler's outcomes are told to, and which holds it back while open.
        deadline: by when it must be complete.
        requires: what must hold of ``data`` when it becomes enabled.
        ensures: what must hold of ``data`` as they are after its completion.
        compensate: what undoes it when the case is cancelled, or the task around it fails.
        replayable: the handler has no outside effect, so its result may share the commit of what follows.
        input: what its work is given in place of the case's data: expressions over ``data`` (and ``item``, ``index``) by name.
        output: what its result changes in the case's data: expressions over ``data``, ``output`` (and ``item``, ``index``) by
            name.  None: the members of the result join the data under their own names.
    """

    id: str
    name: str = ""
    join: Join | PartialJoin | None = None
    split: Split | None = None
    cancels: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    subnet: str | None = None
    multiple: Multiple | None = None
    trigger: Trigger | None = None
    timer: int | Moment | None = None
    handler: str | None = None
    http: Http | None = None
    manual: Manual | None = None
    external: External | None = None
    worklet: tuple[WorkletRule, ...] = ()
    exlet: tuple[WorkletRule, ...] = ()
    retry: Retry | None = None
    timeout: int | None = None
    heartbeat: int | None = None
    concurrency: int | None = None
    breaker: str | None = None
    deadline: Deadline | None = None
    requires: str | None = None
    ensures: str | None = None
    compensate: Compensate | None = None
    replayable: bool = False
    input: Mapping[str, str] | None = None
    output: Mapping[str, str] | None = None


def http_variables(task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names that the expressions of a task's request may use, and those about its answer."""
    instance = () if task.multiple is None else ("item", "index")
    return ("data", *instance), ("data", "status", "headers", "body", *instance)


def mapping_variables(task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names that the expressions of a task's `input` and of its `output` may use."""
    instance = () if task.multiple is None else ("item", "index")
    return ("data", *instance), ("data", "output", *instance)


@attrs.frozen(kw_only=True)
class Net:
    """Tasks, conditions and the flows between them, in the order of the text."""

    tasks: tuple[Task, ...] = ()
    conditions: tuple[Condition, ...] = ()
    flows: tuple[Flow, ...] = ()
    termination: Termination = Termination.EXPLICIT


ROOT = ""
"""The name of the root net among a specification's nets."""


class CatchUp(enum.Enum):
    """What is launched when several times of a schedule have passed, as after a downtime."""

    ONE = "one"
    ALL = "all"
    NONE = "none"


@attrs.frozen(kw_only=True)
class Schedule:
    """
    When cases are launched by themselves: one of `cron`, `every` and `repeat`.

    Args:
        cron: five fields, as ``0 8 * * 1-5`` (six with seconds in front).
        every: milliseconds from one to the next, from the registration on.
        repeat: a repeating interval of ISO 8601: ``R/2026-01-31T08:00:00Z/P1M``.
        zone: the time zone of `cron`, and of `repeat` where its start has no offset.
        data: the first data of the cases.
        time: the member of the data that gets the time of the occurrence, as ISO 8601 text. None: none does.
        catch_up: what is launched when several times have passed.
    """

    cron: str | None = None
    every: int | None = None
    repeat: str | None = None
    zone: str = "UTC"
    data: Mapping[str, Any] | None = None
    time: str | None = None
    catch_up: CatchUp = CatchUp.ONE


@attrs.frozen(kw_only=True)
class SpecificationData:
    """
    What a `knhk.spec.Specification` holds, without the methods that read, check and write it.

    Args:
        id, version: its name; once registered, the pair never changes its content.
        name: what people read.
        root: the net that a case runs.
        subnets: nets by name, shared by all nets (recursion included).
        data: an optional JSON Schema for the case data.
        schedule: when cases are launched by themselves. None: never.
        metrics: what is counted of the cases.
    """

    id: str
    version: str = "1"
    name: str = ""
    root: Net = Net()
    subnets: Mapping[str, Net] = attrs.field(factory=dict)
    data: Mapping[str, Any] | None = None
    schedule: Schedule | None = None
    metrics: tuple[Metric, ...] = ()

    def nets(self) -> dict[str, Net]:
        """All nets by name, the root net first under the name ``""``."""
        return {ROOT: self.root, **self.subnets}
