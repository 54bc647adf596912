"""
The store on a PostgreSQL server, which several instances may share.

Writing is one call of a function in the database: one statement, one transaction, one round trip, in which versions are
compared and what is held is looked at.
Callers that come while all writers are busy share it (`knhk.stores._group`, `knhk.stores._postgres_writer`).
Each question is one statement too, so that its answer is of one moment.

Outcomes of every call: its result, a CommandError of the port, StoreFull, StoreUnavailable (out of reach, locked, closed),
QuarantinedCase, or StoreError (a server set up weaker than the durability, a schema that is not ours, a value that
PostgreSQL cannot hold); any other exception is our bug.
The tables: `knhk.stores._postgres_schema`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from knhk.errors import (
    KnhkError,
    QuarantinedCase,
    StoreError,
    StoreUnavailable,
    UnknownCase,
    UnknownSpecification,
)
from knhk.ports import CaseHeader, Commit, Document, Durability, ItemRow, StoredCase, StoredSpecification, WholeCase
from knhk.stores import _postgres_queries as queries
from knhk.stores._changes import fold
from knhk.stores._group import Caller, GroupCommit
from knhk.stores._postgres_connections import Connections, broke, state_of
from knhk.stores._postgres_input import Call, tell
from knhk.stores._postgres_schema import DUPLICATE, SCHEMA_VERSION, migrate, stored_version
from knhk.stores._postgres_steps import Step, plain_step
from knhk.stores._postgres_text import inward
from knhk.stores._postgres_url import parse
from knhk.stores._postgres_writer import Writer
from knhk.stores.memory import refuse_other_content

_LEADERS: Final = 2


class PostgresStore:
    """
    Keeps cases in a schema of a PostgreSQL database.

    Args:
        url: ``postgresql://user:password@host:port/database``, and ``?schema=``, ``connections=``, ``timeout=`` (seconds), and
            any parameter of libpq (``sslmode=verify-full``, ``sslrootcert=``, ``target_session_attrs=read-write``).
        durability: what an acknowledged commit survives (``synchronous_commit``, set and read back).
        create: whether a schema that is not there is made.

    Raises:
        StoreError: the URL is not understood, the server keeps less than the durability says, the schema is another program's,
            newer than this version, or not there.
        StoreUnavailable: the server is out of reach.
    """

    def __init__(self, url: str, *, durability: Durability = Durability.FULL, create: bool = True) -> None:
        self._address = parse(url)
        self._durability = durability
        self._connections = Connections(self._address, durability)
        self._queries = queries.Queries(self._address.schema)
        self._spec_rows: dict[tuple[str, str], int] = {}
        # One group is on its way while the next gathers and goes; with more of them each would be smaller, and cost as much.
        self._groups = GroupCommit(self._write, leaders=min(_LEADERS, max(1, self._address.connections * 3 // 4)))
        self._writers: deque[Writer] = deque()
        try:
            with self._connections.use() as connection:
                self._check_schema(stored_version(connection, self._address.schema), create=create)
                migrate(connection, self._address.schema)
        except BaseException:
            self.close()
            raise

    @property
    def durability(self) -> Durability:
        """What an acknowledged commit survives."""
        return self._durability

    def commit(self, commits: Sequence[Commit]) -> None:
        """Store all steps in one transaction, or none and raise."""
        self._connections.check_open()
        if commits:
            self._groups.commit(commits, self._prepared(commits))

    def commit_each(self, calls: Sequence[Sequence[Commit]]) -> list[KnhkError | None]:
        """Store each call whole, or refuse it; they share one transaction."""
        self._connections.check_open()
        return self._groups.commit_each(calls, self._prepared)

    def write(
        self, documents: Sequence[Document], removed: Sequence[Document] = (), held: Sequence[Document] = ()
    ) -> None:
        """Write and remove documents in one transaction, or none and raise."""
        self._connections.check_open()
        if documents or removed or held:
            self._groups.commit((), tell(fold((), documents, removed, held), self._spec_row))

    def load(self, case_id: str) -> StoredCase:
        """Read a case; raises UnknownCase, or QuarantinedCase with the reason."""
        row = self._row_of(self._queries.load, case_id)
        header = queries.header(row)
        if header.quarantined:
            raise QuarantinedCase(f"case {case_id!r} is set aside: {header.quarantined}")
        return StoredCase(header=header, snapshot=row[8], batches=tuple(row[9]))

    def history(self, case_id: str) -> tuple[bytes, ...]:
        """Read all batches of a case from its creation on."""
        rows = self._read(self._queries.history, (inward(case_id),))
        if not rows:
            raise _unknown(case_id)
        return tuple(row[0] for row in rows)

    def header(self, case_id: str) -> CaseHeader:
        """Read a case's header; raises UnknownCase."""
        return queries.header(self._row_of(self._queries.header, case_id))

    def whole(self, case_id: str) -> WholeCase:
        """Read everything that is stored of a case; raises UnknownCase."""
        row = self._row_of(self._queries.whole, case_id)
        return WholeCase(
            header=queries.header(row),
            batches=tuple(row[10]),
            snapshot=None if row[8] is None else (row[8], row[9]),
            items=tuple(map(queries.item, row[11])),
        )

    def cases(
        self, *, spec_id: str | None = None, state: str | None = None, after: str = "", limit: int = 100
    ) -> Sequence[CaseHeader]:
        """List headers by ascending case id, from behind `after`."""
        return tuple(map(queries.header, self._read(*self._queries.cases(spec_id, state, after, limit))))

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
        """List open worklist rows by (case id, number), from behind `after`."""
        found = self._queries.items(
            case_id=case_id, state=state, by=by, topics=topics, audience=audience, after=after, limit=limit
        )
        return tuple(map(queries.item, self._read(*found)))

    def due(self, now: int, limit: int = 100) -> Sequence[str]:
        """List running cases whose earliest timer is not after `now`, earliest first."""
        return self._texts(self._queries.due, (now, queries.bounded(limit)))

    def runnable(self, after: str = "", limit: int = 100) -> Sequence[str]:
        """List running cases with automatic work, by ascending id from behind `after`."""
        return self._texts(self._queries.runnable, (inward(after), queries.bounded(limit)))

    def find_idempotent(self, key: str) -> tuple[str, str] | None:
        """Return (case id, digest) stored with this key, or None."""
        found: list[tuple[str, str]] = [queries.texts(row[1:]) for row in self._read(self._queries.key, (inward(key),))]
        return found[0] if found else None

    def idempotency_keys(self, after: str = "", limit: int = 100) -> Sequence[tuple[str, str, str]]:
        """List (key, case id, digest) by ascending key, from behind `after`."""
        return tuple(map(queries.texts, self._read(self._queries.keys, (inward(after), queries.bounded(limit)))))

    def document(self, collection: str, key: str) -> Document | None:
        """Read a document, or None where there is none."""
        rows = self._read(self._queries.document, (inward(collection), inward(key)))
        return next(map(queries.document, rows), None)

    def documents(
        self, collection: str, *, due: int | None = None, prefix: str = "", after: str = "", limit: int = 100
    ) -> Sequence[Document]:
        """List a collection by ascending key, or what of it is due, earliest first."""
        found = self._queries.documents(collection, due=due, prefix=prefix, after=after, limit=limit)
        return tuple(map(queries.document, self._read(*found)))

    def collections(self) -> Sequence[str]:
        """List the collections that hold a document, in ascending order."""
        return self._texts(self._queries.collections, ())

    def quarantine(self, case_id: str, reason: str) -> None:
        """Set a damaged case aside; the first reason stays."""
        if not self._read(self._queries.quarantine, (inward(reason or "no reason was given"), inward(case_id))):
            raise _unknown(case_id)

    def put_specification(self, specification: StoredSpecification, documents: Sequence[Document] = ()) -> bool:
        """Store a registration with documents, or neither; the same again does nothing: False."""
        spec_id, version, content_hash = specification.spec_id, specification.version, specification.content_hash
        found = self._read(*self._queries.specification(spec_id, version))
        if found:
            refuse_other_content(specification, queries.specification(found[0]).content_hash)
            return False
        call = tell(fold((), documents), self._spec_row)
        call.registration = (inward(spec_id), inward(version), inward(content_hash), inward(specification.text))
        try:
            self._groups.commit((), call)
        except StoreError as error:
            if state_of(error) != DUPLICATE:
                raise
            # Another was faster.
            return self.put_specification(specification, documents)
        return True

    def specification(self, spec_id: str, version: str | None = None) -> StoredSpecification:
        """Read one (the latest registered without a version); raises UnknownSpecification."""
        found = self._read(*self._queries.specification(spec_id, version))
        if not found:
            named = "" if version is None else f" version {version!r}"
            raise UnknownSpecification(f"specification {spec_id!r}{named} is not registered")
        return queries.specification(found[0])

    def specifications(self) -> Sequence[StoredSpecification]:
        """List all, in the order of registration."""
        return tuple(map(queries.specification, self._read(self._queries.specifications, ())))

    def close(self) -> None:
        """Close all connections; a closed store refuses further calls."""
        self._connections.close()

    # --- reading ------------------------------------------------------------------------------------------------------

    def _read(self, query: str, values: Sequence[Any]) -> list[Any]:
        """Ask one question; asked again where the connection had died, as each of them may be asked twice."""
        try:
            return self._ask(query, values)
        except StoreUnavailable as error:
            if not broke(error):
                raise
            self._connections.suspect()
        return self._ask(query, values)

    def _ask(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self._connections.use() as connection, connection.cursor(binary=True) as cursor:
            return cursor.execute(query, values).fetchall()

    def _row_of(self, query: str, case_id: str) -> Any:
        rows = self._read(query, (inward(case_id),))
        if not rows:
            raise _unknown(case_id)
        return rows[0]

    def _texts(self, query: str, values: Sequence[Any]) -> tuple[str, ...]:
        return tuple(each for row in self._read(query, values) for each in queries.texts(row))

    def _spec_row(self, spec_id: str, version: str) -> int:
        # Registrations are never deleted, so a row once read stays right.
        row = self._spec_rows.get((spec_id, version))
        if row is None:
            found = self._read(self._queries.specification_row, (inward(spec_id), inward(version)))
            if not found:
                raise UnknownSpecification(f"specification {spec_id!r} version {version!r} is not registered")
            row = self._spec_rows[spec_id, version] = int(found[0][0])
        return row

    def _check_schema(self, version: int | None, *, create: bool) -> None:
        named = self._address.named
        if version is None and not create:
            raise StoreError(f"there is no store in {named}")
        if version is not None and version < 0:
            raise StoreError(f"{named} holds tables of another program: give another schema= in the URL")
        if version is not None and version > SCHEMA_VERSION:
            raise StoreError(
                f"{named} has schema version {version}, this version of KNHK reads up to {SCHEMA_VERSION}: "
                "it was written by a newer KNHK; upgrade this one"
            )

    # --- writing ------------------------------------------------------------------------------------------------------

    def _prepared(self, commits: Sequence[Commit]) -> Step | Call:
        """Return what a writer wants of a caller; raises why it is refused."""
        step = plain_step(commits, self._spec_row)
        return tell(fold(commits), self._spec_row) if step is None else step

    def _write(self, group: Sequence[Caller]) -> None:
        """Store a group by a writer that nobody else uses now."""
        try:
            writer = self._writers.pop()
        except IndexError:
            writer = Writer(self._connections, self._queries)
        try:
            writer.write(group)
        finally:
            self._writers.append(writer)


def _unknown(case_id: str) -> UnknownCase:
    return UnknownCase(f"case {case_id!r} is not in the store")
