"""
Several instances on one store: which of them does the automatic work of which cases, and what stops one that was paused.

An instance writes its document anew with every heartbeat; the others watch the *version* of that document, each by its own
clock that never runs backwards.
Whoever saw no new version for the patience that all have agreed on removes the document, and only then takes what its instance
had: so an instance that is late and yet alive either has written in time, or finds out with its next heartbeat.
An instance that could not write for as long stops doing automatic work by itself, before anybody takes it over; no two clocks are
ever compared.

What a clock cannot rule out, the store does: the document of a partition has another version as soon as somebody else has it, and
every commit of automatic work holds the document under which it was begun (`Commit.held`).
So whoever is paused for any time, between any two instructions, commits nothing when it wakes up.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable, Iterable
from typing import Final, Self

from knhk.errors import CommandError, ConcurrentUpdate, OwnershipLost
from knhk.ports import Clock, Document, Store
from knhk.system import SystemClock
from knhk.work.attempt import ticks
from knhk.work.instances import (
    DRAINING,
    INSTANCES,
    LIVE,
    PARTITIONS,
    Instance,
    instance_name,
    list_instances,
    partition_document,
    partition_key,
    read_partition,
    run_of,
)
from knhk.work.outbox import all_documents
from knhk.work.shares import PARTITIONS as PARTITION_COUNT
from knhk.work.shares import Share, partition_of, share_of

_LOG = logging.getLogger("knhk.ownership")

LEASE: Final = 10.0
"""Seconds within which the work of an instance that died is taken over."""

BEATS: Final = 6
"""Heartbeats in a lease: one until the last is seen, four of patience, one until the next look."""

AGREED: Final = "sharing"
"""The collection of what is the same for all instances on a store."""

TERMS: Final = "terms"
"""Its document: how many partitions there are, and how many milliseconds a lease has."""

_HIGHEST_LEASE: Final = 3600.0


class Ownership:
    """
    One instance among those on a store.

    Args:
        store: everybody's.
        instance: its name, which no other instance may have; None: host, process and a random part.
        lease: within so many seconds of its death others do its work; those of the first instance on the store are everybody's.
        clock: for tests; spans of time are measured by its ``monotonic()``, where it has one.
        address, region: what others are told of it.

    Attributes:
        id: its name.
        address, region: as above; what is changed is told with the next heartbeat.
        failure: why the last heartbeat failed; None where it did not.
        busy: say which cases have handlers at work here; those are given away last.
    """

    def __init__(
        self,
        store: Store,
        instance: str | None = None,
        *,
        lease: float = LEASE,
        clock: Clock | None = None,
        address: str = "",
        region: str = "",
    ) -> None:
        if not 0 < lease <= _HIGHEST_LEASE:
            raise ValueError(f"a lease is more than 0 and at most {_HIGHEST_LEASE:g} seconds, not {lease}")
        if instance is not None and not (instance and instance.isprintable()):
            raise ValueError(f"{instance!r} is no name of an instance: give one of printable characters")
        self.id = instance_name() if instance is None else instance
        self.failure: Exception | None = None
        self.busy: list[Callable[[], Iterable[str]]] = []
        self._store = store
        self._clock = SystemClock() if clock is None else clock
        self._ticks = ticks(self._clock)
        self._lease = round(lease * 1000)
        self.address = address
        self.region = region
        self._run = secrets.token_hex(8)
        self._started = self._clock.now()
        self._state = LIVE
        self._count = 0
        self._mine: Document | None = None
        self._seen: dict[str, tuple[Document, int]] = {}
        self._looked_at: int | None = None
        self._awaited: tuple[Document, int] | None = None
        self._tenures: dict[int, Document] = {}
        self._closing: dict[int, int] = {}
        self._valid_until = 0
        self._beating = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    # --- what others ask ----------------------------------------------------------------------------------------------

    @property
    def joined(self) -> bool:
        """Whether it is among the instances on the store, as far as it knows."""
        return self._mine is not None

    @property
    def interval(self) -> float:
        """Seconds between heartbeats."""
        return self._lease / 1000 / BEATS

    @property
    def partitions(self) -> list[int]:
        """The partitions whose work is done here now."""
        return sorted(self._tenures) if self._ticks() < self._valid_until else []

    def tenure(self, case_id: str) -> Document | None:
        """
        Return the document under which work of a case may be begun here; None: it is somebody else's, or about to be.

        Every commit of that work holds it.
        """
        if not self._tenures or self._ticks() >= self._valid_until:
            return None
        number = partition_of(case_id, self._count)
        return None if number in self._closing else self._tenures.get(number)

    def holds(self, tenure: Document) -> bool:
        """Whether work that was begun under a tenure is still this instance's, as far as it knows."""
        return self._ticks() < self._valid_until and self._tenures.get(int(tenure.key)) == tenure

    def anybody(self) -> bool:
        """Whether there is an instance on the store, this one or another."""
        return bool(self._store.documents(INSTANCES, limit=1))

    def instances(self) -> list[Instance]:
        """Return the instances on the store by their ids."""
        return list_instances(self._store, self._clock.now())

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """
        Join, and send heartbeats in the background from now on.

        Where an instance of this name was killed, this takes the patience that it has left.

        Raises:
            CommandError: an instance of this name is live.
            StoreError: the store failed.
        """
        self._over.clear()
        while not self.beat():
            self._over.wait(self.interval)
        self._thread = threading.Thread(target=self._repeat, name="knhk-heartbeat", daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """Begin nothing more, and give away from heartbeat to heartbeat whatever has no handler at work."""
        self._state = DRAINING
        with self._beating:
            now = self._ticks()
            self._closing.update((number, now) for number in self._tenures if number not in self._closing)

    def stop(self) -> None:
        """Send no more heartbeats, and leave: others do everything from now on."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.leave()

    def leave(self) -> None:
        """Give everything away at once and leave the store; what was begun under it is refused from then on."""
        with self._beating:
            if self._mine is None:
                return
            mine, tenures = self._mine, self._tenures
            self._forget()
            given = [partition_document(number, document) for number, document in tenures.items()]
            try:
                self._store.write(given, removed=[mine])
            except ConcurrentUpdate:
                # It was taken for dead, or takes a write for failed that was not: others see that it is silent.
                _LOG.info("instance %s left without a word: others had moved its documents", self.id)

    def beat(self) -> bool:
        """
        Send a heartbeat, look at the others, and take or give away what makes the parts equal.

        Returns:
            Whether it has joined: the name of an instance that was killed is free only when it was silent for long enough.

        Raises:
            CommandError: another instance has its name.
            StoreError: the store failed; what is done here goes on until the patience of the others is over.
        """
        with self._beating:
            begun = self._ticks()
            if not self._count:
                self._agree()
            # Who has a partition was there before he took it, so who has what is read before who is there.
            if not self._renew(begun):
                return False
            self._valid_until = begun + self._patience
            partitions = self._read_partitions()
            runs, live = self._look(begun)
            self._balance(begun, partitions, runs, live)
            return True

    # --- inside -------------------------------------------------------------------------------------------------------

    @property
    def _patience(self) -> int:
        """For how many milliseconds an instance may be silent."""
        return self._lease * (BEATS - 2) // BEATS

    def _agree(self) -> None:
        """Take from the store, or put there, what has to be the same for all: how many partitions, and how long a lease."""
        found = self._store.document(AGREED, TERMS)
        if found is None:
            value = json.dumps({"partitions": PARTITION_COUNT, "lease": self._lease})
            try:
                self._store.write([Document(collection=AGREED, key=TERMS, value=value)])
            except ConcurrentUpdate:
                found = self._store.document(AGREED, TERMS)
        terms = json.loads(value if found is None else found.value)
        if terms["lease"] != self._lease:
            _LOG.warning(
                "instance %s keeps the lease of the store, %g s, instead of its own, %g s",
                self.id,
                terms["lease"] / 1000,
                self._lease / 1000,
            )
        self._count, self._lease = terms["partitions"], terms["lease"]

    def _document(self, before: Document | None) -> Document:
        tree = {
            "address": self.address,
            "region": self.region,
            "run": self._run,
            "started": self._started,
            "until": self._clock.now() + self._lease,
            "state": self._state,
        }
        version = 1 if before is None else before.version + 1
        return Document(collection=INSTANCES, key=self.id, value=json.dumps(tree), version=version)

    def _renew(self, now: int) -> bool:
        """Write the instance's document; False while that of another run of the same name stands in the way."""
        if self._mine is not None:
            fresh = self._document(self._mine)
            try:
                self._store.write([fresh])
            except ConcurrentUpdate:
                self._renew_again()
            else:
                self._mine = fresh
        return self._mine is not None or self._join(now)

    def _renew_again(self) -> None:
        """The document is not as it was written: it was removed, or a write was stored of which nobody told."""
        found = self._store.document(INSTANCES, self.id)
        if found is not None and run_of(found) == self._run:
            fresh = self._document(found)
            self._store.write([fresh])
            self._mine = fresh
            return
        _LOG.warning("instance %s was silent for too long: others do its work; it joins again", self.id)
        self._forget()
        self._run = secrets.token_hex(8)

    def _join(self, now: int) -> bool:
        before = self._store.document(INSTANCES, self.id)
        if before is not None:
            seen, since = self._awaited or (before, now)
            self._awaited = None if seen != before else (before, since)
            if seen != before:
                raise CommandError(
                    f"an instance {self.id!r} is live on this store: give this one another name (WORKFLOW_INSTANCE_ID)"
                )
            if now - since < self._patience:
                return False
        self._awaited = None
        fresh = self._document(None)
        try:
            if before is not None:
                self._store.write([], removed=[before])
            self._store.write([fresh])
        except ConcurrentUpdate:
            # Somebody of this name is faster: the next look tells whether he lives.
            return False
        self._mine = fresh
        return True

    def _read_partitions(self) -> list[Document | None]:
        found = {each.key: each for each in self._store.documents(PARTITIONS, limit=self._count)}
        return [found.get(partition_key(number)) for number in range(self._count)]

    def _look(self, now: int) -> tuple[dict[str, str], set[str]]:
        """Return the runs of the instances that are there, by name, and the names of those that take part."""
        documents = {each.key: each for each in all_documents(self._store, INSTANCES)}
        # Only time in which somebody looked counts: when the store was away, or this process paused, nobody was silent.
        passed = 0 if self._looked_at is None else min(now - self._looked_at, 2 * self._lease // BEATS)
        self._looked_at = now
        before, self._seen = self._seen, {}
        for key, document in documents.items():
            seen, silent = before.get(key, (None, 0))
            self._seen[key] = (document, silent + passed if seen == document else 0)
        for key, (document, silent) in tuple(self._seen.items()):
            if key != self.id and silent >= self._patience and self._bury(document):
                del self._seen[key], documents[key]
        runs = {key: run_of(each) for key, each in documents.items()}
        live = {key for key, each in documents.items() if json.loads(each.value)["state"] == LIVE}
        return runs, live

    def _bury(self, silent: Document) -> bool:
        """Remove the document of an instance that was silent for long; returns whether it is gone."""
        try:
            self._store.write([], removed=[silent])
        except ConcurrentUpdate:
            return self._store.document(INSTANCES, silent.key) is None
        _LOG.warning("instance %s is silent: its work is taken over", silent.key)
        return True

    def _balance(self, now: int, partitions: list[Document | None], runs: dict[str, str], live: set[str]) -> None:
        owners = []
        tenures: dict[int, Document] = {}
        for number, document in enumerate(partitions):
            tree = {"owner": "", "run": ""} if document is None else read_partition(document)
            owner = tree["owner"] if runs.get(tree["owner"]) == tree["run"] else ""
            owners.append(owner)
            if owner == self.id and document is not None:
                tenures[number] = document
        self._tenures = tenures
        share = share_of(self.id, owners, live)
        self._give_away(now, share)
        for number, taken in self._taken(share, partitions):
            self._tenures[number] = taken

    def _taken(self, share: Share, partitions: list[Document | None]) -> list[tuple[int, Document]]:
        """Take partitions, together, or where another was faster with one of them, one by one."""
        wanted = [(number, partition_document(number, partitions[number], self.id, self._run)) for number in share.take]
        if not wanted or self._mine is None:
            return []
        try:
            self._store.write([document for _, document in wanted], held=[self._mine])
        except OwnershipLost:
            # Others took it for dead at this moment; the next heartbeat finds out.
            return []
        except ConcurrentUpdate:
            return [each for each in wanted if self._take_one(each[1], self._mine)]
        return wanted

    def _take_one(self, document: Document, mine: Document) -> bool:
        try:
            self._store.write([document], held=[mine])
        except ConcurrentUpdate:
            return False
        return True

    def _give_away(self, now: int, share: Share) -> None:
        """
        Give away what is too many, in two steps: first nothing more is begun in it, with the next heartbeat it is let go.

        What has handlers at work then is let go when they have ended, but where that takes as long as a lease another partition
        goes in its stead.
        """
        busy = self._busy_partitions()
        closing = {
            number: since
            for number, since in self._closing.items()
            if number in self._tenures and (self._state == DRAINING or number not in busy or now - since < self._lease)
        }
        ready = [number for number in closing if number not in busy][: share.surplus]
        if ready:
            given = [partition_document(number, self._tenures[number]) for number in ready]
            try:
                self._store.write(given)
            except ConcurrentUpdate:
                # What is so is read with the next heartbeat.
                ready = []
            for number in ready:
                del self._tenures[number], closing[number]
        missing = share.surplus - len(ready) - len(closing)
        refused = self._closing.keys() - closing.keys()
        others = sorted(self._tenures.keys() - closing.keys(), key=lambda each: (each in refused, each in busy, each))
        closing.update((number, now) for number in others[: max(missing, 0)])
        if not share.surplus and self._state == LIVE:
            closing = {}
        self._closing = closing

    def _busy_partitions(self) -> set[int]:
        return {partition_of(case_id, self._count) for cases in self.busy for case_id in cases()}

    def _forget(self) -> None:
        """Know that nothing is this instance's any more."""
        self._mine = None
        self._tenures, self._closing = {}, {}
        self._valid_until = 0

    def _repeat(self) -> None:
        while not self._over.wait(self.interval):
            try:
                self.beat()
            except Exception as error:  # noqa: BLE001 - as the comment says
                # Whatever it is: without heartbeats the others would do its work, and nobody would learn why.
                _LOG.exception("a heartbeat of instance %s failed; the next one tries again", self.id)
                self.failure = error
            else:
                self.failure = None
