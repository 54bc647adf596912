"""Instances on one store: who has which partitions, from joining to leaving, and what a lease is measured by."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest

from knhk.errors import CommandError, OwnershipLost, StoreUnavailable
from knhk.ports import Document
from knhk.stores import MemoryStore
from knhk.testing.clock import ManualClock
from knhk.work.instances import PARTITIONS, list_instances
from knhk.work.ownership import Ownership
from knhk.work.shares import partition_of

BEAT = 1_000
LEASE = 6.0


class Shaky(MemoryStore):
    """A store that is away while it is told to be, and in which something else happens just before a write."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.before: list[Callable[[], object]] = []

    def write(
        self, documents: Sequence[Document], removed: Sequence[Document] = (), held: Sequence[Document] = ()
    ) -> None:
        """Write, unless it is away."""
        if self.away:
            raise StoreUnavailable("away")
        if self.before:
            self.before.pop(0)()
        super().write(documents, removed, held)


class Cluster:
    """Instances on a store in memory, whose heartbeats come when they are told to."""

    def __init__(self) -> None:
        self.store = Shaky()
        self.clock = ManualClock()

    def join(self, *names: str) -> list[Ownership]:
        """Let instances join, and wait until all have their parts."""
        made = [self.make(each) for each in names]
        self.beat(*made, times=4)
        return made

    def make(self, name: str | None, lease: float = LEASE) -> Ownership:
        """Return an instance that has not joined."""
        return Ownership(self.store, name, lease=lease, clock=self.clock)

    def beat(self, *instances: Ownership, times: int = 1) -> None:
        """Let time pass, and each instance send its heartbeats."""
        for _ in range(times):
            self.clock.advance(BEAT)
            for each in instances:
                with suppress(StoreUnavailable):
                    each.beat()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Make a store without instances."""
    made = Cluster()
    yield made
    made.store.close()


def case_in(number: int) -> str:
    """Return the id of a case in a partition."""
    return next(each for each in map(str, range(10_000)) if partition_of(each, 64) == number)


def parts(*instances: Ownership) -> list[int]:
    """Return how many partitions each has; raises where one has two owners."""
    held = [number for each in instances for number in each.partitions]
    assert len(held) == len(set(held))
    return [len(each.partitions) for each in instances]


def test_alone_has_everything_at_once(cluster: Cluster) -> None:
    """The first instance has all partitions with its first heartbeat."""
    a = cluster.make("a")

    assert a.beat()
    assert [64] == parts(a)


def test_parts_are_equal(cluster: Cluster) -> None:
    """Whoever joins gets a fair part, and no partition has two owners on the way."""
    a, b = cluster.join("a", "b")
    assert [32, 32] == parts(a, b)
    c = cluster.make("c")
    for _ in range(4):
        cluster.beat(a, b, c)
        parts(a, b, c)

    assert [21, 21, 22] == sorted(parts(a, b, c))


def test_nothing_moves_when_all_is_well(cluster: Cluster) -> None:
    """Heartbeats alone change no partition."""
    instances = cluster.join("a", "b", "c")
    before = cluster.store.documents(PARTITIONS)
    cluster.beat(*instances, times=20)

    assert before == cluster.store.documents(PARTITIONS)


def test_dead_instance_is_taken_over_within_a_lease(cluster: Cluster) -> None:
    """What a dead instance had has another owner one lease after its last heartbeat, shared out among the others."""
    a, b, c = cluster.join("a", "b", "c")
    cluster.beat(a, b, times=6)

    assert [32, 32] == parts(a, b)
    assert ["a", "b"] == [each.id for each in a.instances()]
    assert not c.partitions


def test_nobody_is_taken_over_before_its_patience_is_over(cluster: Cluster) -> None:
    """An instance that is late for less than the patience keeps what it has."""
    a, b = cluster.join("a", "b")
    kept = b.partitions
    cluster.beat(a, times=3)
    assert kept == b.partitions
    cluster.beat(a, b)

    assert kept == b.partitions


def test_who_cannot_write_stops_before_others_take_over(cluster: Cluster) -> None:
    """Without a heartbeat that was stored an instance has no tenure by the time that another has one."""
    a, b = cluster.join("a", "b")
    theirs = [case_in(number) for number in b.partitions]
    for _ in range(7):
        cluster.beat(a)
        assert not any(a.tenure(each) and b.tenure(each) for each in theirs)

    assert all(map(a.tenure, theirs))


def test_paused_owner_cannot_write(cluster: Cluster) -> None:
    """What is written under a tenure that was lost meanwhile is refused by the store, whatever its owner believes."""
    a, b = cluster.join("a", "b")
    tenure = b.tenure(case_in(b.partitions[0]))
    assert tenure is not None
    cluster.store.write([Document(collection="x", key="before", value="")], held=[tenure])
    cluster.beat(a, times=6)

    with pytest.raises(OwnershipLost):
        cluster.store.write([Document(collection="x", key="after", value="")], held=[tenure])


def test_silent_instance_joins_again(cluster: Cluster) -> None:
    """An instance that was taken for dead finds out with its next heartbeat, joins again, and gets a part; no old tenure counts."""
    a, b = cluster.join("a", "b")
    old = b.tenure(case_in(b.partitions[0]))
    assert old is not None
    cluster.beat(a, times=6)
    cluster.beat(b)
    assert not b.holds(old)
    cluster.beat(a, b, times=4)

    assert [32, 32] == parts(a, b)
    assert not b.holds(old)


def test_clocks_need_not_agree() -> None:
    """Instances whose clocks are an hour apart, and run backwards, share as any others."""
    store = Shaky()
    clocks = [ManualClock(), ManualClock(5_000_000)]
    a, b = (Ownership(store, name, lease=LEASE, clock=clock) for name, clock in zip("ab", clocks, strict=True))
    for _ in range(8):
        for each in clocks:
            each.advance(BEAT)
        a.beat()
        b.beat()

    assert [32, 32] == parts(a, b)


def test_outage_of_the_store_kills_nobody(cluster: Cluster) -> None:
    """When the store was away for longer than a lease, everybody has afterwards what he had before."""
    a, b, c = cluster.join("a", "b", "c")
    before = [each.partitions for each in (a, b, c)]
    cluster.store.away = True
    cluster.beat(a, b, c, times=20)
    assert [0, 0, 0] == parts(a, b, c)
    cluster.store.away = False
    cluster.beat(a, b, c)

    assert before == [each.partitions for each in (a, b, c)]


def test_leaving_gives_everything_away(cluster: Cluster) -> None:
    """What an instance had that leaves has another owner with the next heartbeats, without waiting for a lease."""
    a, b = cluster.join("a", "b")
    b.leave()
    assert not b.partitions
    cluster.beat(a)

    assert [64] == parts(a)
    assert ["a"] == [each.id for each in a.instances()]


def test_draining_gives_away_what_is_idle(cluster: Cluster) -> None:
    """An instance that drains begins nothing more, and keeps for its handlers what they are at work on until they have ended."""
    a, b = cluster.join("a", "b")
    working = [case_in(b.partitions[0])]
    b.busy.append(lambda: working)
    b.drain()
    assert b.tenure(working[0]) is None
    cluster.beat(a, b, times=10)

    assert [63, 1] == parts(a, b)
    assert ["live", "draining"] == [each.state for each in a.instances()]
    working.clear()
    cluster.beat(b, a)
    assert [64, 0] == parts(a, b)


def test_busy_partitions_are_given_away_last(cluster: Cluster) -> None:
    """For one that joins, partitions without handlers at work are let go before those with some."""
    (a,) = cluster.join("a")
    working = [case_in(number) for number in range(32)]
    a.busy.append(lambda: working)
    b = cluster.make("b")
    cluster.beat(a, b, times=4)

    assert list(range(32)) == a.partitions
    assert [32, 32] == parts(a, b)


def test_long_handlers_do_not_hold_up_their_partition(cluster: Cluster) -> None:
    """A partition whose handlers take longer than a lease to end is kept, and work in it goes on; another goes in its stead."""
    (a,) = cluster.join("a")
    working = [case_in(number) for number in range(64)]
    a.busy.append(lambda: working)
    b = cluster.make("b")
    cluster.beat(b, a, times=2)
    assert a.tenure(working[0]) is None
    cluster.beat(b, a, times=6)
    assert a.tenure(working[0]) is not None
    del working[40:50]
    cluster.beat(b, a, times=9)

    assert [54, 10] == parts(a, b)


def test_name_of_a_live_instance_is_refused(cluster: Cluster) -> None:
    """A second instance of the same name is told so, and the first goes on."""
    (a,) = cluster.join("a")
    other = cluster.make("a")
    assert not other.beat()
    cluster.beat(a)

    with pytest.raises(CommandError, match="'a' is live on this store"):
        other.beat()
    assert [64, 0] == parts(a, other)


def test_name_of_a_dead_instance_is_free_after_its_patience(cluster: Cluster) -> None:
    """An instance that was killed and started again under its name waits for the patience, and then has everything."""
    (a,) = cluster.join("a")
    del a
    again = cluster.make("a")
    cluster.beat(again, times=4)
    assert not again.joined
    cluster.beat(again)

    assert [64] == parts(again)


def test_write_of_which_no_answer_came(cluster: Cluster) -> None:
    """A heartbeat that was stored although its write failed is taken for what it is."""
    a, b = cluster.join("a", "b")
    kept = a.partitions
    mine = cluster.store.document("instances", "a")
    assert mine is not None
    fresh = Document(collection="instances", key="a", value=mine.value, version=mine.version + 1)
    cluster.store.write([fresh])
    cluster.beat(a, b)

    assert kept == a.partitions


def test_terms_are_those_of_the_store(cluster: Cluster) -> None:
    """Lease and number of partitions are those that the first instance put into the store."""
    cluster.join("a")
    b = cluster.make("b", lease=60.0)
    b.beat()

    assert LEASE / 6 == b.interval


def test_names_do_not_collide() -> None:
    """Without a name each instance has one of its own."""
    assert Ownership(MemoryStore()).id != Ownership(MemoryStore()).id


@pytest.mark.parametrize("name", ["", "a\nb"])
def test_name_must_be_one(name: str) -> None:
    """A name has printable characters."""
    with pytest.raises(ValueError, match="no name of an instance"):
        Ownership(MemoryStore(), name)


@pytest.mark.parametrize("lease", [0, -1, 3601, float("nan")])
def test_lease_has_bounds(lease: float) -> None:
    """A lease is more than nothing and at most an hour."""
    with pytest.raises(ValueError, match="lease"):
        Ownership(MemoryStore(), lease=lease)


def test_list_of_instances(cluster: Cluster) -> None:
    """The list tells of each instance where it is, since when, and how much it has; who is late by its own clock is silent."""
    made = Ownership(cluster.store, "a", lease=LEASE, clock=cluster.clock, address="h:1", region="eu")
    started = cluster.clock.now()
    made.beat()
    (told,) = list_instances(cluster.store, started)

    assert ("a", "h:1", "eu", started, started + 6_000, "live", 64) == (
        told.id,
        told.address,
        told.region,
        told.started,
        told.until,
        told.state,
        told.partitions,
    )
    assert ["silent"] == [each.state for each in list_instances(cluster.store, started + 6_001)]


def nothing() -> None:
    """Let a write pass."""


def test_two_are_the_first(cluster: Cluster) -> None:
    """Of two instances that are the first on a store at the same moment one says the terms for both."""
    a, b = cluster.make("a"), cluster.make("b", lease=60.0)
    cluster.store.before.append(b.beat)
    a.beat()

    assert a.interval == b.interval


def test_two_of_one_name_join_at_once(cluster: Cluster) -> None:
    """Of two instances that take a free name at the same moment one has it, and the other hears that it is live."""
    cluster.join("x")
    a, other = cluster.make("a"), cluster.make("a")
    cluster.store.before.append(other.beat)
    assert not a.beat()
    assert other.joined
    assert not a.beat()
    cluster.beat(other)

    with pytest.raises(CommandError, match="is live"):
        a.beat()


def test_silent_instance_that_writes_at_the_last_moment(cluster: Cluster) -> None:
    """Who sends a heartbeat as others are about to take it for dead keeps what it has."""
    a, b = cluster.join("a", "b")
    kept = b.partitions
    cluster.beat(a, times=4)
    cluster.clock.advance(BEAT)
    cluster.store.before += [nothing, b.beat]
    a.beat()

    assert kept == b.partitions
    assert ["a", "b"] == [each.id for each in a.instances()]


def test_two_take_over_at_once(cluster: Cluster) -> None:
    """Two instances that see one dead at the same moment share out what it had, each partition to one of them."""
    a, b, _ = cluster.join("a", "b", "c")
    cluster.beat(a, b, times=4)
    cluster.clock.advance(BEAT)
    cluster.store.before += [nothing, b.beat]
    a.beat()
    cluster.beat(a, b)

    assert [32, 32] == parts(a, b)


def test_partition_that_another_was_faster_with(cluster: Cluster) -> None:
    """Where one of the partitions that an instance takes has gone to another meanwhile, it takes the others."""
    a = cluster.make("a")
    taken = Document(collection=PARTITIONS, key="0007", value='{"owner": "b", "run": "1"}')
    cluster.store.before += [nothing, nothing, lambda: MemoryStore.write(cluster.store, [taken])]
    a.beat()

    assert [number for number in range(64) if number != 7] == a.partitions


def test_instance_that_is_taken_for_dead_as_it_takes(cluster: Cluster) -> None:
    """Whoever is removed between its heartbeat and what it takes takes nothing, and joins again."""
    (a,) = cluster.join("a")
    b = cluster.make("b")
    b.beat()
    cluster.beat(a)

    def bury() -> None:
        found = cluster.store.document("instances", "b")
        assert found is not None
        MemoryStore.write(cluster.store, [], [found])

    cluster.beat(a)
    cluster.store.before += [nothing, bury]
    b.beat()
    assert not b.partitions
    cluster.beat(b, a, times=3)
    assert [32, 32] == parts(a, b)


def test_partition_that_changes_as_it_is_given_away(cluster: Cluster) -> None:
    """What cannot be given away, because its document is not as it was, is looked at again with the next heartbeat."""
    (a,) = cluster.join("a")
    b = cluster.make("b")
    cluster.beat(b, a)
    first = cluster.store.document(PARTITIONS, "0000")
    assert first is not None
    moved = Document(collection=PARTITIONS, key="0000", value='{"owner": "", "run": ""}', version=first.version + 1)
    cluster.clock.advance(BEAT)
    cluster.store.before += [nothing, lambda: MemoryStore.write(cluster.store, [moved])]
    a.beat()
    cluster.beat(b, a, times=3)

    assert [32, 32] == parts(a, b)


def test_instance_that_was_taken_for_dead_leaves(cluster: Cluster) -> None:
    """Whoever leaves after others took its work over leaves that to them."""
    a, b = cluster.join("a", "b")
    cluster.beat(a, times=6)
    b.leave()
    b.leave()
    cluster.beat(a)

    assert [64] == parts(a)


def test_heartbeat_that_fails_is_told_and_tried_again() -> None:
    """Whatever goes wrong with a heartbeat is the instance's failure until one succeeds."""
    store = Shaky()
    told = threading.Event()

    def fail() -> None:
        told.set()
        raise ZeroDivisionError

    with Ownership(store, "a", lease=0.06) as a:
        store.before.append(fail)
        assert told.wait(30)
        while a.failure is not None or store.before:
            told.wait(0.001)
        assert a.joined


def test_start_waits_for_a_name() -> None:
    """An instance that is started under the name of one that was killed has joined when that returns."""
    store = MemoryStore()
    assert Ownership(store, "a", lease=0.06).beat()
    with Ownership(store, "a", lease=0.06) as again:
        assert again.joined


def test_heartbeats_in_the_background() -> None:
    """An instance that is started has its part when that returns, and when it is stopped it has left."""
    store = MemoryStore()
    with Ownership(store, "a") as a:
        assert [64] == parts(a)
        assert ["a"] == [each.id for each in a.instances()]

    assert not list_instances(store, 0)
