"""Well-formedness: whether the nets of a specification say something that can be run, element by element.

Every rule is local to a net and needs no state space; what a net may do when it runs (deadlocks, dead tasks, tokens
left behind) is for `knhk.analysis`.
The rules, by the place at which they are reported:

* elements: tasks and conditions share one namespace, also with the implicit conditions ``A>B``.
  Each is reached from ``start``; an explicit net that is not empty reaches ``end``.
* flows: between a task and a condition or between two tasks, both known, once per pair, not into ``start``, not out of
  ``end``.
  Each of several outputs of an XOR- or OR-split has either ``when`` or ``default``, one default at the most; no other
  flow has either.
  Error flows do not count here: failure chooses them, and them alone, so their task has no AND- or OR-split in front.
* tasks: an input; an output, except in implicit nets; a join for several inputs, a split for several outputs;
  references to elements of their own net; one kind of work; what belongs to a kind of work only with it.
* expressions: all compile, with the variables that are there when they are evaluated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property

from knhk.errors import ParseError, Problem
from knhk.expr import Dialect, compile_expression
from knhk.spec._manual import problems as people_problems
from knhk.spec._metrics import metric_problems
from knhk.spec._worklets import worklet_faults
from knhk.spec.document import Draft, read_document, to_document
from knhk.spec.durations import format_duration
from knhk.spec.failing import (
    compensation_faults,
    deadline_faults,
    error_flow_faults,
    error_split_faults,
    retry_faults,
)
from knhk.spec.model import (
    END,
    START,
    Creation,
    Flow,
    Http,
    Join,
    Moment,
    Multiple,
    Net,
    PartialJoin,
    Schedule,
    SpecificationData,
    Split,
    Task,
    Termination,
    http_variables,
    mapping_variables,
)
from knhk.spec.places import Report, inside, listed, shown
from knhk.spec.repeats import is_moment, milliseconds_of
from knhk.spec.templates import OURS, WITHOUT_BODY, holes, url_problem

LEAST_EVERY = 1_000
"""The shortest time between two cases of a schedule, in milliseconds."""

_DATA = ("data",)
_COUNTS = ("data", "completed", "created")
_WHERE = "when and default belong to the several outputs of an XOR- or OR-split"


def problems(specification: SpecificationData, *, dialect: Dialect = "subset") -> tuple[Problem, ...]:
    """
    Everything that keeps a specification from being registered, each with its place.

    Args:
        specification: read from a text, or made in Python; for the latter its form is looked at too, as if it had been
            read.
        dialect: the expression language: what the core compiles itself, or all of CEL.

    Returns:
        The findings, those about the form first; none: it is well-formed.
    """
    return draft_problems(specification, read_document(to_document(specification)), dialect=dialect)


def draft_problems(
    specification: SpecificationData, draft: Draft, *, dialect: Dialect = "subset"
) -> tuple[Problem, ...]:
    """
    What reading found, and then what the nets say wrong.

    Where the form of an element is wrong, what would only follow from that is not reported: the elements that could not
    be read completely, their neighbours, and nets of which an element is missing are left out of the second part.

    Args:
        specification: made of the draft's attributes.
        draft: the result of reading it.
        dialect: the expression language.
    """
    report = Report()
    expressions = _Expressions(dialect)
    subnets = ((inside("subnets", name), net) for name, net in specification.subnets.items())
    for place, net in (("", specification.root), *subnets):
        if place not in draft.incomplete:
            known = specification.subnets
            check = _NetCheck(net, place, subnets=known, damaged=draft.damaged, expressions=expressions, report=report)
            check.run()
            if not draft.incomplete:
                check.check_people(_manual_tasks(specification, draft.damaged))
    if specification.schedule is not None:
        _check_schedule(specification.schedule, report)
    tasks = {task.id for net in specification.nets().values() for task in net.tasks}
    if not draft.incomplete:
        for place, message in metric_problems(specification.metrics, tasks, expressions.faults):
            report.add(place, message)
    return draft.problems + report.problems()


def _check_schedule(schedule: Schedule, report: Report) -> None:
    kinds = [each for each in ("cron", "every", "repeat") if getattr(schedule, each) is not None]
    if len(kinds) != 1:
        told = f"has {' and '.join(kinds)}, and may have one" if kinds else 'needs "cron", "every" or "repeat"'
        report.add("schedule", told)
    if schedule.every is not None:
        if schedule.every < LEAST_EVERY:
            report.add("schedule.every", f"must be at least {format_duration(LEAST_EVERY)}")
        if schedule.zone != "UTC":
            report.add("schedule.zone", "means nothing for every, which counts from the registration")


def _manual_tasks(specification: SpecificationData, damaged: Collection[str]) -> dict[str, bool]:
    """By id of a task, in whatever net, whether any such task is work for people; a damaged one may well be."""
    found: dict[str, bool] = {}
    for name, net in specification.nets().items():
        tasks = inside(inside("subnets", name), "tasks") if name else "tasks"
        for task in net.tasks:
            manual = task.manual is not None or inside(tasks, task.id) in damaged
            found[task.id] = found.get(task.id, False) or manual
    return found


class _Expressions:
    """Which expression texts do not compile; each text is compiled once."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect: Dialect = dialect
        self._known: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}

    def faults(self, text: str, variables: tuple[str, ...]) -> tuple[str, ...]:
        """What is wrong with an expression; nothing where it compiles."""
        key = text, variables
        if key not in self._known:
            try:
                compile_expression(text, variables=variables, dialect=self._dialect)
            except ParseError as error:
                self._known[key] = tuple(each.message for each in error.problems)
            else:
                self._known[key] = ()
        return self._known[key]


class _NetCheck:
    """One net, and the findings about it."""

    def __init__(
        self,
        net: Net,
        place: str,
        *,
        subnets: Collection[str],
        damaged: Collection[str],
        expressions: _Expressions,
        report: Report,
    ) -> None:
        self.net = net
        self.place = place
        self.subnets = subnets
        self.damaged = damaged
        self.expressions = expressions
        self.report = report
        self.tasks = {each.id: each for each in net.tasks}
        self.conditions = {START, END, *(each.id for each in net.conditions)}
        pairs = {(each.source, each.target) for each in net.flows}
        self.inputs = Counter(target for _, target in pairs)
        self.outputs = Counter(source for source, _ in pairs)
        errors = {(each.source, each.target) for each in net.flows if each.on_error}
        self.normal = Counter(source for source, _ in pairs - errors)

    def run(self) -> None:
        """All rules, in the order of the text."""
        suspect = self._suspects()
        self._check_names()
        listeners: dict[str, str] = {}
        for task in self.net.tasks:
            if task.id not in suspect:
                self._check_task(task, listeners)
        for condition in self.net.conditions:
            if not self.inputs[condition.id]:
                what = "no flow leads into it, so it can never hold a token"
                unused = "it is not used: no flow leads into it or out of it"
                self._add(("conditions", condition.id), what if self.outputs[condition.id] else unused)
        self._check_flows(suspect)
        self._check_reachability()

    def check_people(self, manual_tasks: Mapping[str, bool]) -> None:
        """Look at what the work for people says; the other tasks of the specification matter for it."""
        suspect = self._suspects()
        for task in self.net.tasks:
            if task.manual is None or task.id in suspect:
                continue
            place = inside(inside(inside(self.place, "tasks"), task.id), "manual")
            for member, message in people_problems(task.manual, manual_tasks):
                self.report.add(f"{place}.{member}", message)
            if task.manual.participants_from is not None:
                self._check_expression(f"{place}.participants_from", task.manual.participants_from, _DATA)

    def _add(self, path: tuple[str, ...], message: str) -> None:
        place = self.place
        for each in path:
            place = inside(place, each)
        self.report.add(place, message)

    def _add_to_flow(self, number: int, message: str, member: str = "") -> None:
        place = f"{inside(self.place, 'flows')}[{number}]"
        self.report.add(inside(place, member) if member else place, message)

    def _suspects(self) -> set[str]:
        """Tasks of which something could not be read, be it in themselves or in a flow of theirs."""
        if not self.damaged:
            return set()
        tasks = inside(self.place, "tasks")
        suspect = {each for each in self.tasks if inside(tasks, each) in self.damaged}
        for number, flow in enumerate(self.net.flows):
            if f"{inside(self.place, 'flows')}[{number}]" in self.damaged:
                suspect |= {flow.source, flow.target}
        return suspect

    # --- elements -----------------------------------------------------------------------------------------------------

    @cached_property
    def implicit(self) -> dict[str, Flow]:
        """The task-to-task flows by the name of their condition."""
        pairs = (each for each in self.net.flows if each.source in self.tasks and each.target in self.tasks)
        return {f"{each.source}>{each.target}": each for each in pairs}

    def _check_names(self) -> None:
        seen: dict[str, str] = {}
        for path in self.paths:
            kind, identity = path
            if identity in seen:
                self._add(path, f"the id {shown(identity)} is used twice (before: in {seen[identity]})")
            elif identity in self.implicit:
                label = self.implicit[identity].label
                self._add(path, f"the id {shown(identity)} is the name of the implicit condition of the flow {label}")
            seen.setdefault(identity, kind)

    @cached_property
    def readable(self) -> set[str]:
        """The conditions that read arcs may name, implicit ones included."""
        return self.conditions | self.implicit.keys()

    @cached_property
    def cancellable(self) -> set[str]:
        """The tasks and conditions that cancellation sets may name."""
        return self.elements | self.implicit.keys()

    @cached_property
    def paths(self) -> list[tuple[str, str]]:
        """Where the elements are, in the order of the text."""
        conditions = [("conditions", each.id) for each in self.net.conditions]
        return [("tasks", each.id) for each in self.net.tasks] + conditions

    def _unknown(self, identity: str, known: Collection[str]) -> str:
        return f"there is no element {shown(identity)} in this net{self.report.did_you_mean(identity, known)}"

    @cached_property
    def elements(self) -> set[str]:
        """The ids of everything a flow may join."""
        return self.conditions | self.tasks.keys()

    def _check_reachability(self) -> None:
        """Each element is reached from start, and end is, if the net is explicit and not empty."""
        following: dict[str, list[str]] = {}
        for flow in self.net.flows:
            following.setdefault(flow.source, []).append(flow.target)
        reached, waiting = {START}, [START]
        while waiting:
            for each in following.get(waiting.pop(), ()):
                if each not in reached:
                    reached.add(each)
                    waiting.append(each)
        for path in dict.fromkeys(self.paths):
            if path[1] not in reached and self.inputs[path[1]]:
                self._add(path, "no path of flows leads to it from start")
        if END not in reached and self.net.tasks and self.net.termination is Termination.EXPLICIT:
            remedy = 'lead a flow into it, or say "termination": "implicit"'
            self._add((END,), f"no path of flows leads to end from start, so the net can never end: {remedy}")

    # --- flows --------------------------------------------------------------------------------------------------------

    def _check_flows(self, suspect: Collection[str]) -> None:
        seen: dict[tuple[str, str], int] = {}
        defaults: dict[str, int] = {}
        for number, flow in enumerate(self.net.flows):
            if f"{inside(self.place, 'flows')}[{number}]" in self.damaged:
                continue
            self._check_ends(number, flow)
            first = seen.setdefault((flow.source, flow.target), number)
            if first != number:
                self._add_to_flow(
                    number, f"{flow.label} is there already, as flows[{first}]; use weight for more tokens"
                )
            if flow.source in self.tasks and flow.source in suspect:
                continue
            self._check_choice(number, flow)
            if flow.default and defaults.setdefault(flow.source, number) != number:
                earlier = defaults[flow.source]
                self._add_to_flow(number, f"{shown(flow.source)} has a default already, flows[{earlier}]", "default")

    def _check_ends(self, number: int, flow: Flow) -> None:
        for member, identity in (("from", flow.source), ("to", flow.target)):
            if identity in self.elements:
                continue
            implied = f"{shown(identity)} is an implicit condition: write it as a condition"
            message = implied if identity in self.implicit else self._unknown(identity, self.elements)
            self._add_to_flow(number, message, member)
        if flow.target == START:
            self._add_to_flow(number, "no flow leads into start", "to")
        if flow.source == END:
            self._add_to_flow(number, "no flow leads out of end", "from")
        if all(each in self.conditions and each not in self.tasks for each in (flow.source, flow.target)):
            self._add_to_flow(number, f"{flow.label} joins two conditions: there must be a task between them")

    def _check_choice(self, number: int, flow: Flow) -> None:
        """Predicate and default: on each output of a choice, and nowhere else."""
        task = self.tasks.get(flow.source)
        member = "when" if flow.when is not None else "default"
        marked = flow.when is not None or flow.default
        if flow.on_error:
            for message in error_flow_faults(flow, task, marked=marked):
                self._add_to_flow(number, message, "on_error")
            return
        if flow.when is not None:
            self._check_expression(f"{inside(self.place, 'flows')}[{number}].when", flow.when, _DATA)
        if flow.when is not None and flow.default:
            self._add_to_flow(number, "a flow has either a predicate or is the default, not both", "default")
        if task is None:
            if marked and flow.source in self.elements:
                self._add_to_flow(
                    number, f"{shown(flow.source)} is a condition, which does not choose: {_WHERE}", member
                )
        elif self.normal[task.id] == 1:
            if marked:
                self._add_to_flow(number, f"the only output of {shown(task.id)} is always taken: {_WHERE}", member)
        elif task.split is Split.AND:
            if marked:
                self._add_to_flow(number, f"the AND-split of {shown(task.id)} takes all outputs: {_WHERE}", member)
        elif task.split is not None and not marked:
            kind = task.split.name
            self._add_to_flow(number, f"needs when or default, as an output of the {kind}-split of {shown(task.id)}")

    def _check_expression(self, place: str, text: str, variables: tuple[str, ...]) -> None:
        for fault in self.expressions.faults(text, variables):
            self.report.add(place, fault)

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _check_task(self, task: Task, listeners: dict[str, str]) -> None:
        for member, message in (*self._routing(task), *self._references(task), *self._work(task)):
            self._add(("tasks", task.id, *member.split(".")) if member else ("tasks", task.id), message)
        for member, constraint in (("requires", task.requires), ("ensures", task.ensures)):
            if constraint is not None:
                here = inside(inside(self.place, "tasks"), task.id)
                self._check_expression(inside(here, member), constraint, _DATA)
        if task.multiple is not None:
            self._check_multiple(task.id, task.multiple)
        self._check_mappings(task)
        place = inside(inside(self.place, "tasks"), task.id)
        for where, message in worklet_faults(task, self.expressions.faults):
            self.report.add(f"{place}.{where}", message)
        if task.http is not None:
            self._check_http(task, task.http)
        if task.trigger is not None:
            if task.trigger.correlate is not None:
                place = inside(inside(inside(self.place, "tasks"), task.id), "trigger")
                self._check_expression(inside(place, "correlate"), task.trigger.correlate, ("data", "event"))
            other = listeners.setdefault(task.trigger.event, task.id)
            if other != task.id:
                message = f"{shown(other)} listens for {shown(task.trigger.event)} already; one task of a net may"
                self._add(("tasks", task.id, "trigger", "event"), message)

    def _routing(self, task: Task) -> Iterator[tuple[str, str]]:
        inputs, outputs = self.inputs[task.id], self.normal[task.id]
        if not inputs:
            yield "", "no flow leads into it, so it can never start"
        if self.outputs[task.id] > outputs:
            yield from error_split_faults(task, outputs)
        elif not outputs and self.net.termination is Termination.EXPLICIT:
            yield "", 'no flow leads out of it; lead one to "end", or say "termination": "implicit"'
        if inputs > 1 and task.join is None:
            yield "join", f"is needed for {inputs} inputs: {listed([each.value for each in Join])}, or a partial join"
        if outputs > 1 and task.split is None:
            yield "split", f"is needed for {outputs} outputs: {listed([each.value for each in Split])}"
        if isinstance(task.join, PartialJoin) and inputs and not 1 <= task.join.required <= inputs:
            yield "join.partial", f"must be 1 to {inputs}, the number of inputs, not {task.join.required}"

    def _references(self, task: Task) -> Iterator[tuple[str, str]]:
        join_cancels = task.join.cancels if isinstance(task.join, PartialJoin) else None
        for member, references in (("cancels", task.cancels), ("join.cancels", join_cancels or ())):
            for each in references:
                if each not in self.cancellable:
                    yield member, self._unknown(each, self.cancellable)
        for each in task.reads:
            if each in self.tasks:
                yield "reads", f"{shown(each)} is a task: only conditions can be read"
            elif each not in self.readable:
                yield "reads", self._unknown(each, self.readable)
        if task.subnet is not None and task.subnet not in self.subnets:
            hint = self.report.did_you_mean(task.subnet, self.subnets)
            yield "subnet", f"there is no subnet {shown(task.subnet)}{hint}"

    def _work(self, task: Task) -> Iterator[tuple[str, str]]:
        known = ("handler", "http", "manual", "external", "worklet", "subnet")
        kinds = [each for each in known if getattr(task, each) not in (None, ())]
        if len(kinds) > 1:
            yield "", f"has {len(kinds)} kinds of work ({', '.join(kinds)}), and may have one"
        if task.retry is not None:
            if task.handler is None and task.external is None and task.http is None:
                yield "retry", "only a task with a handler, a request or external work can be tried again"
            yield from retry_faults(task.retry)
        yield from self._attempts(task)
        yield from deadline_faults(task)
        yield from compensation_faults(task)
        if task.exlet and (not kinds or task.subnet is not None):
            yield "exlet", "only a task with a handler, a request, manual or external work, or a worklet has one"
        if task.replayable and task.handler is None:
            yield "replayable", "is a promise about a handler, and there is none"
        if task.external is not None and task.external.timeout is not None and task.external.timeout <= 0:
            yield "external.timeout", "must be longer than nothing"
        if isinstance(task.timer, Moment):
            yield from self._moment(task.timer)
        if task.timer is not None and task.trigger is not None:
            yield "timer", "cannot stand together with a trigger; let two tasks compete for one condition"

    def _check_mappings(self, task: Task) -> None:
        given, gives = mapping_variables(task)
        kinds = (task.handler, task.http, task.manual, task.external, task.worklet or None)
        works = any(each is not None for each in kinds)
        for member, mapping, variables in (("input", task.input, given), ("output", task.output, gives)):
            if mapping is None:
                continue
            if not works:
                self._add(
                    ("tasks", task.id, member),
                    "only a task with a handler, a request, manual or external work, or a worklet has one",
                )
            for name, text in mapping.items():
                self._check_expression(
                    inside(inside(inside(inside(self.place, "tasks"), task.id), member), name), text, variables
                )

    def _check_http(self, task: Task, http: Http) -> None:
        place = inside(inside(inside(self.place, "tasks"), task.id), "http")
        asks, answers = http_variables(task)
        templates = [
            ("url", http.url),
            *((inside("headers", name), text) for name, text in (http.headers or {}).items()),
        ]
        for member, text in templates:
            try:
                parts = holes(text, lambda each: self.expressions.faults(each, asks))
                problem = url_problem(parts) if member == "url" else ""
            except ValueError as error:
                problem = str(error)
            if problem:
                self.report.add(f"{place}.{member}", problem)
        for name in http.headers or {}:
            if name.lower() in OURS:
                self.report.add(f"{place}.{inside('headers', name)}", "is not for a task to choose")
        if http.body is not None and http.method in WITHOUT_BODY:
            self.report.add(inside(place, "body"), f"a {http.method} request has none; say another method")
        if http.timeout is not None and http.timeout <= 0:
            self.report.add(inside(place, "timeout"), "must be longer than nothing")
        for member, expression, variables in (
            ("body", http.body, asks),
            ("success", http.success, answers),
            ("result", http.result, answers),
        ):
            if expression is not None:
                self._check_expression(inside(place, member), expression, variables)

    def _moment(self, moment: Moment) -> Iterator[tuple[str, str]]:
        if not is_moment(moment.at):
            for fault in self.expressions.faults(moment.at, _DATA):
                yield "timer.at", fault
            return
        try:
            milliseconds_of(moment.at)
        except ValueError as error:
            yield "timer.at", str(error)

    def _attempts(self, task: Task) -> Iterator[tuple[str, str]]:
        """What bounds the attempts of a handler."""
        for member in ("timeout", "heartbeat", "concurrency", "breaker"):
            called = task.handler if member in ("timeout", "heartbeat") else task.handler or task.http
            if getattr(task, member) is not None and called is None:
                hint = ": say http.timeout" if member == "timeout" and task.http is not None else ""
                yield member, f"is about a handler, and there is none{hint}"
        for member, length in (("timeout", task.timeout), ("heartbeat", task.heartbeat)):
            if length is not None and length <= 0:
                yield member, "must be longer than nothing"
        if task.timeout is not None and task.heartbeat is not None and task.heartbeat > task.timeout:
            silence, whole = format_duration(task.heartbeat), format_duration(task.timeout)
            yield "heartbeat", f"a silence of {silence} is longer than the whole attempt may take, {whole}"

    def _check_multiple(self, task: str, multiple: Multiple) -> None:
        def add(member: str, message: str) -> None:
            self._add(("tasks", task, "multiple", *([member] if member else [])), message)

        count, minimum, maximum = multiple.count, multiple.minimum, multiple.maximum
        if (count is None) == (multiple.for_each is None):
            add("", "needs count or for_each" if count is None else "has count and for_each, and may have one")
        if minimum is not None and maximum is not None and minimum > maximum:
            add("minimum", f"{minimum} is more than the maximum, {maximum}")
        elif isinstance(count, int):
            if minimum is not None and count < minimum:
                add("count", f"{count} is less than the minimum, {minimum}")
            if maximum is not None and count > maximum:
                add("count", f"{count} is more than the maximum, {maximum}")
        if multiple.threshold is not None and multiple.until is not None:
            add("until", "cannot stand together with threshold: completed >= ... says the same in until")
        if multiple.detached and multiple.creation is Creation.DYNAMIC:
            add("creation", "detached instances are independent at once, so none can be added: static only")
        place = inside(inside(inside(self.place, "tasks"), task), "multiple")
        for member, text, variables in (
            ("count", count, _DATA),
            ("for_each", multiple.for_each, _DATA),
            ("until", multiple.until, _COUNTS),
        ):
            if isinstance(text, str):
                self._check_expression(inside(place, member), text, variables)
