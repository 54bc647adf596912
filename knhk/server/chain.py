"""The chain of the record: how links hang together, how ends are signed, and how it is seen that something was changed.

Nothing but the exported lines and the key is needed, and nothing but the standard library, so that anybody can write it again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

NOTHING: Final = "0" * 64
"""The hash before the first link."""

MOST_FINDINGS: Final = 1_000
"""Findings that are told; a chain that is broken everywhere is broken."""

End = tuple[int, str]
"""Number and hash of a link."""


def link_text(previous: str, sequence: int, entry: Mapping[str, Any]) -> str:
    """Return what is hashed of a link: canonical JSON of the hash before it, its number and its entry."""
    return json.dumps([previous, sequence, entry], sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(text: str) -> str:
    """Return the hash of a link."""
    return hashlib.sha256(text.encode()).hexdigest()


def sign(key: bytes, writer: str, sequence: int, head: str) -> str:
    """Return the signature of a head."""
    return hmac.new(key, f"{writer}\n{sequence}\n{head}".encode(), hashlib.sha256).hexdigest()


def sign_base(key: bytes, writer: str, sequence: int, hash_: str) -> str:
    """Return the signature of a base, behind which a chain goes on whose beginning is archived; no head's is like it."""
    return hmac.new(key, f"\0base\n{writer}\n{sequence}\n{hash_}".encode(), hashlib.sha256).hexdigest()


def read_end(tree: Any, key: bytes, writer: str, *, base: bool = False) -> End | None:
    """Return the link that a signed head or base names, or None where the key did not sign it."""
    if not isinstance(tree, dict) or not isinstance(tree.get("sequence"), int):
        return None
    end = (tree["sequence"], str(tree.get("hash")))
    signature = (sign_base if base else sign)(key, writer, *end)
    return end if hmac.compare_digest(signature.encode(), str(tree.get("signature")).encode()) else None


class Checker:
    """
    Follows chains, link by link, and notes what does not fit.

    Args:
        key: with which heads and bases are signed.
        kept: by writer, a head that was kept elsewhere.

    Attributes:
        ends: by writer, the last link so far.
        links: how many were looked at.
        wrong: what does not fit.
    """

    def __init__(self, key: bytes, kept: Mapping[str, End] | None = None) -> None:
        self._key = key
        self._kept = dict(kept or {})
        self._seen: set[str] = set()
        self._heads: dict[str, Any] = {}
        self.ends: dict[str, End] = {}
        self.links = 0
        self.wrong: list[str] = []

    def link(self, writer: str, sequence: Any, entry: Any, said: Any) -> None:
        """Look at a link."""
        before, previous = self.ends.get(writer, (0, NOTHING))
        if sequence != before + 1:
            self.note(f"{writer}: behind link {before} comes {sequence}")
        if digest(link_text(previous, sequence, entry)) != said:
            self.note(f"{writer}: link {sequence} is not what was written behind {before}")
        self._reach(writer, (sequence, said))
        self.links += 1

    def base(self, writer: str, tree: Any) -> None:
        """Look at where a chain begins whose first part is archived; behind that part, it must be its end."""
        end = read_end(tree, self._key, writer, base=True)
        if end is None:
            self.note(f"{writer}: the base is not signed with this key")
            return
        known = self.ends.get(writer)
        if known is not None and known != end:
            self.note(f"{writer}: behind link {known[0]} comes the base {end[0]}")
        self._reach(writer, end)

    def head(self, writer: str, tree: Any) -> None:
        """Note a signed head; the last one of a writer counts."""
        self._heads[writer] = tree

    def finish(self) -> list[str]:
        """Compare heads with ends; returns all that is wrong."""
        for writer in sorted(self.ends.keys() | self._heads.keys()):
            if writer not in self._heads:
                self.note(f"{writer}: the chain has no head")
                continue
            self.compare(writer, self._heads[writer], self.ends.get(writer, (0, NOTHING)))
        for writer, (sequence, _) in self._kept.items():
            if writer not in self._seen:
                self.note(f"{writer}: the head {sequence} that was kept is not in the chain")
        return self.wrong

    def compare(self, writer: str, head: Any, end: End) -> None:
        """Look whether a head is signed, and names this end of its chain."""
        said = read_end(head, self._key, writer)
        if said is None:
            self.note(f"{writer}: the head is not signed with this key")
        if said != end:
            named = head.get("sequence") if isinstance(head, dict) else None
            self.note(f"{writer}: the head says {named} links, the chain ends with {end[0]}")

    def note(self, finding: str) -> None:
        """Note what is wrong."""
        if len(self.wrong) < MOST_FINDINGS and finding not in self.wrong:
            self.wrong.append(finding)

    def _reach(self, writer: str, end: End) -> None:
        self.ends[writer] = end
        if self._kept.get(writer) == end:
            self._seen.add(writer)


def verify(lines: Iterable[str], key: bytes, *, kept: Mapping[str, End] | None = None) -> list[str]:
    """
    Look for what was changed in an exported record.

    Args:
        lines: the export; behind the archived parts of it, where there are some.
        key: with which heads are signed.
        kept: by writer, number and hash of a head that was kept elsewhere: what was cut off behind it is found.

    Returns:
        What is wrong; nothing where all is as it was written.
    """
    checker = Checker(key, kept)
    for number, line in enumerate(lines, 1):
        try:
            tree = json.loads(line)
            writer = tree["writer"]
            if "head" in tree:
                checker.head(writer, tree["head"])
            elif "base" in tree:
                checker.base(writer, tree["base"])
            else:
                checker.link(writer, tree["sequence"], tree["entry"], tree["hash"])
        except (ValueError, KeyError, TypeError) as error:
            checker.note(f"line {number} cannot be read: {error!r}")
    return checker.finish()
