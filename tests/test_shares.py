"""Which instance does the work of which cases: the arithmetic."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from knhk.work.shares import PARTITIONS, Share, partition_of, share_of

NAMES = ("a", "b", "c", "d", "e")


def test_partition_is_the_same_everywhere() -> None:
    """The partition of a case never changes from version to version, since instances of two versions share a store."""
    assert [37, 21, 63] == [partition_of(each, 64) for each in ("", "a", "018c\ud800")]


def test_ascending_ids_spread() -> None:
    """Ids that differ in their last digits alone fall evenly into the partitions."""
    counts = Counter(partition_of(f"019a0c5e2f40{number:016x}", PARTITIONS) for number in range(6_400))

    assert 64 == len(counts)
    assert 60 < min(counts.values()) and max(counts.values()) < 150


def test_alone_takes_everything() -> None:
    """A lone instance takes whatever nobody has."""
    assert Share((0, 2), 0) == share_of("a", ["", "a", ""], {"a"})


def test_who_does_not_take_part_gives_all() -> None:
    """Whoever is not among those that take part has a surplus of all it has."""
    assert Share((), 2) == share_of("a", ["a", "b", "a"], {"b"})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(("", *NAMES)), min_size=1, max_size=70), st.sets(st.sampled_from(NAMES), min_size=1))
def test_parts_become_equal_and_stay(owners: list[str], live: set[str]) -> None:
    """From any state all parts become equal to within one, at once for what is free, and then nothing moves any more."""
    shares = {each: share_of(each, owners, live) for each in NAMES}
    taken = [number for share in shares.values() for number in share.take]
    assert len(taken) == len(set(taken))
    assert all(not owners[number] for number in taken)

    held = Counter(owners)
    moved = 0
    for name, share in shares.items():
        mine = [number for number, owner in enumerate(owners) if owner == name]
        for number in mine[: share.surplus]:
            owners[number] = ""
        moved += share.surplus
        for number in share.take:
            owners[number] = name
    for name in 2 * NAMES:
        for number in share_of(name, list(owners), live).take:
            owners[number] = name

    counts = [owners.count(each) for each in live]
    assert "" not in owners and sum(counts) == len(owners)
    assert max(counts) - min(counts) <= 1
    assert all(Share((), 0) == share_of(each, owners, live) for each in NAMES)
    fair = len(owners) // len(live)
    assert moved <= sum(max(held[each] - (fair if each in live else 0), 0) for each in NAMES)
