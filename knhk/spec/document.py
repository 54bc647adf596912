"""The document format: a specification as a tree of JSON values, read and written.

Reading is strict (no unknown members, no silent conversions) and notes everything that is wrong, each with its place.
It looks at the form alone; `knhk.spec.wellformed` looks at what the nets say.
Writing is canonical: tasks, conditions and flows are lists, defaults are left out, durations have their largest exact
unit.
So reading what was written gives the same specification, and writing what was read gives one tree for all spellings.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs

from knhk.errors import Problem
from knhk.spec._manual import make as _make
from knhk.spec._manual import manual as _manual
from knhk.spec._metrics import read_metrics
from knhk.spec._wildcards import expanded
from knhk.spec._worklets import exlet, worklet
from knhk.spec.durations import format_duration
from knhk.spec.model import (
    CatchUp,
    Compensate,
    Condition,
    Creation,
    Deadline,
    DeadlineFrom,
    External,
    Flow,
    Http,
    Join,
    Moment,
    Multiple,
    Net,
    PartialJoin,
    Remaining,
    Retry,
    Schedule,
    SpecificationData,
    Split,
    Task,
    Termination,
    Trigger,
    TriggerMode,
)
from knhk.spec.places import inside, listed, shown
from knhk.spec.repeats import is_moment, parse_repeat
from knhk.spec.templates import HEADER_NAME, METHODS
from knhk.spec.values import (
    BAD,
    CONDITION_ID,
    MAX_ELEMENTS,
    MAX_FLOWS,
    MAX_MAPPED,
    SPECIFICATION_ID,
    SUBNET_NAME,
    TASK_ID,
    VERSION,
    Member,
    Members,
    Read,
    Reading,
    WrittenNumber,
    choice,
    described,
    duration,
    name,
    names,
    number,
    text,
    truth,
    whole,
)

# --- reading ----------------------------------------------------------------------------------------------------------


def _same(**reads: Read) -> dict[str, Member]:
    """Members that have the name of their attribute."""
    return {each: Member(each, read) for each, read in reads.items()}


def _version(reading: Reading, value: object, place: str) -> Any:
    """A version may be written as a number, and keeps its spelling."""
    if isinstance(value, WrittenNumber):
        value = value.spelling
    elif isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**18 else value
    return _VERSION(reading, value, place)


_VERSION = name(pattern=VERSION)
_NAME = name()
_REFERENCES = names(name())

_PARTIAL: Members = {"partial": Member("required", whole(1)), "cancels": Member("cancels", _REFERENCES)}
_EXTERNAL: Members = _same(topic=_NAME, timeout=duration)
_TRIGGER: Members = _same(event=_NAME, mode=choice(TriggerMode), correlate=text())


def _jitter(reading: Reading, value: object, place: str) -> Any:
    parts = {"full": 1.0, "none": 0.0}
    return parts[value] if isinstance(value, str) and value in parts else number(0, 1)(reading, value, place)


_DEADLINE: Members = {"after": Member("after", duration), "from": Member("since", choice(DeadlineFrom))}


def _errors(reading: Reading, value: object, place: str) -> Any:
    if isinstance(value, list | tuple) and not value:
        return reading.refuse(place, 'names no error; "*" means any')
    return _REFERENCES(reading, [value] if isinstance(value, str) else value, place)


_RETRY: Members = _same(
    max_attempts=whole(1),
    initial=duration,
    coefficient=number(1, 1_000),
    max=duration,
    jitter=_jitter,
    deadline=duration,
    non_retryable=_REFERENCES,
)


def _join(reading: Reading, value: object, place: str) -> Any:
    if isinstance(value, Mapping):
        return _make(PartialJoin, reading, value, place, _PARTIAL, "partial")
    joins = {each.value: each for each in Join}
    if isinstance(value, str) and value in joins:
        return joins[value]
    return reading.refuse(place, f'must be {listed([*joins])}, or a map with "partial", not {described(value)}')


def _external(reading: Reading, value: object, place: str) -> Any:
    tree = {"topic": value} if isinstance(value, str) else value
    return _make(External, reading, tree, place, _EXTERNAL, "topic")


def _trigger(reading: Reading, value: object, place: str) -> Any:
    tree = {"event": value} if isinstance(value, str) else value
    return _make(Trigger, reading, tree, place, _TRIGGER, "event")


def _timer(reading: Reading, value: object, place: str) -> Any:
    if isinstance(value, Mapping):
        return _make(Moment, reading, value, place, _MOMENT, "at")
    return Moment(at=value) if isinstance(value, str) and is_moment(value) else duration(reading, value, place)


def _deadline(reading: Reading, value: object, place: str) -> Any:
    tree = {"after": value} if isinstance(value, str) else value
    return _make(Deadline, reading, tree, place, _DEADLINE, "after")


def _header_names(reading: Reading, value: object, place: str) -> Any:
    read = _mapping(reading, value, place)
    if read is BAD:
        return BAD
    for each in read:
        if HEADER_NAME.fullmatch(each) is None:
            return reading.refuse(inside(place, each), "is no name of a header")
    return read


def _method(reading: Reading, value: object, place: str) -> Any:
    return value if value in METHODS else reading.refuse(place, f"must be {listed(METHODS)}, not {described(value)}")


def _http(reading: Reading, value: object, place: str) -> Any:
    tree = {"url": value} if isinstance(value, str) else value
    return _make(Http, reading, tree, place, _HTTP, "url")


def _retry(reading: Reading, value: object, place: str) -> Any:
    return _make(Retry, reading, value, place, _RETRY)


def _compensate(reading: Reading, value: object, place: str) -> Any:
    tree = {"handler": value} if isinstance(value, str) else value
    return _make(Compensate, reading, tree, place, _COMPENSATE, "handler")


def _count(reading: Reading, value: object, place: str) -> Any:
    return text()(reading, value, place) if isinstance(value, str) else whole(0)(reading, value, place)


def _mapping(reading: Reading, value: object, place: str) -> Any:
    if not isinstance(value, Mapping):
        return reading.refuse(place, f"must be a map of expressions by name, not {described(value)}")
    if len(value) > MAX_MAPPED:
        return reading.refuse(place, f"{len(value):,} entries; at most {MAX_MAPPED:,} are allowed")
    before = reading.report.count
    read = {}
    for key, expression in value.items():
        if isinstance(key, str):
            read[_NAME(reading, key, inside(place, key))] = text()(reading, expression, inside(place, key))
        else:
            reading.refuse(place, f"the name of a member must be text, not {described(key)}; put it in quotes")
    return BAD if reading.report.count > before else read


def _multiple(reading: Reading, value: object, place: str) -> Any:
    return _make(Multiple, reading, value, place, _MULTIPLE)


_COMPENSATE: Members = _same(handler=_NAME, retry=_retry, timeout=duration)
_MULTIPLE: Members = _same(
    count=_count,
    for_each=text(),
    minimum=whole(0),
    maximum=whole(1),
    threshold=whole(1),
    until=text(),
    creation=choice(Creation),
    remaining=choice(Remaining),
    detached=truth,
)
_HTTP: Members = _same(
    method=_method,
    url=text(),
    headers=_header_names,
    body=text(),
    success=text(),
    result=text(),
    timeout=duration,
)
_MOMENT: Members = _same(at=text())
_TASK: Members = _same(
    id=TASK_ID,
    name=text(),
    join=_join,
    split=choice(Split),
    cancels=_REFERENCES,
    reads=_REFERENCES,
    subnet=_NAME,
    multiple=_multiple,
    trigger=_trigger,
    timer=_timer,
    handler=_NAME,
    http=_http,
    manual=_manual,
    external=_external,
    worklet=worklet,
    exlet=exlet,
    retry=_retry,
    timeout=duration,
    heartbeat=duration,
    concurrency=whole(1),
    breaker=_NAME,
    deadline=_deadline,
    requires=text(),
    ensures=text(),
    compensate=_compensate,
    replayable=truth,
    input=_mapping,
    output=_mapping,
)
_CONDITION: Members = _same(id=CONDITION_ID, name=text())
_FLOW: Members = {
    "from": Member("source", _NAME),
    "to": Member("target", _NAME),
    **_same(when=text(), default=truth, weight=whole(1), on_error=_errors),
}
_ELEMENTS: Mapping[type, Members] = {Task: _TASK, Condition: _CONDITION, Flow: _FLOW}


class _NetReading:
    """One net while it is read: its elements, kept even where something in them is wrong, so that flows find them."""

    def __init__(self, reading: Reading, place: str) -> None:
        self.reading = reading
        self.place = place

    def lose(self, place: str, message: str) -> Any:
        """An element that cannot be read at all."""
        self.reading.incomplete.add(self.place)
        return self.reading.refuse(place, message)

    def element(self, kind: type, tree: object, place: str, **kept: str) -> Any:
        """A task, condition or flow; what was refused in it is left out, and the element is marked as damaged."""
        before = self.reading.report.count
        values = self.reading.members(tree, place, _ELEMENTS[kind])
        if self.reading.report.count > before:
            self.reading.damaged.add(place)
        return kind(**{**({} if values is BAD else values), **kept})

    def identified(self, kind: type, trees: object, place: str) -> Any:
        """Tasks or conditions: a list of them, or a map by id."""
        if isinstance(trees, Mapping):
            entries = [(f"{place}[{number}]", *each) for number, each in enumerate(trees.items())]
        elif isinstance(trees, list | tuple):
            entries = [(f"{place}[{number}]", None, each) for number, each in enumerate(trees)]
        else:
            return self.lose(place, f"must be a list, or a map by id, not {described(trees)}")
        if len(entries) > MAX_ELEMENTS:
            return self.lose(place, f"{len(entries):,} entries; at most {MAX_ELEMENTS:,} are allowed")
        read = [self._one(kind, place, *entry) for entry in entries]
        return tuple(each for each in read if each is not BAD)

    def _one(self, kind: type, place: str, here: str, key: object, tree: object) -> Any:
        bare = kind is Condition and key is None
        if isinstance(tree, str) and bare:
            tree = {"id": tree}
        if tree is None and key is not None:
            tree = {}
        if not isinstance(tree, Mapping):
            form = "a map of members or only an id" if bare else "a map of members"
            return self.lose(here, f"must be {form}, not {described(tree)}")
        if key is None and "id" not in tree:
            return self.lose(here, 'the member "id" is missing')
        identity = tree["id"] if key is None else key
        if not isinstance(identity, str):
            return self.lose(inside(here, "id"), f"must be text, not {described(identity)}; put it in quotes")
        here = inside(place, identity)
        if key is not None and tree.get("id", key) != key:
            return self.lose(inside(here, "id"), f"is {described(tree['id'])}, but the map says {described(key)}")
        return self.element(kind, {**tree, "id": identity}, here, id=identity)

    def flows(self, trees: object, place: str) -> Any:
        """The flows, in their order."""
        if not isinstance(trees, list | tuple):
            return self.lose(place, f"must be a list, not {described(trees)}")
        if len(trees) > MAX_FLOWS:
            return self.lose(place, f"{len(trees):,} flows; at most {MAX_FLOWS:,} are allowed")
        read = []
        for position, tree in enumerate(trees):
            here = f"{place}[{position}]"
            source, target = (tree.get("from"), tree.get("to")) if isinstance(tree, Mapping) else (None, None)
            if isinstance(source, str) and isinstance(target, str):
                read.append(self.element(Flow, tree, here, source=source, target=target))
            else:
                self.reading.incomplete.add(self.place)
                self.reading.members(tree, here, _FLOW, required=("from", "to"))
        return tuple(read)

    def table(self) -> Members:
        """The members of a net."""
        return _same(
            tasks=lambda _, trees, place: self.identified(Task, trees, place),
            conditions=lambda _, trees, place: self.identified(Condition, trees, place),
            flows=lambda _, trees, place: self.flows(trees, place),
            termination=choice(Termination),
        )


_NET_ATTRIBUTES = frozenset(each.name for each in attrs.fields(Net))


def _net(reading: Reading, tree: object, place: str) -> Net:
    """One subnet; an empty net, marked as incomplete, where it cannot be read."""
    values = reading.members(tree, place, _NetReading(reading, place).table())
    if values is BAD:
        reading.incomplete.add(place)
        return Net()
    if isinstance(tree, Mapping) and len(values) < len(tree):
        reading.incomplete.add(place)
    return Net(**expanded(values))


def _subnets(reading: Reading, value: object, place: str) -> Any:
    if not isinstance(value, Mapping):
        return reading.refuse(place, f"must be a map of nets by name, not {described(value)}")
    if len(value) > MAX_ELEMENTS:
        return reading.refuse(place, f"{len(value):,} entries; at most {MAX_ELEMENTS:,} are allowed")
    nets = {}
    for key, tree in value.items():
        if isinstance(key, str):
            SUBNET_NAME(reading, key, inside(place, key))
            nets[key] = _net(reading, tree, inside(place, key))
        else:
            reading.refuse(place, f"the name of a subnet must be text, not {described(key)}; put it in quotes")
    return nets


def _data(reading: Reading, value: object, place: str) -> Any:
    if not isinstance(value, Mapping):
        return reading.refuse(place, f"must be a JSON Schema, which is a map, not {described(value)}")
    return reading.json(value, place)


def _repeat(reading: Reading, value: object, place: str) -> Any:
    read = text()(reading, value, place)
    if read is BAD:
        return BAD
    try:
        parse_repeat(read)
    except ValueError as error:
        return reading.refuse(place, f"{shown(read)} is no repeating interval: {error}")
    return read


def _first_data(reading: Reading, value: object, place: str) -> Any:
    if not isinstance(value, Mapping):
        return reading.refuse(place, f"must be a map, not {described(value)}")
    return reading.json(value, place)


def _schedule(reading: Reading, value: object, place: str) -> Any:
    tree = {"cron": value} if isinstance(value, str) else value
    return _make(Schedule, reading, tree, place, _SCHEDULE)


_SCHEDULE: Members = _same(
    cron=_NAME, every=duration, repeat=_repeat, zone=_NAME, data=_first_data, time=_NAME, catch_up=choice(CatchUp)
)


@attrs.frozen(kw_only=True)
class Draft:
    """
    What reading a document gave, findings included.

    Args:
        attributes: the keyword arguments for a `SpecificationData`, as far as they could be read.
        problems: what is wrong with the form.
        damaged: places of elements of which something could not be read.
        incomplete: places of nets of which more could not be read; the root net's is ``""``.
    """

    attributes: dict[str, Any]
    problems: tuple[Problem, ...]
    damaged: frozenset[str]
    incomplete: frozenset[str]


_BESIDE = frozenset({"id", "name", "version", "data", "schedule", "metrics"})
"""The members that are no part of the root net, and whose faults say nothing of it."""


def read_document(tree: object) -> Draft:
    """
    Read a document tree as far as it can be read.

    Args:
        tree: what a JSON or YAML text gave, or a dict written in Python.
    """
    reading = Reading()
    table: dict[str, Member] = {
        **_same(
            id=name(pattern=SPECIFICATION_ID),
            name=text(),
            version=_version,
            subnets=_subnets,
            data=_data,
            schedule=_schedule,
            metrics=read_metrics,
        ),
        **_NetReading(reading, "").table(),
    }
    values = reading.members(tree, "", table, required=("id",))
    values = {} if values is BAD else values
    if isinstance(tree, Mapping) and not tree.keys() <= values.keys() | _BESIDE:
        reading.incomplete.add("")
    net = {each: values.pop(each) for each in _NET_ATTRIBUTES if each in values}
    return Draft(
        attributes={"id": "", **values, "root": Net(**expanded(net))},
        problems=reading.report.problems(),
        damaged=frozenset(reading.damaged),
        incomplete=frozenset(reading.incomplete),
    )


# --- writing ----------------------------------------------------------------------------------------------------------

_DURATIONS = frozenset({"timer", "timeout", "heartbeat", "initial", "max", "deadline", "after", "every"})
_WIRE_NAMES = {"source": "from", "since": "from", "target": "to", "required": "partial"}


def write_members(element: attrs.AttrsInstance) -> dict[str, Any]:
    """One object of the model as a map: names and durations as they are written, defaults left out."""
    written = {}
    for each in attrs.fields(type(element)):
        value = getattr(element, each.name)
        if value != each.default:
            written[_WIRE_NAMES.get(each.name, each.name)] = _write(value, is_duration=each.name in _DURATIONS)
    return written


def _write(value: Any, *, is_duration: bool = False) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_write(each) for each in value]
    if attrs.has(type(value)):
        return write_members(value)
    if isinstance(value, Mapping) and any(attrs.has(type(each)) for each in value.values()):
        return {name: _write(each) for name, each in value.items()}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return format_duration(value) if is_duration else value


def to_document(specification: SpecificationData) -> dict[str, Any]:
    """The canonical document of a specification, in the order of the format's description."""
    written: dict[str, Any] = {"id": specification.id}
    if specification.name:
        written["name"] = specification.name
    if specification.version != "1":
        written["version"] = specification.version
    written |= write_members(specification.root)
    if specification.subnets:
        written["subnets"] = {each: write_members(net) for each, net in specification.subnets.items()}
    if specification.data is not None:
        written["data"] = _copied(specification.data)
    if specification.schedule is not None:
        written["schedule"] = _copied(write_members(specification.schedule))
    if specification.metrics:
        written["metrics"] = [write_members(each) for each in specification.metrics]
    return written


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {each: _copied(item) for each, item in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list | tuple) else value
