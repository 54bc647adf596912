"""Memory as a cache of the store: cases loaded when somebody asks, forgotten when others need the room.

A `Resident` is a case in memory.
Whoever works on one holds it: it is locked against others, stays in memory while it is held or pinned, and what its commands
wrote is committed before anything is acknowledged.
When a commit fails the resident is forgotten, because what the store holds is what is so.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import attrs

from knhk import _hot, _kernel
from knhk._case_state import Phase
from knhk._kernel import Net
from knhk._lower import Kind, Program, lower
from knhk.case import Case, Limits
from knhk.errors import JournalError, KnhkError, QuarantinedCase, UnknownSpecification
from knhk.expr import Dialect
from knhk.journal import decode_batch, decode_snapshot, encode_batch, encode_snapshot
from knhk.ports import CaseHeader, Clock, Commit, ItemRow, Store, StoredCase
from knhk.spec import Specification

SNAPSHOT_EVERY: Final = 256
"""Records after which a case's next commit carries a snapshot, which bounds replay."""


@attrs.frozen
class Compiled:
    """A registered specification, ready to run: its program, and a kernel for each of its nets."""

    program: Program
    kernels: tuple[Net, ...]


Kernel = Literal["auto", "reference", "compiled"]


def choose_kernel(name: Kernel) -> type[Net]:
    """
    Return the class of nets of a kernel: ``auto`` is the compiled one where it was built.

    Raises:
        KnhkError: the compiled kernel is asked for by name and was not built.
    """
    if name == "compiled" and not _hot.COMPILED:
        message = (
            "the compiled kernel was not built: install a C compiler and the Python headers, and install KNHK again"
        )
        raise KnhkError(message)
    return _kernel.Net if name == "reference" else _hot.Net


def compile_specification(
    specification: Specification,
    *,
    dialect: Dialect = "subset",
    kernel: type[Net] = _hot.Net,
    or_join_budget: int | None = None,
) -> Compiled:
    """Compile a well-formed specification."""
    program = lower(specification, dialect=dialect)
    return Compiled(program, tuple(kernel(each.tables, or_join_budget=or_join_budget) for each in program.nets))


@attrs.define(eq=False)
class Resident:
    """
    A case in memory.

    Args:
        in_flight: items whose handler runs now.
        since_snapshot: records since the last snapshot.
        stale: forgotten: whoever waited for the lock must load again.
        users: who holds it, waits for it or pinned it; it stays in memory until they are done.
    """

    case: Case
    header: CaseHeader
    in_flight: set[int] = attrs.field(factory=set)
    lock: threading.RLock = attrs.field(factory=threading.RLock)
    since_snapshot: int = 0
    stale: bool = False
    users: int = 0


class CaseCache:
    """
    The cases in memory, and the specifications they run.

    Args:
        store: what is so.
        clock: stamps commits.
        limits: what one case may do.
        size: how many cases stay in memory when nobody uses them.
        dialect: the language of predicates.
        kernel: the class of nets that plays the token game.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        limits: Limits,
        size: int,
        dialect: Dialect = "subset",
        kernel: type[Net] = _hot.Net,
    ) -> None:
        self.store = store
        self.clock = clock
        self._limits = limits
        self._size = size
        self._dialect = dialect
        self._kernel = kernel
        self._residents: OrderedDict[str, Resident] = OrderedDict()
        self._compiled: dict[tuple[str, str], Compiled] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._residents)

    def compiled(self, spec_id: str, version: str) -> Compiled:
        """Return a registered specification, compiled from its stored text; raises UnknownSpecification."""
        found = self._compiled.get((spec_id, version))
        if found is None:
            # Without the lock, which others need while this reads and compiles; of two who did the first is kept.
            text = self.store.specification(spec_id, version).text
            specification = Specification.from_json(text, dialect=self._dialect)
            fresh = compile_specification(
                specification,
                dialect=self._dialect,
                kernel=self._kernel,
                or_join_budget=self._limits.or_join_budget,
            )
            found = self._compiled.setdefault((spec_id, version), fresh)
        return found

    def create(self, header: CaseHeader, data: Mapping[str, Any], idempotency: tuple[str, str] | None = None) -> None:
        """Commit a new case and keep it; raises what the store's `commit` raises."""
        compiled = self.compiled(header.spec_id, header.spec_version)
        case = Case(compiled.program, compiled.kernels, limits=self._limits)
        case.create(data)
        resident = Resident(case, header)
        self.commit(resident, idempotency=idempotency)
        with self._lock:
            self._residents[header.case_id] = resident
            self._make_room()

    @contextlib.contextmanager
    def hold(self, case_id: str) -> Iterator[Resident]:
        """Lock the case, loading it first where it is not in memory."""
        while True:
            resident = self.pin(case_id)
            try:
                with resident.lock:
                    # A failed commit may have made it stale while we waited: then what we hold is not what is so.
                    if not resident.stale:
                        yield resident
                        return
            finally:
                self.unpin(resident)

    def pin(self, case_id: str) -> Resident:
        """Return the case and keep it in memory until `unpin`."""
        with self._lock:
            resident = self._residents.get(case_id)
            if resident is not None:
                self._residents.move_to_end(case_id)
                resident.users += 1
                return resident
        fresh = self._load(case_id)
        with self._lock:
            resident = self._residents.setdefault(case_id, fresh)
            resident.users += 1
            return resident

    def unpin(self, resident: Resident) -> None:
        """Take back one `pin`."""
        with self._lock:
            resident.users -= 1
            self._make_room()

    def evict(self, case_id: str | None = None) -> None:
        """Forget one case, or all, but for those in use."""
        with self._lock:
            for each in list(self._residents) if case_id is None else [case_id]:
                resident = self._residents.get(each)
                if resident is not None and not resident.users:
                    self.forget(resident)

    def forget(self, resident: Resident) -> None:
        """Let a case go although it may be in use: the store knows better."""
        with self._lock:
            resident.stale = True
            if self._residents.get(resident.header.case_id) is resident:
                del self._residents[resident.header.case_id]

    def commit(self, resident: Resident, *, idempotency: tuple[str, str] | None = None) -> None:
        """Persist what the case's last commands wrote; the caller holds it."""
        case = resident.case
        records = case.take_records()
        if not records:
            return
        running = case.state.phase is Phase.RUNNING
        due = case.next_due() if running else None
        header = attrs.evolve(
            resident.header,
            state=case.state.phase.value,
            due=None if due is None else due[0],
            runnable=running and bool(case.state.work),
            version=resident.header.version + 1,
        )
        resident.since_snapshot += len(records)
        snapshot = None
        if resident.since_snapshot >= SNAPSHOT_EVERY:
            snapshot = encode_snapshot({"version": header.version, "state": case.snapshot()})
            resident.since_snapshot = 0
        rows, closed = _worklist(header.case_id, case)
        commit = Commit(
            header=header,
            expected=resident.header.version,
            batch=encode_batch(self.clock.now(), records),
            snapshot=snapshot,
            items=rows,
            closed_items=closed,
            idempotency=idempotency,
        )
        try:
            self.store.commit([commit])
        except BaseException:
            self.forget(resident)
            raise
        resident.header = header

    def _make_room(self) -> None:
        """Forget the cases that were used longest ago, beyond what the cache may hold; the caller has the lock."""
        if len(self._residents) <= self._size:
            return
        for resident in list(self._residents.values()):
            if len(self._residents) <= self._size:
                return
            if not resident.users:
                self.forget(resident)

    def _load(self, case_id: str) -> Resident:
        stored = self.store.load(case_id)
        try:
            compiled = self.compiled(stored.header.spec_id, stored.header.spec_version)
            case = Case(compiled.program, compiled.kernels, limits=self._limits)
            snapshot = None if stored.snapshot is None else decode_snapshot(stored.snapshot)
            _check_whole(stored, snapshot)
            records = [record for batch in stored.batches for record in decode_batch(batch)[1]]
            case.replay(None if snapshot is None else snapshot["state"], records)
        except (JournalError, UnknownSpecification) as error:
            reason = str(error)
            self.store.quarantine(case_id, reason)
            message = f"case {case_id} is set aside: {reason}"
            raise QuarantinedCase(message) from error
        return Resident(case, stored.header, since_snapshot=len(records))


def _check_whole(stored: StoredCase, snapshot: Mapping[str, Any] | None) -> None:
    """Refuse a history that misses commits: a case that went back in time must not go on."""
    since = 0 if snapshot is None else snapshot.get("version")
    if not isinstance(since, int) or since + len(stored.batches) != stored.header.version:
        message = (
            f"the history has {len(stored.batches)} commits behind {since}, its header says {stored.header.version}"
        )
        raise JournalError(message)


def _worklist(case_id: str, case: Case) -> tuple[tuple[ItemRow, ...], tuple[int, ...]]:
    """Return the worklist rows that the case's last records changed, and the numbers of those that went."""
    rows: list[ItemRow] = []
    closed: list[int] = []
    for number in sorted(case.state.moved):
        item = case.state.items.get(number)
        if item is None:
            closed.append(number)
        elif case.plan(item).kind is not Kind.HANDLER:
            rows.append(item_row(case_id, case, number))
    case.state.moved.clear()
    return tuple(rows), tuple(closed)


def item_row(case_id: str, case: Case, number: int) -> ItemRow:
    """Return an open item as the worklist shows it."""
    item = case.state.items[number]
    task = case.plan(item).task
    return ItemRow(
        case_id=case_id,
        number=number,
        path=case.path(item),
        state=item.state.value,
        by=item.by,
        roles=() if task.manual is None else task.manual.roles,
        topic="" if task.external is None else task.external.topic,
    )
