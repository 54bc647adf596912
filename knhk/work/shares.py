"""Which instance does the automatic work of which cases: the arithmetic, without a store and without a clock.

Cases fall into a fixed number of *partitions* by a hash of their ids; instances have partitions, never single cases.
Nobody leads: each instance looks at who has what, and takes or gives away its own part of the difference.
Those who see the same take what is different, so they meet only where one has seen what the other has not yet.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

import attrs

PARTITIONS: Final = 64
"""Partitions of a store that nobody has shared before; the most instances that have anything to do."""


def partition_of(case_id: str, count: int) -> int:
    """Return the partition of a case: the same in every process, of every version, on every machine."""
    # Ids ascend, and a checksum of what differs in few bits is too even or not even enough; this one costs a microsecond.
    hashed = hashlib.blake2b(case_id.encode("utf-8", "surrogatepass"), digest_size=4)
    return int.from_bytes(hashed.digest(), "big") % count


@attrs.frozen
class Share:
    """
    What an instance has to do about its part.

    Args:
        take: the partitions that nobody has and that it is to take.
        surplus: how many of its own are too many.
    """

    take: tuple[int, ...]
    surplus: int


def share_of(me: str, owners: Sequence[str], live: Collection[str]) -> Share:
    """
    Return what an instance has to do, so that all parts become equal to within one partition.

    Whoever has most keeps one more where they do not come out even, so nothing moves that need not.

    Args:
        me: the instance.
        owners: by partition, who has it; "" for nobody.
        live: the instances that may have partitions; whoever has any and is not among these gives them away.
    """
    held = Counter(owners)
    if me not in live:
        return Share((), held[me])
    whole, rest = divmod(len(owners), len(live))
    members = sorted(live, key=lambda each: (-held[each], each))
    due = {each: whole + (place < rest) for place, each in enumerate(members)}
    free = [number for number, owner in enumerate(owners) if not owner]
    before = sum(max(due[each] - held[each], 0) for each in live if each < me)
    missing = max(due[me] - held[me], 0)
    return Share(tuple(free[before : before + missing]), max(held[me] - due[me], 0))
