"""Old parts of the record, moved out of the store into files that anybody with the key can verify.

A part is verified before it is moved, and written and synced before it is removed.
In the transaction that removes it the chain gets a signed *base*: where it goes on.
So nobody without the key can pass a chain whose beginning was cut off for one whose beginning was archived.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from knhk.errors import ConcurrentUpdate, KnhkError
from knhk.ports import Document, Store
from knhk.server.chain import Checker, End, sign, sign_base
from knhk.server.record import BASES, INDEX, Link, Record, line

LOG: Final = logging.getLogger("knhk.server")
DAY: Final = 86_400_000
"""Milliseconds."""

MOST_LINKS: Final = 50_000
"""Links in one file, about: more are in the next one."""

_LOOK_EVERY: Final = 3_600.0


class Archive:
    """
    Moves what is old out of the store.

    Args:
        store: which.
        key: with which heads and bases are signed.
        directory: of the files; it is made.
        keep: milliseconds for which a call stays in the store at least.
        now: milliseconds since the epoch.
    """

    def __init__(self, store: Store, key: bytes, directory: Path, keep: int, now: Callable[[], int]) -> None:
        self._store = store
        self._record = Record(store, key)
        self._key = key
        self._directory = directory
        self._keep = keep
        self._now = now
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="knhk-archive", daemon=True)
        self.failure: str = ""

    def start(self) -> None:
        """Look every hour from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def sweep(self) -> list[Path]:
        """
        Move all that is old; returns the files.

        Raises:
            KnhkError: the store does not let us.
            OSError: a file cannot be written.
        """
        before = self._now() - self._keep
        made = []
        for writer in self._record.writers():
            while not self._over.is_set() and (path := self._move(writer, before)) is not None:
                made.append(path)
        return made

    def _move(self, writer: str, before: int) -> Path | None:
        """Move the first part of a chain; None where nothing of it is old, or it is not as it was written."""
        base = self._record.base(writer)
        checker = Checker(self._key)
        if base is None:
            self._refuse(writer, "its base is not signed with this key")
            return None
        checker.ends[writer] = base
        lines = [] if base[0] == 0 else [line(writer, base=self._signed(writer, base, sign_base))]
        removed: list[Document] = []
        for first, links, document in self._record.batches(writer, base[0]):
            if checker.links >= MOST_LINKS or not _older(links, before):
                break
            for sequence, link in enumerate(links, first):
                checker.link(writer, sequence, link.get("entry"), link.get("hash"))
                lines.append(line(writer, sequence=sequence, entry=link.get("entry"), hash=link.get("hash")))
            removed += [document, *self._rows(writer, first, links)]
        if checker.wrong:
            self._refuse(writer, checker.wrong[0])
            return None
        if not removed:
            return None
        end = checker.ends[writer]
        lines.append(line(writer, head=self._signed(writer, end, sign)))
        path = self._written(f"{writer}-{base[0] + 1:016d}-{end[0]:016d}.jsonl", lines)
        old = self._store.document(BASES, writer)
        value = msgspec.json.encode(self._signed(writer, end, sign_base)).decode()
        new = Document(collection=BASES, key=writer, value=value, version=1 if old is None else old.version + 1)
        try:
            self._store.write([new], removed)
        except ConcurrentUpdate:
            # Another instance has moved the same.
            return None
        return path

    def _rows(self, writer: str, first: int, links: list[Link]) -> list[Document]:
        """Return the rows of the index about a batch."""
        found = []
        for tenant in sorted({str(each["entry"]["tenant"]) for each in links}):
            at = max(each["entry"]["at"] for each in links if each["entry"]["tenant"] == tenant)
            row = self._store.document(INDEX + tenant, f"{at:015d}/{writer}/{first:016d}")
            found += [] if row is None else [row]
        return found

    def _signed(self, writer: str, end: End, how: Callable[[bytes, str, int, str], str]) -> dict[str, Any]:
        return {"sequence": end[0], "hash": end[1], "at": self._now(), "signature": how(self._key, writer, *end)}

    def _written(self, name: str, lines: list[str]) -> Path:
        """Write a file, whole or not at all, and durably."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / name
        unfinished = path.with_suffix(".part")
        with open(unfinished, "w", encoding="utf-8", opener=_private) as file:
            file.writelines(f"{each}\n" for each in lines)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return path

    def _refuse(self, writer: str, why: str) -> None:
        self.failure = f"{writer}: {why}"
        LOG.error("a part of the record is not archived: it is not as it was written", extra={"reason": self.failure})

    def _repeat(self) -> None:
        while True:
            try:
                self.failure = ""
                for each in self.sweep():
                    LOG.info("a part of the record was archived", extra={"file": str(each)})
            except (KnhkError, OSError) as error:
                self.failure = str(error)
                LOG.exception("the record cannot be archived; it stays in the store")
            if self._over.wait(_LOOK_EVERY):
                return


def _older(links: list[Link], before: int) -> bool:
    """Whether all entries of a batch are from before; False where one cannot be read, which the verification tells."""
    entries = [each.get("entry") for each in links]
    return all(
        isinstance(each, dict) and isinstance(each.get("at"), int) and each["at"] < before and "tenant" in each
        for each in entries
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
