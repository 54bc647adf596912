"""Searching the states of one net within a budget, and reading off what was found.

`search` drives an explorer: the compiled one on masks where the net has one bit a condition, the compiled general one otherwise,
and the reference one where nothing could be compiled (or no OR-split may be enumerated by it).

*Unboundedness.*  When a condition holds more tokens than ever before, the path there is looked through for two states, a before
b, with the same tasks running and the same rounds, where b has no fewer tokens anywhere and more on some conditions D.  The moves
from a to b can then be repeated for ever, if none of them would do otherwise for more tokens on D: D is emptied by none and is
not ``end``; no partial join swallows from D; each join takes from the same inputs; no OR-join among them is reached from D; and where
some moves are urgent, no task that starts urgently takes from D or reads it, so that no other moves become urgent.
Then the net is unbounded.  (With cancellation, boundedness is not decidable at all: Dufourd, Finkel & Schnoebelen 1998.  What
this test does not find ends at the budget.)
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import attrs

from knhk import _hot, _kernel
from knhk._kernel import Net
from knhk._tables import AND, OR, OUTPUT, XOR, TaskTable
from knhk.analysis._packing import Packing, pack
from knhk.analysis._relation import Relation
from knhk.analysis._space import DONE, MOST, RECORD, UNSAFE, Explorer, Move, Moves, ReferenceExplorer, State
from knhk.spec.verdict import Budget

_WORK: Final = 1 << 22
"""Moves looked at between two looks at the clock; some ten milliseconds."""

_MASK_WORDS: Final = 1 << 20
"""Words of all masks together above which the general explorer is taken: its moves need no room."""

_Decide = Callable[[int, Sequence[int], Sequence[int], Mapping[int, int]], int]

_STEP_BY_STEP: Final = 8
"""Up to here the ceiling on tokens rises by one, then it doubles."""


class Meter:
    """What is left of a budget."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.states = budget.states
        self._begun = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds spent."""
        return time.monotonic() - self._begun

    def expired(self) -> bool:
        """Whether the time is up."""
        return self.seconds() >= self.budget.seconds


@attrs.frozen
class Growth:
    """A proof that the net is unbounded: the moves from state `begin` of the path to its end can be repeated for ever."""

    path: tuple[State, ...]
    begin: int
    conditions: tuple[int, ...]


@attrs.frozen(kw_only=True)
class Explored:
    """
    What a search has come to.

    Args:
        explorer: the states.
        moves: the moves between them.
        complete: whether all states were looked at, and all moves are known.
        reasons: why it is not complete, in words.
        growth: the proof of unboundedness that ended it.
    """

    explorer: Explorer
    moves: Moves
    complete: bool
    reasons: tuple[str, ...]
    growth: Growth | None


def compiled_explorers() -> Any:
    """Return the module with the compiled explorer, or None; the switches of `knhk._hot` hold here too."""
    chosen = _hot.choose(os.environ, lambda: import_module("knhk._hot.explore"))
    return None if chosen is _kernel else chosen


def search(relation: Relation, net: Net, meter: Meter, *, compiled: Any) -> Explored:
    """
    Look at the states of a net within what is left of a budget.

    Args:
        relation: what may happen.
        net: the net with its OR-join analysis, on the reference kernel.
        meter: what is left.
        compiled: `compiled_explorers()`.
    """
    packing = None if compiled is None else _affordable(pack(relation))
    moves = Moves(relation, net)
    decide = _in_time(net.analysis.decide, meter)
    explorer = _explorer(relation, net, packing, compiled, decide)
    chunk = max(16, _WORK // (1 + _ways(relation))) if compiled is not None else 1
    before = 0
    reasons: list[str] = []
    growth = None
    while True:
        left = meter.states - before - explorer.expanded
        if left <= 0:
            reasons.append(f"the budget of {meter.budget.states:,} states is spent")
            break
        if meter.expired():
            reasons.append(f"the budget of {meter.budget.seconds:g} seconds is spent")
            break
        try:
            code = explorer.run(min(chunk, left))
        except _TimeIsUp:
            continue
        if code == UNSAFE:
            before += explorer.expanded
            explorer = _explorer(relation, net, None, compiled, decide)
        elif code == RECORD:
            growth = proof_of_growth(relation, moves, path_to(explorer, explorer.record))
            if growth is not None:
                break
            ceiling = explorer.ceiling
            explorer.ceiling = min(ceiling + 1 if ceiling < _STEP_BY_STEP else 2 * ceiling, MOST)
        elif code == DONE:
            break
    meter.states -= before + explorer.expanded
    names = relation.tables.tasks
    if explorer.cut:
        reasons.append(f"a condition can hold more than {MOST} tokens; such states are not looked at")
    if explorer.undecided:
        joins = ", ".join(repr(names[join]) for join in sorted(explorer.undecided))
        reasons.append(f"the OR-join of {joins} cannot be decided in some state within its budget")
    return Explored(
        explorer=explorer, moves=moves, complete=not reasons and growth is None, reasons=tuple(reasons), growth=growth
    )


def _ways(relation: Relation) -> int:
    return sum(1 + len(each) for each in relation.choices)


def _affordable(packing: Packing | None) -> Packing | None:
    if packing is None or len(packing.moves) * (packing.bits // 64 + 1) > _MASK_WORDS:
        return None
    return packing


def _explorer(relation: Relation, net: Net, packing: Packing | None, compiled: Any, decide: _Decide) -> Explorer:
    if compiled is None:
        return ReferenceExplorer(relation, net)
    made: Explorer = compiled.Explorer(relation, decide, packing)
    return made


class _TimeIsUp(Exception):
    """Leads out of an explorer that asks for a decision too late; the state in question stays unexpanded."""


def _in_time(decide: _Decide, meter: Meter) -> _Decide:
    """Decide no OR-join when the time is up: one chunk may ask for thousands of decisions of milliseconds."""

    def answer(join: int, marking: Sequence[int], status: Sequence[int], seen: Mapping[int, int]) -> int:
        if meter.expired():
            raise _TimeIsUp
        return decide(join, marking, status, seen)

    return answer


def path_to(explorer: Explorer, number: int) -> tuple[State, ...]:
    """Return the states from the first one to this, as they were first found: the shortest way."""
    found = []
    while number >= 0:
        found.append(explorer.state(number))
        number = explorer.predecessor(number)
    return tuple(reversed(found))


def moves_along(moves: Moves, path: Sequence[State]) -> list[Move]:
    """Return the moves between the states of a path."""
    return [
        next(move for move, later in moves.of(before) if later == after) for before, after in itertools.pairwise(path)
    ]


# --- unboundedness ----------------------------------------------------------------------------------------------------


def proof_of_growth(relation: Relation, moves: Moves, path: tuple[State, ...]) -> Growth | None:
    """Return two states of the path that prove the net unbounded, or None."""
    done = moves_along(moves, path)
    for end in range(1, len(path)):
        if not relation.tables.implicit and path[end][0][OUTPUT]:
            break
        for begin in range(end - 1, -1, -1):
            grown = _grown(path[begin], path[end])
            if grown and _repeats(relation, path[begin:end], done[begin:end], set(grown)):
                return Growth(path[: end + 1], begin, grown)
    return None


def _grown(before: State, after: State) -> tuple[int, ...]:
    """Return the conditions that hold more, if nothing holds less and all else is the same."""
    if before[1:] != after[1:] or any(a < b for b, a in zip(before[0], after[0], strict=True)):
        return ()
    return tuple(c for c, (b, a) in enumerate(zip(before[0], after[0], strict=True)) if a > b)


def _repeats(relation: Relation, states: Sequence[State], moves: Sequence[Move], grown: set[int]) -> bool:
    """Whether all moves do the same when there are any number of tokens more on the grown conditions."""
    tables = relation.tables
    if any(tables.swallowers[condition] for condition in grown):
        return False
    touched = _downstream(relation, grown)
    remembering = any(tables.swallowers)
    if not relation.even:
        held_back = {task for condition in grown for task in tables.consumers[condition]}
        if held_back & relation.urgent_starts or (remembering and relation.urgent_starts & set(tables.or_joins)):
            return False
    for state, move in zip(states, moves, strict=True):
        entry = tables.table[move.task]
        if move.action in ("start", "fire"):
            if entry.join == OR and (remembering or move.task in touched):
                return False
            if not _takes_the_same(entry, state, grown) or grown & set(entry.join_cancels_conditions):
                return False
        if move.action in ("complete", "pass on", "fire") and grown & set(entry.cancels_conditions):
            return False
    return True


def _takes_the_same(entry: TaskTable, state: State, grown: set[int]) -> bool:
    if entry.join == AND:
        return True
    now = [position for position, (c, weight) in enumerate(entry.inputs) if state[0][c] >= weight]
    then = [position for position, (c, _) in enumerate(entry.inputs) if position in now or c in grown]
    return now[:1] == then[:1] if entry.join == XOR else now == then


def _downstream(relation: Relation, conditions: set[int]) -> set[int]:
    """Return the tasks to which a path leads from some condition."""
    tables = relation.tables
    found: set[int] = set()
    known = set(conditions)
    todo = list(conditions)
    while todo:
        for task in tables.consumers[todo.pop()]:
            if task not in found:
                found.add(task)
                new = {condition for condition, _ in tables.table[task].outputs} - known
                known |= new
                todo.extend(new)
    return found
