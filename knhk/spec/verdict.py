"""What a verifier says of a specification: the verdict, its problems with their counterexamples, and what may be spent on it.

These are data alone; `knhk.analysis` decides.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from knhk.errors import Problem

Answer = Literal["sound", "unsound", "undecided"]
"""Whether it is sound, as far as anybody looked."""


@attrs.frozen(kw_only=True)
class Budget:
    """
    How much may be spent on one specification, all its nets together.

    Args:
        states: states to look at.
        seconds: time to take, about.
    """

    states: int = attrs.field(default=2_000_000, validator=attrs.validators.ge(1))
    seconds: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))


class ProblemKind(enum.Enum):
    """Which property does not hold."""

    OPTION_TO_COMPLETE = "option-to-complete"
    IMPROPER_COMPLETION = "improper-completion"
    DEAD_TASK = "dead-task"
    UNBOUNDED = "unbounded"


@attrs.frozen(kw_only=True)
class Step:
    """
    One step of a counterexample.

    Args:
        task: whose step it is.
        action: ``start``, ``complete``; ``fire`` for both at once, where nothing can come between;
            ``pass on`` and ``release`` for a task whose instances run on after control has passed.
        marks: the conditions that the step puts tokens on.
    """

    task: str
    action: str
    marks: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = self.task if self.action == "fire" else f"{self.action} {self.task}"
        return f"{name} -> {', '.join(self.marks)}" if self.marks else name


@attrs.frozen(kw_only=True)
class SoundnessProblem:
    """
    One property that does not hold, with a run that shows it.

    Args:
        kind: the property.
        net: the name of the net; ``""`` is the root net.
        element: the task or condition to look at.
        message: what is so, for people.
        trace: the shortest run to a state that shows it; empty for a dead task, which no run shows.
        marking: the tokens of that state by condition.
        running: the tasks that run in it.
    """

    kind: ProblemKind
    net: str
    element: str
    message: str
    trace: tuple[Step, ...] = ()
    marking: Mapping[str, int] = attrs.field(factory=dict)
    running: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON tree."""
        return {
            "kind": self.kind.value,
            "net": self.net,
            "element": self.element,
            "message": self.message,
            "trace": [{"task": s.task, "action": s.action, "marks": list(s.marks)} for s in self.trace],
            "marking": dict(self.marking),
            "running": list(self.running),
        }


@attrs.frozen(kw_only=True)
class NetVerdict:
    """
    What was found of one net.

    Args:
        net: its name; ``""`` is the root net.
        verdict: ``sound``, ``unsound`` or ``undecided``.
        structural: whether its structure alone told, without looking at states.
        states: how many states were looked at.
        bound: the most tokens that a condition can hold (1: the net is safe); None if that is not known, or unbounded.
        problems: the properties that do not hold.
        reasons: why it is undecided, or why there may be more problems.
    """

    net: str
    verdict: Answer
    structural: bool
    states: int
    bound: int | None
    problems: tuple[SoundnessProblem, ...] = ()
    reasons: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Verdict:
    """
    What was found of a specification: `nets` has its parts.

    Args:
        verdict: ``unsound`` if some net is; else ``undecided`` if some net is; else ``sound``.
        nets: the verdicts on its nets, the root net first.
        warnings: what is not unsound and yet worth a look, with its place.
        seconds: how long it took.
    """

    verdict: Answer
    nets: tuple[NetVerdict, ...]
    warnings: tuple[Problem, ...] = ()
    seconds: float = 0.0

    @property
    def problems(self) -> tuple[SoundnessProblem, ...]:
        """The properties that do not hold, over all nets."""
        return tuple(problem for net in self.nets for problem in net.problems)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is undecided, or why there may be more problems; over all nets."""
        return tuple(f"{where(each.net)}: {reason}" for each in self.nets for reason in each.reasons)

    @property
    def states(self) -> int:
        """How many states were looked at."""
        return sum(net.states for net in self.nets)

    @property
    def bound(self) -> int | None:
        """The most tokens that a condition of any net can hold; None if that is not known, or unbounded."""
        bounds = [net.bound for net in self.nets]
        return None if None in bounds else max((each for each in bounds if each is not None), default=1)

    @property
    def structural(self) -> bool:
        """Whether structure alone told, without looking at states."""
        return all(net.structural for net in self.nets)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON tree."""
        return {
            "verdict": self.verdict,
            "problems": [problem.to_dict() for problem in self.problems],
            "warnings": [{"place": each.place, "message": each.message} for each in self.warnings],
            "reasons": list(self.reasons),
            "states": self.states,
            "bound": self.bound,
            "structural": self.structural,
            "seconds": self.seconds,
        }


def where(net: str) -> str:
    """Return a net as people say it."""
    return f"subnet {net!r}" if net else "the root net"
