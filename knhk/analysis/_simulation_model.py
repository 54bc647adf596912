"""What a simulation assumes: durations, probabilities, arrivals, resources; read strictly, every problem with its place."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from knhk.errors import ModelError, ParseError
from knhk.spec.durations import MAX_DURATION, parse_duration
from knhk.spec.files import read_file
from knhk.spec.json_text import read_json
from knhk.spec.places import inside, listed, shown
from knhk.spec.values import BAD, Member, Members, Read, Reading, described, name, number, whole
from knhk.spec.yaml_text import read_yaml

MAX_SECONDS: Final = MAX_DURATION / 1000
"""The longest duration in seconds: a hundred years."""

MAX_CAPACITY: Final = 1_000_000
"""The most units that a resource may have."""

MAX_INSTANCES: Final = 100_000
"""The most instances that one activation of a multiple-instance task may have."""

MAX_STEPS: Final = 100_000
"""Without another bound: how many starts of tasks and instances, and attempts after the first, a case may have."""

FAILED: Final = "Failed"
"""The name of an error that the model does not name."""


class Shape(enum.IntEnum):
    """The family of a distribution; the numbers are what the event loop reads."""

    CONSTANT = 0
    EXPONENTIAL = 1
    UNIFORM = 2
    TRIANGULAR = 3
    NORMAL = 4
    LOGNORMAL = 5
    NEVER = 6


@attrs.frozen
class Distribution:
    """
    How a duration is drawn; everything is in seconds.

    Args:
        shape: which family.
        a, b, c: its parameters: the value (constant); the mean (exponential); least and most (uniform); least, most likely
            and most (triangular); mean and standard deviation before the truncation at 0 (normal, by drawing again); mean
            and standard deviation of the logarithm (lognormal).
    """

    shape: Shape
    a: float = 0.0
    b: float = 0.0
    c: float = 0.0

    @property
    def mean(self) -> float:
        """The mean in seconds; of a truncated normal one, that after the truncation; infinite for what never comes."""
        match self.shape:
            case Shape.UNIFORM:
                return (self.a + self.b) / 2
            case Shape.TRIANGULAR:
                return (self.a + self.b + self.c) / 3
            case Shape.NORMAL if self.b > 0:
                low = -self.a / self.b
                density = math.exp(-low * low / 2) / math.sqrt(2 * math.pi)
                return self.a + self.b * density / (0.5 * math.erfc(low / math.sqrt(2)))
            case Shape.LOGNORMAL:
                return math.exp(self.a + self.b * self.b / 2)
            case Shape.NEVER:
                return math.inf
            case _:
                return self.a


AT_ONCE: Final = Distribution(Shape.CONSTANT)
"""The duration 0."""


class Arrivals(enum.Enum):
    """How cases come."""

    ONE_BY_ONE = "one by one"
    AT_ONCE = "at once"
    EVERY = "every"
    RATE = "rate"


@attrs.frozen
class Arrival:
    """
    When cases start; the first one at time 0.

    Args:
        kind: each when the one before has ended, all at once, at a fixed interval, or as a Poisson process.
        interval: seconds from one to the next, on average; only for the last two.
    """

    kind: Arrivals = Arrivals.ONE_BY_ONE
    interval: float = 0.0


@attrs.frozen(kw_only=True)
class TaskModel:
    """
    What a simulation assumes of one task.

    Args:
        duration: how long its work takes, for each instance; None: nothing said.
        wait: how long after it is enabled its event comes or somebody takes it up; None: nothing said.
        resource: the pool of which its work, or each instance of it, needs one unit; None: nothing said.
        instances: for a multiple-instance task, how many start, with their probabilities; empty: nothing said.
        fails: the names of the errors that an attempt at its work may end with, and their probabilities; empty: nothing said.
    """

    duration: Distribution | None = None
    wait: Distribution | None = None
    resource: str | None = None
    instances: tuple[tuple[int, float], ...] = ()
    fails: tuple[tuple[str, float], ...] = ()


@attrs.frozen(kw_only=True)
class NetModel:
    """Tasks by id, and probabilities of flows by label (``check -> waiting``), of one net."""

    tasks: Mapping[str, TaskModel] = attrs.field(factory=dict)
    flows: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class SimulationModel:
    """
    What a simulation assumes of a specification; everything that is left out has a stated default.

    Args:
        root: the root net's tasks and flows.
        subnets: those of the subnets, by name.
        resources: how many units each pool has.
        arrival: when cases start.
        max_time: seconds after which a case is cut off.
        max_steps: how many starts of tasks and instances a case may have before it is cut off.
    """

    root: NetModel = NetModel()
    subnets: Mapping[str, NetModel] = attrs.field(factory=dict)
    resources: Mapping[str, int] = attrs.field(factory=dict)
    arrival: Arrival | None = None
    max_time: float = math.inf
    max_steps: int = MAX_STEPS

    @classmethod
    def load(cls, path: str | Path) -> SimulationModel:
        """
        Load a file that ends in ``.json``, ``.yaml`` or ``.yml``.

        Raises:
            OSError: the file cannot be read.
            ModelError: it is not a model; `problems` has every finding with its place.
            MissingExtra: it is YAML, and PyYAML is not installed.
        """
        try:
            tree = read_file(path)
        except ParseError as error:
            raise ModelError(error.problems) from error
        return cls.from_dict(tree)

    @classmethod
    def from_json(cls, text: str | bytes) -> SimulationModel:
        """Read a JSON text; raises as `load`."""
        try:
            tree = read_json(text)
        except ParseError as error:
            raise ModelError(error.problems) from error
        return cls.from_dict(tree)

    @classmethod
    def from_yaml(cls, text: str | bytes) -> SimulationModel:
        """Read a YAML text; raises as `load`."""
        try:
            tree = read_yaml(text)
        except ParseError as error:
            raise ModelError(error.problems) from error
        return cls.from_dict(tree)

    @classmethod
    def from_dict(cls, tree: object) -> SimulationModel:
        """Read a document tree of JSON values; raises as `load`."""
        reading = Reading()
        values = reading.members(tree, "", _MODEL)
        if reading.report.count:
            raise ModelError(reading.report.problems())
        net = NetModel(tasks=values.pop("tasks", {}), flows=values.pop("flows", {}))
        return cls(root=net, **values)


# --- readers ----------------------------------------------------------------------------------------------------------


def _seconds(reading: Reading, value: object, place: str) -> Any:
    """A duration (``"30s"``) or a number of seconds, as seconds."""
    if isinstance(value, str):
        try:
            return parse_duration(value) / 1000
        except ValueError as error:
            return reading.refuse(place, f"{shown(value)} is not a duration: {error}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = f'must be a duration such as "30s" or a number of seconds, not {described(value)}'
        return reading.refuse(place, message)
    if not 0 <= value <= MAX_SECONDS:
        return reading.refuse(place, f"must be 0 to {MAX_SECONDS:,.0f} seconds, not {described(value)}")
    return float(value)


def _positive_seconds(reading: Reading, value: object, place: str) -> Any:
    seconds = _seconds(reading, value, place)
    return reading.refuse(place, "must be longer than 0") if seconds == 0 else seconds


def _parameters(*names: str) -> Members:
    return {each: Member(each, _seconds) for each in names}


_SHAPES: Final[Mapping[str, Members]] = {
    "uniform": _parameters("min", "max"),
    "triangular": _parameters("min", "mode", "max"),
    "normal": _parameters("mean", "deviation"),
    "lognormal": _parameters("mean", "deviation"),
}
_SHAPE_NAMES: Final = ("constant", "exponential", *_SHAPES)


def _distribution(reading: Reading, value: object, place: str) -> Any:
    """A duration, or a map with the name of a distribution and its parameters."""
    if not isinstance(value, Mapping):
        seconds = _seconds(reading, value, place)
        return BAD if seconds is BAD else Distribution(Shape.CONSTANT, seconds)
    if len(value) != 1 or next(iter(value)) not in _SHAPE_NAMES:
        return reading.refuse(place, f"must be a duration, or a map with one of {listed(_SHAPE_NAMES)}")
    ((shape, parameters),) = value.items()
    here = inside(place, shape)
    if shape in ("constant", "exponential"):
        seconds = _seconds(reading, parameters, here)
        return BAD if seconds is BAD else Distribution(Shape[shape.upper()], seconds)
    before = reading.report.count
    values = reading.members(parameters, here, _SHAPES[shape], required=tuple(_SHAPES[shape]))
    if reading.report.count > before:
        return BAD
    return _shaped(reading, shape, list(map(values.__getitem__, _SHAPES[shape])), here)


def _shaped(reading: Reading, shape: str, values: Sequence[float], place: str) -> Any:
    if shape == "lognormal":
        mean, deviation = values
        if not mean:
            return reading.refuse(inside(place, "mean"), "must be longer than 0")
        variance = math.log1p((deviation / mean) ** 2)
        return Distribution(Shape.LOGNORMAL, math.log(mean) - variance / 2, math.sqrt(variance))
    if shape != "normal" and list(values) != sorted(values):
        return reading.refuse(place, f"its parameters must ascend: {', '.join(_SHAPES[shape])}")
    return Distribution(Shape[shape.upper()], *values)


def _wait(reading: Reading, value: object, place: str) -> Any:
    return Distribution(Shape.NEVER) if value == "never" else _distribution(reading, value, place)


def _instances(reading: Reading, value: object, place: str) -> Any:
    """A number of instances, or numbers with their probabilities."""
    if not isinstance(value, Mapping):
        count = whole(0, MAX_INSTANCES)(reading, value, place)
        return BAD if count is BAD else ((count, 1.0),)
    pairs: dict[int, float] = {}
    before = reading.report.count
    for text, probability in value.items():
        count = int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 10 else text
        here = inside(place, str(text))
        count = whole(0, MAX_INSTANCES)(reading, count, here)
        weight = number(0, 1)(reading, probability, here)
        if count in pairs:
            reading.report.add(here, f"{count} is there twice")
        elif count is not BAD and weight is not BAD:
            pairs[count] = weight
    if reading.report.count > before:
        return BAD
    total = math.fsum(pairs.values())
    if not total:
        return reading.refuse(place, "one number of instances must have a probability above 0")
    return tuple((count, weight / total) for count, weight in sorted(pairs.items()) if weight)


def _fails(reading: Reading, value: object, place: str) -> Any:
    """A probability, or errors with their probabilities."""
    one = number(0, 1)
    if not isinstance(value, Mapping):
        probability = one(reading, value, place)
        return BAD if probability is BAD else ((FAILED, probability),)
    before = reading.report.count
    pairs = [
        (name()(reading, each, place), one(reading, probability, inside(place, str(each))))
        for each, probability in value.items()
    ]
    return BAD if reading.report.count > before else tuple(pairs)


def _by_name(one: Read, what: str) -> Read:
    def read(reading: Reading, value: object, place: str) -> Any:
        if not isinstance(value, Mapping):
            return reading.refuse(place, f"must be a map of {what}, not {described(value)}")
        read = {}
        for key, each in value.items():
            if not isinstance(key, str):
                reading.report.add(place, f"a name must be text, not {described(key)}; put it in quotes")
                continue
            read[key] = one(reading, each, inside(place, key))
        return read

    return read


def _task(reading: Reading, value: object, place: str) -> Any:
    before = reading.report.count
    values = reading.members(value, place, _TASK)
    return BAD if reading.report.count > before else TaskModel(**values)


def _net(reading: Reading, value: object, place: str) -> Any:
    values = reading.members(value, place, _NET)
    return BAD if values is BAD else NetModel(**values)


def _arrival(reading: Reading, value: object, place: str) -> Any:
    """Text for the two kinds that need no number, else a map."""
    if value in (Arrivals.ONE_BY_ONE.value, Arrivals.AT_ONCE.value):
        return Arrival(Arrivals(value))
    if not isinstance(value, Mapping):
        message = (
            f'must be "one by one", "at once", {{"every": "5m"}} or {{"rate": 12, "per": "1h"}}, not {described(value)}'
        )
        return reading.refuse(place, message)
    before = reading.report.count
    values = reading.members(value, place, _ARRIVAL)
    if reading.report.count > before:
        return BAD
    if ("every" in values) == ("rate" in values) or ("per" in values and "rate" not in values):
        return reading.refuse(place, 'needs either "every", or "rate" and perhaps "per"')
    if "every" in values:
        return Arrival(Arrivals.EVERY, values["every"])
    return Arrival(Arrivals.RATE, values.get("per", 1.0) / values["rate"])


_TASK: Final[Members] = {
    "duration": Member("duration", _distribution),
    "wait": Member("wait", _wait),
    "resource": Member("resource", name()),
    "instances": Member("instances", _instances),
    "fails": Member("fails", _fails),
}
_NET: Final[Members] = {
    "tasks": Member("tasks", _by_name(_task, "tasks by id")),
    "flows": Member("flows", _by_name(number(0, 1), 'probabilities by flow, such as "check -> waiting"')),
}
_ARRIVAL: Final[Members] = {
    "every": Member("every", _positive_seconds),
    "rate": Member("rate", number(1e-9, 1e9)),
    "per": Member("per", _positive_seconds),
}
_MODEL: Final[Members] = {
    **_NET,
    "subnets": Member("subnets", _by_name(_net, "nets by name")),
    "resources": Member("resources", _by_name(whole(1, MAX_CAPACITY), "capacities by resource")),
    "arrival": Member("arrival", _arrival),
    "max_time": Member("max_time", _positive_seconds),
    "max_steps": Member("max_steps", whole(1, 2**31 - 1)),
}
