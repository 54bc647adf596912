"""What the PostgreSQL store asks, and the rows that it gets, as the port has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from knhk._lower import ANYONE
from knhk.ports import CaseHeader, Document, ItemRow, StoredSpecification
from knhk.stores._documents import after_prefix
from knhk.stores._offers import OFFERED, OPEN_TO_ANYONE
from knhk.stores._postgres_schema import REFUSED, REGISTER, SETTLE, WRITE, within
from knhk.stores._postgres_text import inward, outward

_MAX_INTEGER: Final = 2**63 - 1
_HEADER: Final = "case_id, spec_id, p.version, c.state, due, runnable, c.version, quarantined"
_FROM: Final = "FROM {s}.cases AS c JOIN {s}.specifications AS p ON p.id = c.spec"
_BATCHES: Final = (
    "ARRAY(SELECT batch FROM {s}.journal AS j WHERE j.case_row = c.id AND j.version > %s ORDER BY j.version)"
)
_WITH_SNAPSHOT: Final = f"{_FROM} LEFT JOIN {{s}}.snapshots AS n ON n.case_row = c.id WHERE case_id = %s"
_ITEM: Final = "i.case_id, i.number, i.path, i.state, i.by, i.roles, i.topic, i.audience, i.details"
_ITEMS: Final = f"SELECT {_ITEM} FROM {{s}}.worklist AS i WHERE"  # noqa: S608 - constants
# The audience comes first whatever the planner thinks of how many there are, so that a page costs a page.
_IN_AUDIENCE: Final = _ITEMS.replace(
    "{s}.worklist AS i",
    "{s}.worklist_audiences AS a CROSS JOIN LATERAL"
    " (SELECT * FROM {s}.worklist AS w WHERE w.case_id = a.case_id AND w.number = a.number OFFSET 0) AS i",
)
_AMONG: Final = "(i.case_id, i.number) IN (SELECT a.case_id, a.number FROM {s}.worklist_audiences AS a WHERE a.audience = ANY(%s::text[]))"
# What stands beside its case has no more to tell.
_OFFER: Final = (
    "SELECT c.case_id, c.offer_number AS number, c.offer_path AS path, "
    f"'{OFFERED}' AS state, '' AS by, '' AS roles, '' AS topic, '{OPEN_TO_ANYONE}' AS audience, '' AS details"
)
_OFFERS: Final = (
    f"{_OFFER} FROM {{s}}.cases AS c WHERE c.offering AND c.quarantined IS NULL"
    " AND c.case_id >= %s AND (c.case_id, c.offer_number) > (%s, %s)"
)
_ALL_OF: Final = "SELECT * FROM "
_ITEMS_OF_CASE: Final = f"{_ITEMS} i.case_id = c.case_id UNION ALL {_OFFER} WHERE c.offering"
_ROWS: Final = (
    f"coalesce((SELECT json_agg(json_build_array({_ITEM}) ORDER BY i.number) FROM ({_ITEMS_OF_CASE}) AS i), '[]')"  # noqa: S608 - constants
)
_CASE_IDS: Final = "SELECT case_id FROM {s}.cases WHERE"
_WORKING: Final = "state IN ('running', 'compensating') AND quarantined IS NULL"
_NOT_ASIDE: Final = "NOT EXISTS (SELECT FROM {s}.cases AS c WHERE c.case_id = i.case_id AND c.quarantined IS NOT NULL)"
_MOST_PARTS: Final = 200
"""How many words of an audience have a query each; of more the whole list is read."""
_SPECIFICATION: Final = "SELECT spec_id, version, content_hash, text FROM {s}.specifications"
_DOCUMENT: Final = "SELECT collection, key, value, due, version FROM {s}.documents WHERE collection = %s"
_KEY: Final = "SELECT key, case_id, digest FROM {s}.idempotency JOIN {s}.cases ON id = case_row WHERE key"
_FIXED: Final[Mapping[str, str]] = {
    "load": f"SELECT {_HEADER}, n.state, {_BATCHES.replace('%s', 'coalesce(n.version, 0)')} {_WITH_SNAPSHOT}",
    "history": "SELECT batch FROM {s}.journal WHERE case_row = (SELECT id FROM {s}.cases WHERE case_id = %s) ORDER BY version",
    "header": f"SELECT {_HEADER} {_FROM} WHERE case_id = %s",
    "whole": f"SELECT {_HEADER}, n.state, n.version, {_BATCHES.replace('%s', '0')}, {_ROWS} {_WITH_SNAPSHOT}",
    "due": f"{_CASE_IDS} due <= %s AND {_WORKING} ORDER BY due, case_id LIMIT %s",
    "runnable": f"{_CASE_IDS} runnable AND {_WORKING} AND case_id > %s ORDER BY case_id LIMIT %s",
    "key": f"{_KEY} = %s",
    "keys": f"{_KEY} > %s ORDER BY key LIMIT %s",
    "document": f"{_DOCUMENT} AND key = %s",
    # From one name to the next by the index, so that what a collection holds is not looked at.
    "collections": "WITH RECURSIVE names (name) AS ((SELECT collection FROM {s}.documents ORDER BY collection LIMIT 1) UNION ALL"
    " SELECT (SELECT collection FROM {s}.documents WHERE collection > name ORDER BY collection LIMIT 1)"
    " FROM names WHERE name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL",
    "quarantine": "UPDATE {s}.cases SET quarantined = coalesce(quarantined, %s) WHERE case_id = %s RETURNING case_id",
    "specification_row": "SELECT id FROM {s}.specifications WHERE spec_id = %s AND version = %s",
    # Writes as `store_1` does and, where that refuses nobody, stores a registration; one that is there already is `DUPLICATE`.
    "put_specification": "WITH stored AS MATERIALIZED (WRITE AS refusals), put AS (INSERT INTO {s}.specifications"
    " (spec_id, version, content_hash, text) SELECT %s, %s, %s, %s FROM stored WHERE refusals = '[]')"
    " SELECT refusals FROM stored".replace("WRITE", WRITE),
    "specifications": f"{_SPECIFICATION} ORDER BY id",
    "register": REGISTER,
    "settle": SETTLE,
    "refused": REFUSED,
}
Asked = tuple[str, Sequence[Any]]


class Queries:
    """
    The statements of one schema; those that are always the same are attributes.

    Args:
        schema: its name.
    """

    load: str
    history: str
    header: str
    whole: str
    due: str
    runnable: str
    key: str
    keys: str
    document: str
    collections: str
    quarantine: str
    specification_row: str
    put_specification: str
    specifications: str
    register: str
    settle: str
    refused: str

    def __init__(self, schema: str) -> None:
        self._schema = schema
        for name, statement in _FIXED.items():
            setattr(self, name, within(statement, schema))

    def cases(self, spec_id: str | None, state: str | None, after: str, limit: int) -> Asked:
        """A page of cases; only what is asked for is in the query, for the indexes' sake."""
        where, values = ["case_id > %s"], [inward(after)]
        if spec_id is not None:
            where.append("c.spec IN (SELECT id FROM {s}.specifications WHERE spec_id = %s)")
            values.append(inward(spec_id))
        if state is not None:
            where.append("c.state = %s")
            values.append(inward(state))
        query = f"SELECT {_HEADER} {_FROM} WHERE {' AND '.join(where)} ORDER BY case_id LIMIT %s"
        return within(query, self._schema), (*values, bounded(limit))

    def items(
        self,
        *,
        case_id: str | None,
        state: str | None,
        by: str | None,
        topics: Sequence[str] | None,
        audience: Sequence[str] | None,
        after: tuple[str, int],
        limit: int,
    ) -> Asked:
        """A page of the worklist; only what is asked for is in the query, for the indexes' sake."""
        page = [inward(after[0]), after[1]]
        where, values = ["(i.case_id, i.number) > (%s, %s)"], list[Any](page)
        for column, wanted in (("case_id", case_id), ("state", state), ("by", by)):
            if wanted is not None:
                where.append(f"i.{column} = %s" + (" AND i.by <> ''" if column == "by" and wanted else ""))
                values.append(inward(wanted))
        if topics is not None:
            where.append("i.topic <> '' AND i.topic = ANY(%s::text[])")
            values.append([inward(each) for each in topics])
        where.append(_NOT_ASIDE)
        words = [inward(each) for each in audience or ()]
        order, most = " ORDER BY case_id, number LIMIT %s", bounded(limit)
        parts: list[str] = []
        own: list[Any] = []
        if state in {None, OFFERED} and not by and topics is None and (audience is None or ANYONE in audience):
            this = "" if case_id is None else " AND c.case_id = %s"
            parts.append(f"({_OFFERS}{this} ORDER BY c.case_id LIMIT %s)")
            own += (page[0], *page, *(() if case_id is None else (inward(case_id),)), most)
        if 0 < len(words) <= _MOST_PARTS:
            # Each word of the audience has its page by the index, so that what is beyond the page is not looked at.
            where.insert(0, "a.audience = %s AND (a.case_id, a.number) > (%s, %s)")
            part = f"({_IN_AUDIENCE} {' AND '.join(where)} ORDER BY a.case_id, a.number LIMIT %s)"
            parts += [part] * len(words)
            own += (value for word in words for value in (word, *page, *values, most))
        else:
            if audience is not None:
                where.append(_AMONG)
                values.append(words)
            parts.append(f"({_ITEMS} {' AND '.join(where)}{order})")
            own += (*values, most)
        query = f"{_ALL_OF}({' UNION '.join(parts)}) AS found{order}" if len(parts) > 1 else parts[0]
        return within(query, self._schema), (*own, most) if len(parts) > 1 else own

    def documents(self, collection: str, *, due: int | None, prefix: str, after: str, limit: int) -> Asked:
        """A page of a collection by key, or of what of it is due."""
        if due is not None:
            query = f"{_DOCUMENT} AND due <= %s ORDER BY due, key LIMIT %s"
            return within(query, self._schema), (inward(collection), due, bounded(limit))
        where, values = " AND key > %s AND key >= %s", [inward(collection), inward(after), inward(prefix)]
        end = after_prefix(prefix)
        if end is not None:
            where += " AND key < %s"
            values.append(inward(end))
        return within(f"{_DOCUMENT}{where} ORDER BY key LIMIT %s", self._schema), (*values, bounded(limit))

    def specification(self, spec_id: str, version: str | None) -> Asked:
        """One specification; without a version the latest registered."""
        if version is None:
            query = f"{_SPECIFICATION} WHERE spec_id = %s ORDER BY id DESC LIMIT 1"
            return within(query, self._schema), (inward(spec_id),)
        query = f"{_SPECIFICATION} WHERE spec_id = %s AND version = %s"
        return within(query, self._schema), (inward(spec_id), inward(version))


def bounded(limit: int) -> int:
    """Return a limit that PostgreSQL takes."""
    return min(max(limit, 0), _MAX_INTEGER)


def texts(row: Sequence[str]) -> Any:
    """Return a row of texts as they were."""
    return tuple(map(outward, row))


def header(row: Sequence[Any]) -> CaseHeader:
    """Return a row that begins with a header."""
    return CaseHeader(
        case_id=outward(row[0]),
        spec_id=outward(row[1]),
        spec_version=outward(row[2]),
        state=outward(row[3]),
        due=row[4],
        runnable=row[5],
        version=row[6],
        quarantined=outward(row[7] or ""),
    )


def item(row: Sequence[Any]) -> ItemRow:
    """Return a row of the worklist."""
    return ItemRow(
        case_id=outward(row[0]),
        number=row[1],
        path=outward(row[2]),
        state=outward(row[3]),
        by=outward(row[4]),
        roles=tuple(json.loads(row[5])) if row[5] else (),
        topic=outward(row[6]),
        audience=tuple(json.loads(row[7])) if row[7] else (),
        details=json.loads(row[8]) if row[8] else {},
    )


def document(row: Sequence[Any]) -> Document:
    """Return a row of the documents."""
    return Document(collection=outward(row[0]), key=outward(row[1]), value=outward(row[2]), due=row[3], version=row[4])


def specification(row: Sequence[str]) -> StoredSpecification:
    """Return a row of the registrations."""
    return StoredSpecification(**dict(zip(("spec_id", "version", "content_hash", "text"), texts(row), strict=True)))
