"""What may happen in a net: what completions may put, what comes first, and which tasks start and complete in one move.

Predicates are free choices: an XOR-split puts on any one output, an OR-split on any part of them but the empty one.
With data, a predicate that can be evaluated is decided; one that cannot, since the case has yet to produce what it asks for,
stays free.

*Urgency.*  What starts by itself (handlers, composite and routing tasks without a timer or trigger) starts before anybody outside
can do something, and a routing task completes as soon.  Such moves are *urgent*: while one is possible, no other move is.  Among
themselves they come in any order.  A net in which no move is urgent, or every one, is *even*: all moves may come in any order.

*Fusion.*  A task whose running cannot be told from its waiting is started and completed in one move, which spares a state bit
and its interleavings.  Call a task t *fused* when

1. it needs all its inputs (an AND-join, or one input), reads nothing, can always complete, is not detached and never drains;
2. no other task aborts it, and no other task empties an input of it;
3. no input of it is also an input of another task that takes by what is there: an XOR-join of several inputs, a partial join
   (an OR-join is kept off by 4);
4. if the net has OR-joins or is not even, no other task takes from an input of it or reads one;
5. if the net is not even, it does not start urgently and complete otherwise.

Let U be the runs with start and completion apart, and F those with fused tasks in one move.  F is part of U.  Conversely map a
state of U to one of F by giving the running fused tasks their input tokens back.  A start of t then changes nothing, its
completion is the move of F, and every other move stays possible and does the same: it may find more tokens on inputs of t, but
does not decide by them (3), does not empty them (2), and what it takes itself is there besides.  An OR-join J is as enabled as
before: of a run that marks more inputs of J from the mapped state, the first start of t can be moved to its beginning, since
nobody else looks at what it takes (4); and then it is a run from the state before.  Where the net is not even, the urgent moves of others
are the same (4), and those of t hold back as much: if start and completion are urgent, so is the move of F; if only the completion
is, then it follows the start at once, since a start makes nothing possible but the completion.  So:

- *Bound*: mapped states hold at least as many tokens; they are states of U.
- *Proper completion*: a final state maps to a final state, and what still ran is now a token that is left.
  With implicit termination nothing runs in a final state, and an input of t is no sink.
- *Dead tasks*: what can start in U can start in the mapped state.
- *Option to complete*: in a state of U from which the end cannot be reached, complete all fused tasks.  What results maps to
  itself, so it is a state of F, from which the end cannot be reached in U, and so not in F.  And a state of F that cannot
  reach the end in F cannot in U, whose runs map to runs of F.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, combinations
from typing import Any, Final

import attrs

from knhk._lower import Kind, NetPlan, TaskPlan
from knhk._tables import AND, PARTIAL, XOR, Tables
from knhk.errors import DataError

Choice = tuple[int, ...]
"""Positions in a task's ``outputs`` that a completion puts tokens on."""

MOST_OUTPUTS: Final = 12
"""Outputs of an OR-split whose parts are enumerated."""


@attrs.frozen(kw_only=True)
class Relation:
    """
    What may happen in one net.

    Args:
        tables: the net.
        choices: by task, what a completion may put, in a fixed order; none: it can never complete.
        fused: the tasks that start and complete in one move.
        urgent_starts, urgent_completions: the tasks that start by themselves, and that complete as soon as they have started.
        draining: the tasks that may pass control while instances run on.
        open_splits: OR-splits with too many outputs to enumerate; their choices are left out.
    """

    tables: Tables
    choices: tuple[tuple[Choice, ...], ...]
    fused: frozenset[int]
    urgent_starts: frozenset[int]
    urgent_completions: frozenset[int]
    draining: frozenset[int]
    open_splits: tuple[int, ...] = ()

    @property
    def even(self) -> bool:
        """Whether no move has precedence over another."""
        return is_even(self.tables, self.urgent_starts, self.urgent_completions)


def is_even(tables: Tables, urgent_starts: AbstractSet[int], urgent_completions: AbstractSet[int]) -> bool:
    """Whether no move is urgent, or every one."""
    every = len(tables.table)
    return len(urgent_starts) == len(urgent_completions) and len(urgent_starts) in (0, every)


def relation_of(plan: NetPlan, data: Mapping[str, Any] | None = None) -> Relation:
    """Return what may happen in a net, on any data or on the data given."""
    choices: list[tuple[Choice, ...]] = []
    wide = []
    for number, (entry, task) in enumerate(zip(plan.tables.table, plan.plans, strict=True)):
        maybe, sure, fallback = _decided(task, data)
        if not task.branches:
            choices.append((task.every_output,))
        elif entry.split == XOR:
            choices.append(_one_of(maybe, sure, fallback))
        elif len(maybe) > MOST_OUTPUTS:
            wide.append(number)
            choices.append(())
        else:
            choices.append(tuple(_parts(maybe, sure, fallback)))
        # Whether work fails is not said by data.
        choices[-1] += tuple((error.position,) for error in task.errors)
    numbered = tuple(enumerate(plan.plans))
    return relation(
        plan.tables,
        choices,
        urgent_starts=[number for number, task in numbered if task.automatic and task.task.trigger is None],
        urgent_completions=[number for number, task in numbered if task.kind is Kind.ROUTING],
        open_splits=wide,
    )


def relation(
    tables: Tables,
    choices: Sequence[Sequence[Choice]],
    *,
    fuse: bool = True,
    urgent_starts: Iterable[int] = (),
    urgent_completions: Iterable[int] = (),
    open_splits: Iterable[int] = (),
) -> Relation:
    """
    Return the relation of a net for given choices.

    Args:
        tables, choices, urgent_starts, urgent_completions, open_splits: as `Relation` has them.
        fuse: whether tasks may start and complete in one move; without it each is a move of its own.
    """
    each = tuple(map(tuple, choices))
    starts, completions = frozenset(urgent_starts), frozenset(urgent_completions)
    # One that aborts itself ends its instances as it passes control; what completes at once has none that run on.
    draining = frozenset(
        number
        for number, entry in enumerate(tables.table)
        if entry.continues and number not in entry.cancels_tasks and number not in completions
    )
    even = is_even(tables, starts, completions)
    may_fuse = frozenset(range(len(each)) if even else (set(range(len(each))) - (starts - completions)))
    return Relation(
        tables=tables,
        choices=each,
        fused=_fused(tables, each, alone=bool(tables.or_joins) or not even) & may_fuse if fuse else frozenset(),
        urgent_starts=starts,
        urgent_completions=completions,
        draining=draining,
        open_splits=tuple(open_splits),
    )


def free_choices(tables: Tables) -> list[tuple[Choice, ...]]:
    """Return by task what a completion may put when nothing is known of the predicates."""
    found: list[tuple[Choice, ...]] = []
    for entry in tables.table:
        places = range(len(entry.outputs))
        if entry.split == AND or not places:
            found.append((tuple(places),))
        elif entry.split == XOR:
            found.append(tuple((place,) for place in places))
        else:
            found.append(tuple(_parts(list(places), [], None)))
    return found


def _decided(task: TaskPlan, data: Mapping[str, Any] | None) -> tuple[list[int], list[int], int | None]:
    """
    Sort the outputs of a split.

    Returns:
        The outputs whose predicate may hold, in order; those of them whose predicate does hold; the default, or None.
    """
    maybe: list[int] = []
    sure: list[int] = []
    fallback = None
    for branch in task.branches:
        if branch.predicate is None:
            fallback = branch.position
            continue
        holds = None
        if data is not None:
            try:
                holds = branch.predicate.test({"data": dict(data)}, element=branch.label)
            except DataError:
                holds = None  # the case has yet to produce what it asks for: free
        if holds is not False:
            maybe.append(branch.position)
        if holds:
            sure.append(branch.position)
    return maybe, sure, fallback


def _one_of(maybe: Sequence[int], sure: Sequence[int], fallback: int | None) -> tuple[Choice, ...]:
    """The first that holds, else the default."""
    found: list[Choice] = []
    for position in maybe:
        found.append((position,))
        if position in sure:
            return tuple(found)
    return (*found, *(() if fallback is None else ((fallback,),)))


def _parts(maybe: Sequence[int], sure: Sequence[int], fallback: int | None) -> Iterator[Choice]:
    """All that hold, else the default."""
    free = [position for position in maybe if position not in sure]
    for part in chain.from_iterable(combinations(free, count) for count in range(len(free) + 1)):
        if part or sure:
            yield tuple(position for position in maybe if position in sure or position in part)
    if fallback is not None and not sure:
        yield (fallback,)


def _fused(tables: Tables, choices: Sequence[Sequence[Choice]], *, alone: bool) -> frozenset[int]:
    """Return the tasks that conditions 1 to 4 of the module's docstring allow to fuse; `alone` is what 4 depends on."""
    table = tables.table
    emptied: list[set[int]] = [set() for _ in tables.conditions]
    aborted: list[set[int]] = [set() for _ in table]
    deciding: list[set[int]] = [set() for _ in tables.conditions]
    for number, entry in enumerate(table):
        for condition in (*entry.cancels_conditions, *entry.join_cancels_conditions):
            emptied[condition].add(number)
        for task in (*entry.cancels_tasks, *entry.join_cancels_tasks):
            aborted[task].add(number)
        by_what_is_there = entry.join == PARTIAL or (entry.join == XOR and len(entry.inputs) > 1)
        for condition, _ in entry.inputs if by_what_is_there else ():
            deciding[condition].add(number)
    found = set()
    for number, entry in enumerate(table):
        simple = (
            (entry.join == AND or (entry.join == XOR and len(entry.inputs) == 1))
            and not (entry.reads or entry.detached or entry.continues)
            and choices[number]
            and not aborted[number] - {number}
        )
        inputs = [condition for condition, _ in entry.inputs]
        if not simple or any((emptied[c] | deciding[c]) - {number} for c in inputs):
            continue
        if not alone or all(tables.consumers[c] == (number,) for c in inputs):
            found.add(number)
    return frozenset(found)
