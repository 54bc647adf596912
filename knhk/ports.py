"""What a driver needs from the world: a store, a clock, a source of ids; each contract in prose.

The pure core never touches these; `knhk.engine` does, and tests hand in their own.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from knhk.errors import KnhkError

if TYPE_CHECKING:
    from attrs import frozen as record
else:

    def record(**options):  # noqa: ANN003, ANN201 - `attrs.frozen` has the types
        """
        Declare a class of which every step of a case makes some: frozen, as far as the type checker is concerned.

        At run time nothing holds who changes one: attrs' guard would double what making one costs.
        """
        return attrs.define(unsafe_hash=True, **options)


class Durability(enum.Enum):
    """
    What an acknowledged commit survives.

    ``FULL``: power loss.  ``NORMAL``: the end of the process, and power loss but for the last moments, never losing
    consistency.  ``OFF``: nothing is promised.
    """

    FULL = "full"
    NORMAL = "normal"
    OFF = "off"


@record()
class CaseHeader:
    """
    What can be asked of a case without loading it.

    Fields are given by name, but where every step makes one: a call with names takes more than twice as long.

    Args:
        case_id: its id.
        spec_id, spec_version: the registered specification it runs.
        state: `knhk._codes.Phase` by value.
        due: the earliest timer, in milliseconds since the epoch, or None.
        runnable: whether automatic work waits to be done.
        version: the number of its commits; compare-and-swap is on this.
        quarantined: why the case is set aside, or "".
    """

    case_id: str
    spec_id: str
    spec_version: str
    state: str
    due: int | None = None
    runnable: bool = False
    version: int = 0
    quarantined: str = ""


@record()
class ItemRow:
    """
    One open work item as the lists show it: of people, of external workers, or one that failed.

    Its fields are given as those of `CaseHeader`.

    Args:
        case_id, number: its name.
        path, state, by, roles: as `knhk.running.WorkItem` has them.
        topic: what an external worker asks for; "" for other work.
        audience: who may take it up, each as ``role:clerk`` or ``participant:ann``; a list can be asked for by these.
        details: what else a list shows, as JSON data.
    """

    case_id: str
    number: int
    path: str
    state: str
    by: str = ""
    roles: tuple[str, ...] = ()
    topic: str = ""
    audience: tuple[str, ...] = ()
    details: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Document:
    """
    Something that is kept beside the cases: a message that waits to be sent, a subscription, a schedule.

    Args:
        collection: which kind; each kind is listed by itself.
        key: unique in its collection.
        value: the content, a text.
        due: when somebody has to look at it, in milliseconds since the epoch, or None.
        version: the number of its writes, this one included; compare-and-swap is on this.
    """

    collection: str
    key: str
    value: str
    due: int | None = None
    version: int = 1


@record()
class Commit:
    """
    One step of one case, to be stored whole or not at all; its fields are given as those of `CaseHeader`.

    Args:
        header: the case after the step; its version is `expected` + 1.
        expected: the version that was read; 0 creates the case.
        batch: the step's journal bytes; they carry their own checksum.
        snapshot: the state after this step, where the driver wants replay to start from here; else None.
        items: worklist rows that are new or changed.
        closed_items: numbers of worklist rows to remove.
        idempotency: (key, digest of the request), stored with the creation of a case; None without a key.
        documents: what is written beside the case in the same transaction; each as in `Store.write`.
        removed: documents that go with the step, as they were read.
        held: documents, as they were read, that must still be stored at this version when the step is, each as in `Store.write`.
    """

    header: CaseHeader
    expected: int
    batch: bytes
    snapshot: bytes | None = None
    items: tuple[ItemRow, ...] = ()
    closed_items: tuple[int, ...] = ()
    idempotency: tuple[str, str] | None = None
    documents: tuple[Document, ...] = ()
    removed: tuple[Document, ...] = ()
    held: tuple[Document, ...] = ()


@attrs.frozen(kw_only=True)
class StoredCase:
    """A case as read: its header, its last snapshot and the batches since, in order."""

    header: CaseHeader
    snapshot: bytes | None
    batches: tuple[bytes, ...]


@attrs.frozen(kw_only=True)
class WholeCase:
    """
    Everything that is stored of one case, as it is at one moment.

    Args:
        header: the case.
        batches: all from its creation on, so as many as its version says.
        snapshot: the last one, and the version that it was made at; None where there is none.
        items: its open worklist rows by number.
    """

    header: CaseHeader
    batches: tuple[bytes, ...]
    snapshot: tuple[bytes, int] | None
    items: tuple[ItemRow, ...]


@attrs.frozen(kw_only=True)
class StoredSpecification:
    """A registered specification: its canonical JSON text and the hash of its content."""

    spec_id: str
    version: str
    content_hash: str
    text: str


class Store(Protocol):
    """
    Where cases are kept.

    Every method is atomic and may be called from any thread.
    `commit` returns only when the step is as durable as `durability` says; when it raises, nothing of it is stored.
    A store with an attribute ``forgetful`` that is true loses everything with the process: there no handler waits for the
    commit of what was before it, as nothing would be left to go on from.
    Errors: ConcurrentUpdate (another version is stored), OwnershipLost (what is held has changed), UnknownCase, IdempotencyConflict, StoreFull, StoreUnavailable,
    StoreError.
    """

    @property
    def durability(self) -> Durability:
        """What an acknowledged commit survives."""

    def commit(self, commits: Sequence[Commit]) -> None:
        """Store all steps in one transaction, or none and raise."""

    def commit_each(self, calls: Sequence[Sequence[Commit]]) -> list[KnhkError | None]:
        """
        Do what as many calls of `commit` would that came at the same time: each is stored whole, or refused and not stored at all.

        Where the store has a wait that several can share, they share it.

        Returns:
            Of each call, in their order, None, or why it is refused.
        """

    def load(self, case_id: str) -> StoredCase:
        """Read a case; raises UnknownCase, or QuarantinedCase with the reason when it is set aside."""

    def history(self, case_id: str) -> tuple[bytes, ...]:
        """Read all batches of a case from its creation on."""

    def header(self, case_id: str) -> CaseHeader:
        """Read a case's header, also of a quarantined one; raises UnknownCase."""

    def whole(self, case_id: str) -> WholeCase:
        """Read everything that is stored of a case, also of a quarantined one; raises UnknownCase."""

    def cases(
        self, *, spec_id: str | None = None, state: str | None = None, after: str = "", limit: int = 100
    ) -> Sequence[CaseHeader]:
        """List headers by ascending case id, from behind `after`."""

    def items(
        self,
        *,
        case_id: str | None = None,
        state: str | None = None,
        by: str | None = None,
        topics: Sequence[str] | None = None,
        audience: Sequence[str] | None = None,
        limit: int = 100,
        after: tuple[str, int] = ("", 0),
    ) -> Sequence[ItemRow]:
        """
        List open worklist rows by (case id, number), from behind `after`.

        Args:
            case_id, state, by: that have exactly this.
            topics: whose topic is one of these.
            audience: that have one of these in their audience.
        """

    def due(self, now: int, limit: int = 100) -> Sequence[str]:
        """List running cases whose earliest timer is not after `now`, earliest first; quarantined ones never."""

    def runnable(self, after: str = "", limit: int = 100) -> Sequence[str]:
        """List running cases with automatic work, by ascending id from behind `after`; quarantined ones never."""

    def find_idempotent(self, key: str) -> tuple[str, str] | None:
        """Return (case id, digest) stored with this key, or None."""

    def idempotency_keys(self, after: str = "", limit: int = 100) -> Sequence[tuple[str, str, str]]:
        """List (key, case id, digest) of every idempotency key, by ascending key, from behind `after`."""

    def write(
        self, documents: Sequence[Document], removed: Sequence[Document] = (), held: Sequence[Document] = ()
    ) -> None:
        """
        Write and remove documents in one transaction, or none and raise.

        A document is written where the stored one has the version before its own (version 1: where there is none), and removed
        where the stored one has its version; else ConcurrentUpdate is raised.

        What is `held` is looked at first, inside the same transaction and before anything of this call is written: each must be
        stored with exactly its version (its content is not compared), else OwnershipLost is raised.
        Nobody may be able to change it between the look and the end of the transaction.
        """

    def document(self, collection: str, key: str) -> Document | None:
        """Read a document, or None where there is none."""

    def documents(
        self, collection: str, *, due: int | None = None, prefix: str = "", after: str = "", limit: int = 100
    ) -> Sequence[Document]:
        """
        List the documents of a collection by ascending key, from behind `after`.

        Args:
            collection: which.
            due: only those that are due at this time, in the order of (due, key); `prefix` and `after` are not looked at.
            prefix: only those whose key begins so.
            after, limit: the page.
        """

    def collections(self) -> Sequence[str]:
        """List the collections that hold a document, in ascending order."""

    def quarantine(self, case_id: str, reason: str) -> None:
        """Set a damaged case aside: its data stays, `load` refuses it, the lists of work leave it out."""

    def put_specification(self, specification: StoredSpecification, documents: Sequence[Document] = ()) -> bool:
        """
        Store a registration and write the documents, each as in `write`, in one transaction, or neither and raise.

        The same registration again writes nothing and looks at no document.

        Returns:
            Whether it was stored now; False: it was there before.

        Raises:
            SpecificationConflict: this version is registered with other content.
        """

    def specification(self, spec_id: str, version: str | None = None) -> StoredSpecification:
        """Read one (the latest registered without a version); raises UnknownSpecification."""

    def specifications(self) -> Sequence[StoredSpecification]:
        """List all, in the order of registration."""

    def close(self) -> None:
        """Give everything back; a closed store refuses further calls with StoreUnavailable."""


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> int:
        """Return milliseconds since the epoch, UTC."""


class Chance(Protocol):
    """What is left to chance; a ``random.Random`` is one."""

    def random(self) -> float:
        """Return a number from 0 up to but not 1, drawn uniformly."""


class IdSource(Protocol):
    """Makes ids for new cases."""

    def next_id(self) -> str:
        """Return an id that was never used; ascending ids keep stores compact."""
