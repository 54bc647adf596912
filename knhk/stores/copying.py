"""
Everything of one store into another, so that a copy which is killed goes on where it was.

A case is copied in one call, with all its steps: it is there whole or not at all, as long as the target takes so much in one
call; what it refuses for its size is halved.
What is there already is compared by its version, so a second run copies what is missing, and what has changed since.
While a copy is unfinished the target holds a document that says of what (`COPYING`); it goes when both hold the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import attrs

from knhk.errors import QuarantinedCase, StoreError, StoreFull, StoreUnavailable, UnknownCase
from knhk.ports import CaseHeader, Commit, Document, ItemRow, Store, WholeCase

COPYING: Final = "knhk.copy"
"""The collection of the mark of an unfinished copy."""

_MARK: Final = "source"
_T = TypeVar("_T")
_PAGE: Final = 500
_CASES: Final = 200
_BYTES: Final = 4 * 1024 * 1024
_VERSIONS: Final = 5_000


@attrs.frozen
class Contents:
    """
    What a store holds, for comparison.

    Args:
        counts: how many there are of each kind.
        digests: SHA-256 over all of each kind in order, in hexadecimal.
    """

    counts: dict[str, int]
    digests: dict[str, str]


def contents(store: Store, tell: Callable[[str], object] = lambda _: None) -> Contents:
    """Read everything of a store; `tell` is told of the progress."""
    counts = dict.fromkeys(("specifications", "cases", "batches", "items", "keys", "documents"), 0)
    hashes = {kind: hashlib.sha256() for kind in ("specifications", "cases", "keys", "documents")}

    def add(kind: str, *parts: bytes) -> None:
        counts[kind] += 1
        for each in parts:
            hashes[kind].update(len(each).to_bytes(8, "big") + each)

    for specification in store.specifications():
        add("specifications", _json(attrs.astuple(specification)))
    for header in _cases(store):
        whole = store.whole(header.case_id)
        state, version = whole.snapshot or (b"", 0)
        told = [attrs.astuple(whole.header), version, [attrs.asdict(each) for each in whole.items]]
        add("cases", _json(told), state, *whole.batches)
        counts["batches"] += len(whole.batches)
        counts["items"] += len(whole.items)
        if counts["cases"] % 100 == 0:
            tell(f"{counts['cases']:,} cases read")
    for key in _keys(store):
        add("keys", _json(key))
    for collection in _collections(store):
        for document in _documents(store, collection):
            add("documents", _json(attrs.astuple(document)))
    return Contents(counts, {kind: each.hexdigest() for kind, each in hashes.items()})


def copy_store(source: Store, target: Store, *, name: str, tell: Callable[[str], object] = lambda _: None) -> Contents:
    """
    Copy everything, compare both, and return what they hold.

    Args:
        source: is read only; nobody may use it meanwhile.
        target: is empty, or an unfinished copy of the same source.
        name: what the source is called: the same whenever a copy of it goes on.
        tell: is told of the progress.

    Raises:
        StoreError: the target holds something else, the source is an unfinished copy itself, or they differ in the end;
            what is copied stays, and another run goes on with it.
    """
    mark = _begin(source, target, name)
    copied = _Copied(target, tell)
    for specification in source.specifications():
        target.put_specification(specification)
    for key, case_id, digest in _keys(source):
        if target.find_idempotent(key) is None:
            copied.add(source.whole(case_id), _version(target, case_id), (key, digest))
    copied.flush()
    for header, there in _beside(_cases(source), _cases(target), lambda each: each.case_id):
        if header is not None and header != there:
            copied.add(source.whole(header.case_id), there)
    copied.flush()
    _copy_documents(source, target, tell)
    tell("comparing")
    here, there_too = contents(source, tell), contents(target, tell)
    if here != there_too:
        differ = [kind for kind, digest in here.digests.items() if digest != there_too.digests[kind]]
        raise StoreError(
            f"the copy differs from its source in {', '.join(differ)}: "
            "somebody used one of them meanwhile; stop whoever does, and run the same again"
        )
    target.write([], [mark])
    return here


def _begin(source: Store, target: Store, name: str) -> Document:
    if source.document(COPYING, _MARK) is not None:
        raise StoreError("the source is an unfinished copy itself: finish that first")
    mark = target.document(COPYING, _MARK)
    if mark is None:
        if target.specifications() or target.cases(limit=1) or target.collections():
            raise StoreError("the target is not empty: give a store that is, or that is not there yet")
        mark = Document(collection=COPYING, key=_MARK, value=name)
        target.write([mark])
    elif mark.value != name:
        raise StoreError(f"the target is an unfinished copy of another store, {mark.value}: give another target")
    return mark


class _Copied:
    """Gathers the steps of several cases into one call."""

    def __init__(self, target: Store, tell: Callable[[str], object]) -> None:
        self._target = target
        self._tell = tell
        self._commits: list[Commit] = []
        self._cases = 0
        self._bytes = 0
        self._done = 0

    def add(self, whole: WholeCase, there: CaseHeader | None, key: tuple[str, str] | None = None) -> None:
        """Add what the target lacks of a case."""
        header = whole.header
        behind = 0 if there is None else there.version
        if behind == header.version:
            if header.quarantined:
                self._target.quarantine(header.case_id, header.quarantined)
            return
        had: Sequence[ItemRow] = () if there is None else self._target.whole(header.case_id).items
        self._commits += _steps(whole, behind, had, key)
        self._cases += 1
        self._bytes += sum(map(len, whole.batches[behind:]))
        if self._cases >= _CASES or self._bytes >= _BYTES:
            self.flush()

    def flush(self) -> None:
        """Store what was gathered."""
        if self._commits:
            _in_parts(self._target.commit, self._commits)
            self._done += self._cases
            self._tell(f"{self._done:,} cases copied")
        self._commits, self._cases, self._bytes = [], 0, 0


def _steps(whole: WholeCase, behind: int, had: Sequence[ItemRow], key: tuple[str, str] | None) -> Iterator[Commit]:
    """Yield the steps of a case behind a version; the last has all that it is now."""
    last = whole.header
    kept = {each.number for each in whole.items}
    state, at = whole.snapshot or (None, 0)
    for version, batch in enumerate(whole.batches[behind:], behind + 1):
        is_last = version == last.version
        # What it was before nobody knows, and nobody sees.
        header = last if is_last else attrs.evolve(last, version=version, due=None, runnable=False, quarantined="")
        yield Commit(
            header=header,
            expected=version - 1,
            batch=batch,
            snapshot=state if version == at else None,
            items=whole.items if is_last else (),
            closed_items=tuple(each.number for each in had if each.number not in kept) if is_last else (),
            idempotency=key if version == behind + 1 else None,
        )


def _copy_documents(source: Store, target: Store, tell: Callable[[str], object]) -> None:
    done = 0
    for collection in sorted({*_collections(source), *_collections(target)}):
        pairs = _beside(_documents(source, collection), _documents(target, collection), lambda each: each.key)
        writes: list[Document] = []
        for wanted, there in pairs:
            if wanted == there:
                continue
            version = 0 if there is None else there.version
            if there is not None and (wanted is None or version >= wanted.version):
                target.write([], [there])
                version = 0
            if wanted is not None:
                # A document's version counts its writes, so it is written as often.
                for each in range(version + 1, wanted.version + 1):
                    writes.append(attrs.evolve(wanted, version=each))
                    if len(writes) >= _VERSIONS:
                        _in_parts(target.write, writes)
                        writes = []
                done += 1
                if done % 100 == 0:
                    tell(f"{done:,} documents copied")
        if writes:
            _in_parts(target.write, writes)


def _in_parts(store: Callable[[Sequence[_T]], None], things: Sequence[_T]) -> None:
    """Store things in one call, or in as many as it takes where the target refuses so many at once."""
    try:
        store(things)
    except StoreError as error:
        if len(things) == 1 or isinstance(error, StoreFull | StoreUnavailable | QuarantinedCase):
            raise
        half = len(things) // 2
        _in_parts(store, things[:half])
        _in_parts(store, things[half:])


def _beside(
    ours: Iterator[Any], theirs: Iterator[Any], key: Callable[[Any], str]
) -> Iterator[tuple[Any | None, Any | None]]:
    """Yield what two lists in the order of their keys have of each key; None: nothing."""
    one, other = next(ours, None), next(theirs, None)
    while one is not None or other is not None:
        if other is None or (one is not None and key(one) < key(other)):
            yield one, None
            one = next(ours, None)
        elif one is None or key(other) < key(one):
            yield None, other
            other = next(theirs, None)
        else:
            yield one, other
            one, other = next(ours, None), next(theirs, None)


def _version(store: Store, case_id: str) -> CaseHeader | None:
    try:
        return store.header(case_id)
    except UnknownCase:
        return None


def _cases(store: Store) -> Iterator[CaseHeader]:
    after = ""
    while page := store.cases(after=after, limit=_PAGE):
        yield from page
        after = page[-1].case_id


def _keys(store: Store) -> Iterator[tuple[str, str, str]]:
    after = ""
    while page := store.idempotency_keys(after, _PAGE):
        yield from page
        after = page[-1][0]


def _collections(store: Store) -> list[str]:
    return [each for each in store.collections() if each != COPYING]


def _documents(store: Store, collection: str) -> Iterator[Document]:
    after = ""
    while page := store.documents(collection, after=after, limit=_PAGE):
        yield from page
        after = page[-1].key


def _json(tree: Any) -> bytes:
    return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
