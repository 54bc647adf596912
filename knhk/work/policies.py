"""How the engine chooses one of several who may do a piece of work: one function for each policy.

A choice is made once, outside of the case, and its result is in the case's journal: a replay chooses nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from knhk.errors import ConcurrentUpdate
from knhk.ports import Document, Store
from knhk.spec import Policy

TURNS: Final = "turns"
"""The collection of documents that say who had the last turn, by specification and task."""

_FIRST_LOOK: Final = 16
"""How much of each queue is looked at first; where all are longer, four times as much, and so on."""


@attrs.frozen(kw_only=True)
class Choice:
    """
    What there is to choose.

    Args:
        store: where turns are kept, and queues are.
        candidates: the ids of those who may do the work, ascending; never empty.
        task: the specification's id and the task's, which turns are kept for.
        case_id, number: the item that is to be given away.
        here: how many items each has in this case, which the store does not know all of.
        seed: of the random policy.
    """

    store: Store
    candidates: Sequence[str]
    task: str
    case_id: str
    number: int
    here: Mapping[str, int]
    seed: int = 0


def round_robin(choice: Choice) -> str:
    """
    Choose whoever comes behind the last one who was chosen for this task, in the order of their ids.

    The turn is in the store before it is used: a restart goes on where it was, and several engines take turns from one row.
    A turn whose commit then fails is lost, never given twice.
    """
    while True:
        last = choice.store.document(TURNS, choice.task)
        after = (each for each in choice.candidates if last is not None and each > last.value)
        chosen = next(after, choice.candidates[0])
        version = 1 if last is None else last.version + 1
        try:
            choice.store.write([Document(collection=TURNS, key=choice.task, value=chosen, version=version)])
        except ConcurrentUpdate:
            # Somebody else took the turn.
            continue
        return chosen


def shortest_queue(choice: Choice) -> str:
    """Choose whoever has the fewest items allocated, started or suspended; of several the first in the order of their ids."""
    limit = _FIRST_LOOK
    while True:
        lengths = {each: _queue(choice, each, limit) for each in choice.candidates}
        shortest = min(choice.candidates, key=lambda each: lengths[each])
        if lengths[shortest] < limit:
            return shortest
        limit *= 4


def _queue(choice: Choice, participant: str, limit: int) -> int:
    """Count a participant's items, up to a limit, by the store's index."""
    elsewhere = sum(each.case_id != choice.case_id for each in choice.store.items(by=participant, limit=limit))
    return elsewhere + choice.here.get(participant, 0)


def at_random(choice: Choice) -> str:
    """Choose any of them; the same seed, case and item give the same choice."""
    drawn = random.Random(f"{choice.seed}/{choice.case_id}/{choice.number}")  # noqa: S311 - not for secrets
    return choice.candidates[drawn.randrange(len(choice.candidates))]


POLICIES: Final[Mapping[Policy, Callable[[Choice], str]]] = {
    Policy.ROUND_ROBIN: round_robin,
    Policy.SHORTEST_QUEUE: shortest_queue,
    Policy.RANDOM: at_random,
}
