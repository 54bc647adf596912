"""Webhooks: who is told of what, and what became of the messages."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

import attrs

from knhk.errors import CommandError, ConcurrentUpdate
from knhk.ports import Clock, Document, IdSource, Store
from knhk.spec import Retry
from knhk.work.delivery import DEAD
from knhk.work.outbound import Outbound, require_client
from knhk.work.outbox import (
    OUTBOX,
    SUBSCRIPTIONS,
    TYPES,
    Outbox,
    Subscription,
    all_documents,
    read_subscription,
    write_subscription,
)

SHORTEST_SECRET: Final = 32
"""Characters of a secret."""

RETRY: Final = Retry(max_attempts=10, initial=1_000, coefficient=4.0, max=3_600_000)
"""What follows when a message did not arrive, where the subscription does not say so: ten attempts within four hours or so."""


@attrs.frozen(kw_only=True)
class Message:
    """
    A message that waits, or did not arrive.

    Args:
        id: its place in the outbox, or among the dead.
        subscription: whose it is.
        message: what is sent.
        attempts: how often it was sent.
        error, kind: what the last attempt failed of, and the type of that error by name.
        died: when it was given up, in milliseconds since the epoch; None where it was not, or is not known.
        due: when it is looked at next, in milliseconds since the epoch; None among the dead.
    """

    id: str
    subscription: str
    message: Mapping[str, Any]
    attempts: int
    error: str
    due: int | None
    kind: str = ""
    died: int | None = None


class Webhooks:
    """Subscriptions to what happens in cases; `Engine.webhooks`."""

    def __init__(self, store: Store, clock: Clock, ids: IdSource, outbound: Outbound, outbox: Outbox) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._outbound = outbound
        self._outbox = outbox

    def subscribe(
        self,
        url: str,
        *,
        events: Iterable[str] = ("*",),
        spec_id: str | None = None,
        secret: str | None = None,
        with_data: bool = True,
        timeout: float = 10.0,
        retry: Retry = RETRY,
    ) -> Subscription:
        """
        Tell a URL of what happens from now on.

        Args:
            url: where messages are POSTed; the engine's `Outbound` must allow it.
            events: the types, by name or with ``*``: ``["case_completed", "item_*", "dead_letter"]``.
            spec_id: the specification whose cases are meant; None: all.
            secret: signs the messages; None: one is made.
            with_data: whether messages hold the data of cases that came with their events.
            timeout: seconds that one attempt may take.
            retry: what follows when a message did not arrive.

        Returns:
            The subscription with its secret, which is shown this once.

        Raises:
            OutboundRefused: the URL must not be called.
            CommandError: there is no such type of event, the secret is too short, or the timeout is none.
            MissingExtra: the library for requests is not installed.
        """
        require_client()
        self._outbound.check(url)
        if secret is not None and len(secret) < SHORTEST_SECRET:
            raise CommandError(f"a secret has at least {SHORTEST_SECRET} characters, this one has {len(secret)}")
        if not 0 < timeout <= 600:
            raise CommandError(f"the timeout of a subscription is more than 0 and at most 600 seconds, not {timeout}")
        subscription = Subscription(
            id=self._ids.next_id(),
            url=url,
            events=_types(events),
            spec_id=spec_id,
            secret=secrets.token_urlsafe(SHORTEST_SECRET) if secret is None else secret,
            with_data=with_data,
            timeout=float(timeout),
            retry=retry,
        )
        self._store.write([write_subscription(subscription)])
        self._outbox.refresh(self._clock.now())
        return subscription

    def list(self) -> list[Subscription]:
        """Return all subscriptions, without their secrets."""
        return [_without_secret(read_subscription(each)) for each in all_documents(self._store, SUBSCRIPTIONS)]

    def get(self, subscription: str) -> Subscription:
        """Return a subscription by its id, without its secret; raises CommandError where there is none."""
        return _without_secret(read_subscription(self._document(subscription)))

    def pause(self, subscription: str) -> None:
        """Let the messages of a subscription wait: they are kept, and sent after `resume`."""
        self._change(subscription, lambda each: attrs.evolve(each, paused=True))

    def resume(self, subscription: str) -> None:
        """Send what waited while the subscription was paused, and what comes."""
        self._change(subscription, lambda each: attrs.evolve(each, paused=False))
        now = self._clock.now()
        for document in all_documents(self._store, OUTBOX, prefix=f"{subscription}/"):
            self._move(document, now)

    def remove(self, subscription: str) -> None:
        """Tell it nothing more: the messages that wait go, and so do the dead ones."""
        while True:
            document = self._document(subscription)
            try:
                self._store.write([], removed=[document])
                break
            except ConcurrentUpdate:
                continue
        self._outbox.refresh(self._clock.now())
        for collection in (OUTBOX, DEAD):
            for each in all_documents(self._store, collection, prefix=f"{subscription}/"):
                self._drop(each)

    def pending(self, subscription: str = "") -> Iterator[Message]:
        """List the messages that have not arrived yet: of one subscription, or of all."""
        return self._messages(OUTBOX, subscription)

    def dead(self, subscription: str = "", *, after: str = "") -> Iterator[Message]:
        """List the messages that did not arrive and are not sent any more: of one subscription, or of all, behind one."""
        return self._messages(DEAD, subscription, after)

    def dead_message(self, message: str) -> Message:
        """Return a dead message by its id; raises CommandError where there is none."""
        return _message(self._dead(message))

    def replay(self, message: str) -> None:
        """Send a dead message again, with all its attempts before it; raises CommandError where there is none."""
        document = self._dead(message)
        tree = json.loads(document.value)
        again = Document(
            collection=OUTBOX,
            key=message,
            value=json.dumps({**tree, "attempts": 0, "died": None}, ensure_ascii=False),
            due=self._clock.now(),
        )
        self._store.write([again], removed=[document])

    def discard(self, message: str) -> None:
        """Forget a dead message; raises CommandError where there is none."""
        self._store.write([], removed=[self._dead(message)])

    # --- inside -------------------------------------------------------------------------------------------------------

    def _document(self, subscription: str) -> Document:
        document = self._store.document(SUBSCRIPTIONS, subscription)
        if document is None:
            raise CommandError(f"there is no subscription {subscription!r}")
        return document

    def _dead(self, message: str) -> Document:
        document = self._store.document(DEAD, message)
        if document is None:
            raise CommandError(f"there is no dead message {message!r}")
        return document

    def _change(self, subscription: str, change: Callable[[Subscription], Subscription]) -> None:
        while True:
            document = self._document(subscription)
            changed = write_subscription(change(read_subscription(document)), version=document.version + 1)
            try:
                self._store.write([changed])
                break
            except ConcurrentUpdate:
                # Somebody else changed it at the same time: the change is made to what is so now.
                continue
        self._outbox.refresh(self._clock.now())

    def _move(self, document: Document, due: int) -> None:
        try:
            self._store.write([attrs.evolve(document, due=due, version=document.version + 1)])
        except ConcurrentUpdate:
            # Whoever is sending it knows when it is due.
            return

    def _drop(self, document: Document) -> None:
        try:
            self._store.write([], removed=[document])
        except ConcurrentUpdate:
            # Whoever is sending it finds no subscription then, and removes it.
            return

    def _messages(self, collection: str, subscription: str, after: str = "") -> Iterator[Message]:
        prefix = f"{subscription}/" if subscription else ""
        return map(_message, all_documents(self._store, collection, prefix=prefix, after=after))


def _message(document: Document) -> Message:
    tree = json.loads(document.value)
    return Message(
        id=document.key,
        subscription=document.key.partition("/")[0],
        message=tree["message"],
        attempts=tree["attempts"],
        error=tree["error"],
        due=document.due,
        kind=tree.get("kind", ""),
        died=tree.get("died"),
    )


def _types(events: Iterable[str]) -> tuple[str, ...]:
    wanted = [events] if isinstance(events, str) else list(events)
    found = {name: [each for each in TYPES if fnmatchcase(each, name)] for name in wanted}
    unknown = [name for name, names in found.items() if not names]
    if unknown or not found:
        raise CommandError(f"there are no events {', '.join(map(repr, unknown)) or '[]'}; there are {', '.join(TYPES)}")
    return tuple(each for each in TYPES if any(each in names for names in found.values()))


def _without_secret(subscription: Subscription) -> Subscription:
    return attrs.evolve(subscription, secret="")
