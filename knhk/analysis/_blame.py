"""What a state is stuck on: which element to look at, in words that a modeller understands."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from knhk._kernel import BUSY
from knhk._tables import AND, OR, OUTPUT, PARTIAL, Tables
from knhk.analysis._space import Moves, State


@attrs.frozen
class Blame:
    """The element to look at, and why."""

    element: str
    why: str


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them."""
    quoted = [repr(name) for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def left_over(tables: Tables, state: State) -> list[str]:
    """Return what is there beside one token in ``end``: conditions, then running tasks."""
    tokens, status, _ = state
    conditions = [name for c, name in enumerate(tables.conditions) if tokens[c] > (1 if c == OUTPUT else 0)]
    return conditions + [name for t, name in enumerate(tables.tasks) if status[t] == BUSY]


def blame_for_stuck(tables: Tables, dead: State) -> Blame:
    """Say what a state waits for in which nothing can happen."""
    return _waiting(tables, dead) or _stranded(tables, dead)


def blame_for_livelock(tables: Tables, doomed: State) -> str:
    """Name an element of what goes on for ever: a marked condition, else a running task."""
    tokens, status, _ = doomed
    marked = [name for c, name in enumerate(tables.conditions) if tokens[c]]
    return (marked or [name for t, name in enumerate(tables.tasks) if status[t]])[0]


def _waiting(tables: Tables, dead: State) -> Blame | None:
    """Name a task that cannot go on: stuck in its split, in its join, or for want of what it reads."""
    tokens, status, seen = dead
    for task, entry in enumerate(tables.table):
        name = tables.tasks[task]
        if status[task] == BUSY:
            return Blame(name, f"{name!r} cannot complete: no predicate of its split holds and it has no default")
        marked = [c for c, weight in entry.inputs if tokens[c] >= weight]
        if not marked or status[task]:
            continue
        missing = [tables.conditions[c] for c, weight in entry.inputs if tokens[c] < weight]
        unread = [tables.conditions[c] for c in entry.reads if not tokens[c]]
        satisfied = not missing or entry.join not in (AND, PARTIAL)
        if unread and satisfied:
            return Blame(name, f"{name!r} waits to read {listed(unread)}, which nothing marks any more")
        if missing and entry.join == OR:
            return Blame(name, f"the OR-join of {name!r} waits for {listed(missing)}, and what could mark it waits too")
        if missing and (entry.join == AND or not dict(seen).get(task)):
            return Blame(name, f"{name!r} waits for {listed(missing)}, which nothing marks any more")
    return None


def _stranded(tables: Tables, dead: State) -> Blame:
    tokens, _, seen = dead
    for c, name in enumerate(tables.conditions):
        if tokens[c] and c != OUTPUT:
            return Blame(name, f"the token in {name!r} cannot go on")
    if seen:
        name = tables.tasks[seen[0][0]]
        return Blame(name, f"{name!r} has had its start of this round, and nothing else is left")
    return Blame(tables.conditions[OUTPUT], "nothing is left that could reach it")


def why_dead(moves: Moves, task: int, most: Sequence[int]) -> str:
    """Say what a task that never starts would need."""
    tables = moves.relation.tables
    entry = tables.table[task]
    never = [tables.conditions[c] for c, weight in entry.inputs if most[c] < weight]
    unread = [tables.conditions[c] for c in entry.reads if not most[c]]
    if never:
        return f"no run marks {listed(never)}" + (" sufficiently" if any(w > 1 for _, w in entry.inputs) else "")
    if unread:
        return f"no run marks {listed(unread)}, which it reads"
    return "its inputs are marked in some runs, but never together with all that it needs"
