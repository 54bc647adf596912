"""Sending what the outbox holds: at least once, and in order for each case and subscription.

A *stream* is the messages of one case for one subscription; only its first message, the head, is ever sent.
Whoever sends it first claims it: writes the number of the attempt and, as its due time, when the claim ends, by
compare-and-swap.
So other engines on the store leave it alone, and send it again if this one is killed meanwhile.
A message that arrived is removed, and the next one claimed in the same transaction.
One that did not is due again after its wait, and what is behind it is put off until then; after its last attempt it goes
among the dead, and the stream goes on without it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final

import attrs

from knhk.errors import ConcurrentUpdate, OutboundError, ResponseRefused
from knhk.ports import Document, Store
from knhk.work.answers import retry_after
from knhk.work.outbox import OUTBOX, SUBSCRIPTIONS, Subscription, read_subscription
from knhk.work.ownership import Ownership
from knhk.work.signature import HEADER, sign
from knhk.work.spans import Requests, Tracer, spanned
from knhk.workitem import backoff

DEAD: Final = "webhook-dead"
"""The collection of the messages that did not arrive."""

PAGE: Final = 100
"""Messages that are read at a time."""

CLAIM_MARGIN: Final = 30_000
"""Milliseconds that a claim lasts longer than an attempt may take."""

WHILE_PAUSED: Final = 3_600_000
"""Milliseconds after which a message of a paused subscription is looked at again."""

_MOST_LOOKED_AT: Final = 10_000
_LONGEST_ERROR: Final = 500

Time = Callable[[], int]


class Delivery:
    """
    Sends messages, from several streams at a time.

    Args:
        store: where the outbox is.
        outbound: makes the requests.
        draw: a number from 0 up to but not 1, by chance, for the waits.
        streams: how many streams are sent at a time.
        ownership: which streams are sent here, by their names; None: all.
        tracer: is told of each attempt; None: nobody is.
    """

    def __init__(
        self,
        store: Store,
        outbound: Requests,
        *,
        draw: Callable[[], float],
        streams: int = 8,
        ownership: Ownership | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._ownership = ownership
        self._tracer = tracer
        self._store = store
        self._outbound = outbound
        self._draw = draw
        self._streams = streams
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._sent: dict[str, Future[int]] = {}
        self._closed = False

    def begin(self, time: Time) -> int:
        """
        Begin to send what is due, without waiting for it.

        Returns:
            How many streams were begun, or ended since the last call.

        Raises:
            KnhkError: why a stream that was begun before could not be sent.
        """
        failures: list[BaseException] = []
        ended, _ = self._harvest(failures)
        _raise_first(failures)
        return self._begin(time) + ended

    def deliver(self, time: Time) -> int:
        """
        Send what is due, and what comes due meanwhile; return how many messages arrived.

        Raises:
            KnhkError: why a stream could not be sent, after the others that were begun.
        """
        arrived = 0
        failures: list[BaseException] = []
        while True:
            if not failures:
                self._begin(time)
            with self._lock:
                futures = tuple(self._sent.values())
            if not futures:
                _raise_first(failures)
                return arrived
            wait(futures)
            arrived += self._harvest(failures)[1]

    def close(self) -> None:
        """Wait for the requests that are under way, and send nothing more."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _begin(self, time: Time) -> int:
        begun = 0
        busy = 0
        while True:
            asked = min(PAGE + busy, _MOST_LOOKED_AT)
            page = self._store.documents(OUTBOX, due=time(), limit=asked)
            free = [each for each in dict.fromkeys(map(stream_of, page)) if self._start(each, time)]
            begun += len(free)
            if free or len(page) < asked or asked == _MOST_LOOKED_AT:
                return begun
            # All that was looked at belongs to streams that are being sent: what is behind them may not.
            busy = len(page)

    def _harvest(self, failures: list[BaseException]) -> tuple[int, int]:
        """Return how many streams ended, and how many messages arrived in them."""
        with self._lock:
            ended = [name for name, future in self._sent.items() if future.done()]
            futures = [self._sent.pop(name) for name in ended]
        arrived = 0
        for each in futures:
            error = None if each.cancelled() else each.exception()
            if error is not None:
                failures.append(error)
            elif not each.cancelled():
                arrived += each.result()
        return len(futures), arrived

    def _start(self, stream: str, time: Time) -> bool:
        if self._ownership is not None and self._ownership.tenure(stream) is None:
            return False
        with self._lock:
            if stream in self._sent or self._closed:
                return False
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._streams, thread_name_prefix="knhk-webhook")
            self._sent[stream] = self._pool.submit(self._drain, stream, time)
        return True

    def _drain(self, stream: str, time: Time) -> int:
        """Send a stream's messages until one does not arrive, or none is left; return how many arrived."""
        arrived = 0
        claimed: Document | None = None
        while not self._closed:
            page = self._store.documents(OUTBOX, prefix=stream, limit=2)
            if not page:
                break
            subscription = self._subscription(stream)
            if subscription is None or subscription.paused:
                self._set_aside(stream, subscription, time())
                break
            try:
                if claimed is None or claimed != page[0]:
                    if _attempts(page[0]) and (page[0].due or 0) > time():
                        # Another engine is at it, or its wait is not over.
                        self._put_off(stream, page[0], time())
                        break
                    claimed = _claim(page[0], subscription, time())
                    if not self._write_claim(stream, claimed):
                        break
                error = self._send(claimed, subscription, time)
                if error is not None:
                    self._fail(claimed, page[1:], subscription, error, time())
                    break
                arrived += 1
                claimed = self._arrived(claimed, page[1:], subscription, time())
            except ConcurrentUpdate:
                # Another engine was faster; it goes on with the stream.
                break
        return arrived

    def _write_claim(self, stream: str, claimed: Document) -> bool:
        """Claim a stream's first message; what becomes of it needs no more than that claim, whose version nobody else has."""
        if self._ownership is None:
            self._store.write([claimed])
            return True
        tenure = self._ownership.tenure(stream)
        if tenure is not None:
            self._store.write([claimed], held=[tenure])
        return tenure is not None

    def _arrived(
        self, sent: Document, following: Sequence[Document], subscription: Subscription, now: int
    ) -> Document | None:
        """Remove a message that arrived and claim the next one, where that is known and as it was."""
        if following and not self._closed:
            claimed = _claim(following[0], subscription, now)
            try:
                self._store.write([claimed], removed=[sent])
            except ConcurrentUpdate:
                self._store.write([], removed=[sent])
            else:
                return claimed
        else:
            self._store.write([], removed=[sent])
        return None

    def _send(self, document: Document, subscription: Subscription, time: Time) -> OutboundError | None:
        tree = json.loads(document.value)
        message, carrier = tree["message"], tree.get("trace", {})
        if self._tracer is None:
            return self._post(message, subscription, carrier, time)
        about = {
            "knhk.case_id": message["case_id"],
            "knhk.workflow_id": message["spec_id"],
            "knhk.event": message["type"],
            "knhk.attempt": tree["attempts"],
        }
        # Of an event that nobody was traced for there is a trace of its own.
        with spanned(self._tracer, "webhook", about, parent=carrier) as span:
            error = self._post(message, subscription, {}, time)
            if error is not None:
                span.fail(error)
            return error

    def _post(
        self, message: Mapping[str, Any], subscription: Subscription, carrier: Mapping[str, str], time: Time
    ) -> OutboundError | None:
        body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
        now = time()
        headers = {
            **carrier,
            "Content-Type": "application/json",
            "User-Agent": "knhk",
            "Knhk-Message-Id": message["id"],
            "Knhk-Event": message["type"],
            "Knhk-Subscription": subscription.id,
            HEADER: sign(body, subscription.secret, at=now // 1000),
        }
        try:
            answer = self._outbound.request(
                "POST", subscription.url, headers=headers, body=body, timeout=subscription.timeout
            )
        except OutboundError as error:
            return error
        if 200 <= answer.status < 300:
            return None
        asked = retry_after(answer.headers, now)
        return ResponseRefused(f"answered with status {answer.status}", status=answer.status, retry_after=asked)

    def _fail(
        self,
        sent: Document,
        following: Sequence[Document],
        subscription: Subscription,
        error: OutboundError,
        now: int,
    ) -> None:
        """Let a message wait for its next attempt, or put it among the dead and let the next one go."""
        tree = json.loads(sent.value)
        tree |= {"error": str(error)[:_LONGEST_ERROR], "kind": type(error).__name__}
        if error.retryable and tree["attempts"] < subscription.retry.max_attempts:
            pause = backoff(subscription.retry, tree["attempts"])
            # Many streams that failed together must not come back together.
            pause -= round(pause * self._draw() / 2)
            due = now + max(pause, round((error.retry_after or 0) * 1000))
            value = json.dumps(tree, ensure_ascii=False)
            waiting = attrs.evolve(sent, value=value, due=due, version=sent.version + 1)
            self._store.write([waiting])
        else:
            dead = Document(collection=DEAD, key=sent.key, value=json.dumps({**tree, "died": now}, ensure_ascii=False))
            wake = [attrs.evolve(each, due=now, version=each.version + 1) for each in following[:1]]
            self._store.write([dead, *wake], removed=[sent])

    def _put_off(self, stream: str, head: Document, now: int) -> None:
        """What is behind a message that waits is not due before it."""
        due = (head.due or now) + 1
        self._move(stream, lambda each: due if each.key != head.key and (each.due or 0) <= now else None)

    def _set_aside(self, stream: str, subscription: Subscription | None, now: int) -> None:
        """Remove the messages of a subscription that is gone; let those of a paused one wait."""
        if subscription is not None:
            self._move(stream, lambda each: now + WHILE_PAUSED if (each.due or 0) <= now else None)
            return
        while page := self._store.documents(OUTBOX, prefix=stream, limit=PAGE):
            self._store.write([], removed=page)

    def _move(self, stream: str, when: Callable[[Document], int | None]) -> None:
        after = ""
        while page := self._store.documents(OUTBOX, prefix=stream, after=after, limit=PAGE):
            after = page[-1].key
            moved = [(each, when(each)) for each in page]
            written = [attrs.evolve(each, due=due, version=each.version + 1) for each, due in moved if due is not None]
            if written:
                try:
                    self._store.write(written)
                except ConcurrentUpdate:
                    # Somebody has moved one of them: what is still due will be looked at again.
                    return

    def _subscription(self, stream: str) -> Subscription | None:
        document = self._store.document(SUBSCRIPTIONS, stream.partition("/")[0])
        return None if document is None else read_subscription(document)


def stream_of(document: Document) -> str:
    """Return the stream of a message: its subscription and its case."""
    return document.key.rpartition("/")[0] + "/"


def _attempts(document: Document) -> int:
    attempts: int = json.loads(document.value)["attempts"]
    return attempts


def _claim(document: Document, subscription: Subscription, now: int) -> Document:
    tree: dict[str, Any] = json.loads(document.value)
    tree["attempts"] += 1
    due = now + round(subscription.timeout * 1000) + CLAIM_MARGIN
    value = json.dumps(tree, ensure_ascii=False)
    return attrs.evolve(document, value=value, due=due, version=document.version + 1)


def _raise_first(failures: Sequence[BaseException]) -> None:
    """Raise the first failure, saying of the others what they were."""
    for other in failures[1:]:
        failures[0].add_note(f"and also: {other}")
    if failures:
        raise failures[0]
