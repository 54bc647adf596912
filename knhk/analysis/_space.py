"""The states of a net, reference version: the relation on `knhk._kernel.Marking`, searched breadth first.

`ReferenceExplorer` is the definition, the oracle in tests, and what is used where nothing could be compiled.
`knhk._hot.explore` does the same on packed words, in the same order: states have the same numbers.

A *move* is one of

- ``fire``: a fused or a detached task takes, and puts at once;
- ``start``, ``complete``: of every other task;
- ``pass on``, ``release``: of a multiple-instance task that passes control while instances run on, and their end (rule 6).

A state in which the net has ended (rule 8) has no move, and while an urgent move is possible there is no other
(`knhk.analysis._relation`).  Where an urgent OR-join cannot be decided, nothing is known of what comes next: there is no move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import attrs

from knhk._kernel import BUSY, DRAINING, IDLE, Marking, Net
from knhk._tables import OUTPUT
from knhk.analysis._relation import Choice, Relation

DONE: Final = 0
"""Every state is expanded."""

LIMIT: Final = 1
"""As many states as asked for are expanded."""

RECORD: Final = 2
"""A condition holds more tokens than the ceiling; `Explorer.record` is the state."""

UNSAFE: Final = 3
"""A second token came where this explorer has one bit for it: begin again with a general one."""

MOST: Final = 255
"""Tokens that a condition may hold; states with more are not followed, and the search is not complete."""

State = tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]
"""Tokens by condition, status by task, and what the partial joins in a round have seen."""


@attrs.frozen
class Move:
    """One move: what is done, by which task, and on which positions of its ``outputs`` it puts."""

    action: str
    task: int
    chosen: Choice = ()


class Explorer(Protocol):
    """
    A search through the states of one net.

    Attributes:
        count, expanded: how many states are known, and how many were expanded; they are numbered as they were found.
        edges: how many moves were made.
        improper: the first state that has ended with something left, or -1.
        stuck: the first state that has not ended and has no move, or -1.
        started: the tasks that were started.
        most: by condition, the most tokens that were seen.
        undecided: OR-joins whose search met its budget somewhere; moves may be missing there.
        cut: whether states with more than `MOST` tokens on a condition were left out.
        record: the state that exceeded the ceiling, or -1.
        ceiling: tokens on a condition above which `run` comes back.
    """

    ceiling: int

    @property
    def count(self) -> int:
        """How many states are known."""
        ...

    @property
    def expanded(self) -> int:
        """How many states were expanded."""
        ...

    @property
    def edges(self) -> int:
        """How many moves were made."""
        ...

    @property
    def improper(self) -> int:
        """The first state that has ended with something left, or -1."""
        ...

    @property
    def stuck(self) -> int:
        """The first state that has not ended and has no move, or -1."""
        ...

    @property
    def started(self) -> frozenset[int]:
        """The tasks that were started."""
        ...

    @property
    def most(self) -> Sequence[int]:
        """By condition, the most tokens that were seen."""
        ...

    @property
    def undecided(self) -> frozenset[int]:
        """OR-joins whose search met its budget somewhere."""
        ...

    @property
    def cut(self) -> bool:
        """Whether states were left out."""
        ...

    @property
    def record(self) -> int:
        """The state that exceeded the ceiling, or -1."""
        ...

    def run(self, states: int) -> int:
        """Expand up to that many more states; returns `DONE`, `LIMIT`, `RECORD` or `UNSAFE`."""
        ...

    def state(self, number: int) -> State:
        """Return a state."""
        ...

    def predecessor(self, number: int) -> int:
        """Return the state from which a state was first found; -1 for the first one."""
        ...

    def doomed(self) -> int:
        """Return the first state from which no end can be reached, whatever was not looked at; -1: there is none."""
        ...


def state_of(marking: Marking) -> State:
    """Return what a marking is in."""
    return tuple(marking.tokens), tuple(marking.status), tuple(sorted(marking.seen.items()))


def is_improper(relation: Relation, state: State) -> bool:
    """
    Whether something is left in a state that has ended: a token elsewhere, more than one in ``end``, a running task.

    What drains has passed control, and is not counted; with implicit termination nothing can be left.
    """
    tokens, status, _ = state
    return not relation.tables.implicit and (sum(tokens) != 1 or tokens[OUTPUT] != 1 or BUSY in status)


class Moves:
    """
    The moves from states, straight from the kernel.

    Args:
        relation: what may happen.
        net: the net with its OR-join analysis.
    """

    def __init__(self, relation: Relation, net: Net) -> None:
        self.relation = relation
        self._marking = Marking(net)
        self.undecided: frozenset[int] = frozenset()
        """OR-joins that could not be decided in the state last expanded."""

    def first(self) -> State:
        """Return the state with which the net begins."""
        return state_of(Marking(self._marking.net))

    def has_ended(self, state: State) -> bool:
        """Whether the net has ended."""
        self._marking.restore(state[0], state[1], dict(state[2]))
        return self._marking.has_ended()

    def of(self, state: State) -> Iterator[tuple[Move, State]]:
        """Yield the moves from a state, each with where it leads; none if the net has ended."""
        self._marking.restore(state[0], state[1], dict(state[2]))
        self.undecided = frozenset()
        if self._marking.has_ended():
            return
        self.undecided = frozenset(self._marking.undecided)
        if self.undecided & self.relation.urgent_starts:
            return
        status = state[1]
        ready = set(self._marking.ready())
        urgent = bool(ready & self.relation.urgent_starts) or any(
            status[task] == BUSY and self.relation.choices[task] for task in self.relation.urgent_completions
        )
        for task in range(len(status)):
            if status[task] == IDLE and task in ready and urgent == (task in self.relation.urgent_starts):
                yield from self._starts(state, task)
            elif status[task] == BUSY and urgent == (task in self.relation.urgent_completions):
                for chosen in self.relation.choices[task]:
                    yield self._made(state, Move("complete", task, chosen))
                if task in self.relation.draining:
                    for chosen in self.relation.choices[task]:
                        yield self._made(state, Move("pass on", task, chosen))
            elif status[task] == DRAINING and not urgent:
                yield self._made(state, Move("release", task))

    def _starts(self, state: State, task: int) -> Iterator[tuple[Move, State]]:
        if task not in self.relation.fused and not self.relation.tables.table[task].detached:
            yield self._made(state, Move("start", task))
            return
        for chosen in self.relation.choices[task]:
            yield self._made(state, Move("fire", task, chosen))

    def _made(self, state: State, move: Move) -> tuple[Move, State]:
        marking = self._marking
        marking.restore(state[0], state[1], dict(state[2]))
        if move.action in ("start", "fire"):
            marking.start(move.task)
        if move.action == "complete" or move.task in self.relation.fused:
            marking.complete(move.task, move.chosen)
        elif move.action in ("pass on", "fire"):
            marking.pass_on(move.task, move.chosen)
        elif move.action == "release":
            marking.release(move.task)
        return move, state_of(marking)


class ReferenceExplorer:
    """
    The search on the reference kernel; `Explorer` says what it offers.

    Args:
        relation: what may happen.
        net: the net with its OR-join analysis.
        ceiling: tokens on a condition above which `run` comes back.
    """

    def __init__(self, relation: Relation, net: Net, *, ceiling: int = 1) -> None:
        self.ceiling = ceiling
        self.expanded = 0
        self.edges = 0
        self.improper = -1
        self.stuck = -1
        self.record = -1
        self.cut = False
        self.undecided: frozenset[int] = frozenset()
        self.started: frozenset[int] = frozenset()
        self.most = [0] * len(relation.tables.conditions)
        self._moves = Moves(relation, net)
        self._known: dict[State, int] = {}
        self._states: list[State] = []
        self._predecessors: list[int] = []
        self._successors: list[list[int]] = []
        self._safe_end: set[int] = set()  # ended, or not known well enough to say that the end is out of reach
        self._find(self._moves.first(), -1)

    @property
    def count(self) -> int:
        """How many states are known."""
        return len(self._states)

    def run(self, states: int) -> int:
        """Expand up to that many more states."""
        for _ in range(states):
            if self.expanded == len(self._states):
                return DONE
            self.record = -1
            self._expand(self.expanded)
            if self.record >= 0:
                return RECORD
        return DONE if self.expanded == len(self._states) else LIMIT

    def state(self, number: int) -> State:
        """Return a state."""
        return self._states[number]

    def predecessor(self, number: int) -> int:
        """Return the state from which a state was first found."""
        return self._predecessors[number]

    def doomed(self) -> int:
        """Return the first state from which no end can be reached."""
        before: list[list[int]] = [[] for _ in self._states]
        for number, after in enumerate(self._successors):
            for each in after:
                before[each].append(number)
        todo = [*self._safe_end, *range(self.expanded, len(self._states))]
        able = set(todo)
        while todo:
            for each in before[todo.pop()]:
                if each not in able:
                    able.add(each)
                    todo.append(each)
        return next((number for number in range(self.expanded) if number not in able), -1)

    def _expand(self, number: int) -> None:
        state = self._states[number]
        found: list[int] = []
        self._successors.append(found)
        self.expanded += 1
        if self._moves.has_ended(state):
            self._safe_end.add(number)
            if self.improper < 0 and is_improper(self._moves.relation, state):
                self.improper = number
            return
        started = set()
        for move, later in self._moves.of(state):
            if move.action in ("start", "fire"):
                started.add(move.task)
            if max(later[0]) > MOST:
                self.cut = True
                self._safe_end.add(number)
                continue
            self.edges += 1
            found.append(self._find(later, number))
        self.started |= started
        if self._moves.undecided:
            self.undecided |= self._moves.undecided
            self._safe_end.add(number)
        if not found and self.stuck < 0 and number not in self._safe_end:
            self.stuck = number

    def _find(self, state: State, before: int) -> int:
        number = self._known.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
            self._predecessors.append(before)
            for condition, count in enumerate(state[0]):
                if count > self.most[condition]:
                    self.most[condition] = count
                    if count > self.ceiling and self.record < 0:
                        self.record = number
        return number
