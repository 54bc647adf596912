"""
transitions: a state machine, in which a task is a state whose entry calls a function.

After https://github.com/pytransitions/transitions#readme ("Basic initialization", "Callbacks", "Conditional transitions"):
one `Machine` for the class, models added to it, triggers called on the model.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, ClassVar

from transitions import Machine

from benchmarks.peers.protocol import Run, Worker, expect, serve

NO_STORE = "it has no store"
ONE_STATE = "a model is in one state at a time"


class Case:
    """A model; `work` is what a task does."""

    state: str
    next: Any

    def __init__(self) -> None:
        self.turns = 0
        self.branch = 1

    def work(self) -> None:
        """Count."""
        self.turns += 1


class Transitions(Worker):
    """The library."""

    name = "transitions"
    version = version("transitions")
    absent: ClassVar[Mapping[str, str]] = {
        "parallel": ONE_STATE,
        "some": ONE_STATE,
        "instances": ONE_STATE,
        "durable": NO_STORE,
        "restart": NO_STORE,
    }

    def __init__(self) -> None:
        self._machine: Machine | None = None

    def sequence(self, size: int, _folder: str) -> Run:
        """States in a row."""
        names = [f"t{number}" for number in range(size)]
        steps = [["next", a, b] for a, b in zip(["start", *names], [*names, "end"], strict=True)]
        return _runs(names, steps)

    def choice(self, size: int, _folder: str) -> Run:
        """Conditional transitions; the second branch is taken."""
        branches = [f"b{number}" for number in range(size)]
        steps: list[Any] = [["next", "start", "fork"]]
        for number, branch in enumerate(branches):
            chosen = {"conditions": _is_branch(number)} if number < size - 1 else {}
            steps.append({"trigger": "next", "source": "fork", "dest": branch, **chosen})
        steps += [["next", branch, "join"] for branch in branches]
        return _runs(["fork", *branches, "join"], [*steps, ["next", "join", "end"]])

    def loop(self, size: int, _folder: str) -> Run:
        """A transition of a state to itself while a condition holds."""
        steps: list[Any] = [
            ["next", "start", "turn"],
            {"trigger": "next", "source": "turn", "dest": "turn", "conditions": _is_below(size)},
            ["next", "turn", "end"],
        ]
        return _runs(["turn"], steps)

    def idle(self, number: int) -> object:
        """A model in its second state."""
        if self._machine is None:
            names = ["start", "t0", "t1", "t2", "end"]
            self._machine = Machine(model=None, states=names, initial="start", auto_transitions=False)
            for a, b in itertools.pairwise(names):
                self._machine.add_transition("next", a, b)
        case = Case()
        case.order = number  # type: ignore[attr-defined]
        self._machine.add_model(case)
        case.next()
        return case


def _is_branch(number: int) -> Any:
    return [lambda event: event.model.branch == number]


def _is_below(size: int) -> Any:
    return [lambda event: event.model.turns < size]


def _runs(names: list[str], steps: list[Any]) -> Run:
    states: list[Any] = ["start", *({"name": each, "on_enter": "count"} for each in names), "end"]
    machine = Machine(
        model=None, states=states, transitions=steps, initial="start", auto_transitions=False, send_event=True
    )

    def run() -> None:
        case = Counting()
        machine.add_model(case)
        while case.state != "end":
            case.next()
        # A model that is not removed stays with its machine for ever.
        machine.remove_model(case)
        expect(case.turns)

    return run


class Counting(Case):
    """A model whose callbacks are given the event, as `send_event` has it."""

    def count(self, _event: Any) -> None:
        """Do a task's work."""
        self.work()


if __name__ == "__main__":
    serve(Transitions())
