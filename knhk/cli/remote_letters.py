"""The dead letters of a service, as those of an engine are asked for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from knhk.cli.failures import USAGE, Failure
from knhk.cli.remote_pages import LONGEST_PAGE, milliseconds, pages
from knhk.client import Client
from knhk.client.results import DeadLetter as Told
from knhk.errors import CommandError
from knhk.work.dead_letter import DeadLetter


class RemoteLetters:
    """
    What has failed for good at a service; whose command it is, the token says.

    Args:
        client: asks it.
    """

    def __init__(self, client: Client) -> None:
        self._letters = client.dead_letters

    def all(self, **wanted: str | None) -> Iterator[DeadLetter]:
        """Go through all that have exactly this: work by case and number, then messages by subscription."""
        found = pages(lambda cursor: self._letters.list(limit=LONGEST_PAGE, cursor=cursor, **wanted))
        return map(_letter, found)

    def get(self, letter: str) -> DeadLetter:
        """Return one with its data; raises UnknownWorkItem."""
        return _letter(self._letters.get(letter))

    def replay(self, letter: str, *, by: str = "") -> None:
        """Give work all its attempts anew, or send a message again."""
        _refuse(by)
        self._letters.replay(letter)

    def replay_all(self, *, by: str = "", **wanted: str | None) -> int:
        """Replay all that have exactly this; returns how many there were."""
        _refuse(by)
        replayed = 0
        for each in self.all(**wanted):
            try:
                self._letters.replay(each.id)
            except CommandError:
                # Somebody else replayed or discarded it, or holds its case.
                continue
            replayed += 1
        return replayed

    def discard(self, letter: str, *, by: str, reason: str) -> None:
        """Give work up, or forget a message."""
        _refuse(by)
        self._letters.discard(letter, reason)


def _refuse(by: str) -> None:
    if by:
        raise Failure("--by is for a store: a service takes the name from the token", USAGE)


def _letter(told: Told) -> DeadLetter:
    members: dict[str, Any] = attrs.asdict(told, recurse=False)
    return DeadLetter(**{**members, "at": milliseconds(told.at)})
