"""Messages of webhooks that did not arrive, as dead letters: the dead letter queue has them behind all work."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

import attrs

from knhk.errors import CommandError, UnknownWorkItem
from knhk.work.dead_letter import MESSAGE, DeadLetter
from knhk.work.webhooks import Message, Webhooks

_LOG: Final = logging.getLogger("knhk.webhooks")


def is_message(letter: str) -> bool:
    """Whether an id is that of a message: it ends with a place in a history, and that of work with a number."""
    *rest, place = letter.rsplit(":", 2)
    version, point, number = place.partition(".")
    return len(rest) == 2 and point == "." and version.isdecimal() and number.isdecimal()


class DeadMessages:
    """
    The messages that did not arrive.

    Args:
        webhooks: of the engine.
    """

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    def all(self, after: str = "", *, webhook: str | None = None) -> Iterator[DeadLetter]:
        """Go through them by subscription, case and place, from behind the id `after`; of one subscription, or of all."""
        for message in self._webhooks.dead(webhook or "", after=_key(after) if after else ""):
            yield _letter(message)

    def get(self, letter: str) -> DeadLetter:
        """Return one with what it says; raises UnknownWorkItem."""
        message = self._message(letter)
        return attrs.evolve(_letter(message), data=dict(message.message))

    def replay(self, letter: str, *, by: str) -> None:
        """Send it again, with all its attempts before it; raises UnknownWorkItem."""
        self._webhooks.replay(self._message(letter).id)
        _LOG.info("message %s is replayed by %s", letter, by or "nobody who said so")

    def discard(self, letter: str, *, by: str, reason: str) -> None:
        """Forget it; raises UnknownWorkItem."""
        self._webhooks.discard(self._message(letter).id)
        _LOG.info("message %s is discarded by %s: %s", letter, by, reason)

    def _message(self, letter: str) -> Message:
        try:
            return self._webhooks.dead_message(_key(letter))
        except CommandError as error:
            raise UnknownWorkItem(f"there is no dead letter {letter!r}") from error


def _key(letter: str) -> str:
    """Return where a message is kept; neither a quoted case id nor a place has a colon."""
    return "/".join(letter.rsplit(":", 2))


def _letter(message: Message) -> DeadLetter:
    told = message.message
    return DeadLetter(
        id=":".join(message.id.rsplit("/", 2)),
        kind=MESSAGE,
        case_id=told["case_id"],
        number=0,
        path=told["path"],
        spec_id=told["spec_id"],
        spec_version=told["spec_version"],
        handler="",
        topic="",
        webhook=message.subscription,
        reason=message.error,
        error=message.kind,
        at=message.died,
        attempts=message.attempts,
        attempt=message.attempts,
        digest="",
        where="",
    )
