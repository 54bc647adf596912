"""External work and dead letters with await: each call waits in a thread of the engine's."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from knhk.work.attempt import wake
from knhk.work.claims import LEASE, LOOK_EVERY, Claim, ExternalWork, Span, span_of
from knhk.work.dead_letters import DeadLetter, DeadLetters
from knhk.work.offers import Offers

_T = TypeVar("_T")


class Calls(Protocol):
    """Calls a function in another thread."""

    def __call__(self, function: Callable[..., _T], *args: Any, **named: Any) -> Coroutine[Any, Any, _T]:
        """Return what the function returns."""


class AsyncClaim:
    """
    A claim, as `knhk.Claim`, with await.

    Attributes:
        claim: what it is; its `data`, `item` and `deadline` need no await.
    """

    def __init__(self, claim: Claim, call: Calls) -> None:
        self.claim = claim
        self._call = call

    def __repr__(self) -> str:
        return repr(self.claim)

    async def complete(self, output: Mapping[str, Any] | None = None) -> None:
        """Complete the work, as `knhk.Claim.complete`."""
        await self._call(self.claim.complete, output)

    async def fail(
        self, reason: str = "", *, error: str = "", retry_after: Span | None = None, retryable: bool = True
    ) -> bool:
        """Say that the attempt failed, as `knhk.Claim.fail`."""
        return await self._call(self.claim.fail, reason, error=error, retry_after=retry_after, retryable=retryable)

    async def extend(self, lease: Span | None = LEASE) -> int:
        """Keep the work for so long from now on, as `knhk.Claim.extend`."""
        return await self._call(self.claim.extend, lease)

    async def release(self) -> None:
        """Give the work back, as `knhk.Claim.release`."""
        await self._call(self.claim.release)


class AsyncExternalWork:
    """The work of external tasks, as `ExternalWork`, with await; whoever waits for work holds no thread."""

    def __init__(self, work: ExternalWork, offers: Offers, call: Calls) -> None:
        self._work = work
        self._offers = offers
        self._call = call

    async def claim(
        self,
        topics: str | Iterable[str],
        *,
        worker: str,
        max: int = 1,  # noqa: A002 - the word that users know
        lease: Span | None = LEASE,
        wait: Span | None = None,
    ) -> list[AsyncClaim]:
        """Take offered work, as `ExternalWork.claim`."""
        wanted = [topics] if isinstance(topics, str) else [*topics]
        end = time.monotonic() + (span_of(wait, "wait") or 0) / 1000
        offered = asyncio.Event()
        listener = partial(wake, asyncio.get_running_loop(), offered)
        self._offers.listen(listener)
        try:
            while True:
                offered.clear()
                claims = await self._call(self._work.claim, wanted, worker=worker, max=max, lease=lease)
                left = end - time.monotonic()
                if claims or left <= 0:
                    return [AsyncClaim(each, self._call) for each in claims]
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(offered.wait(), min(left, LOOK_EVERY))
        finally:
            self._offers.ignore(listener)

    async def complete(self, work: str, token: str, output: Mapping[str, Any] | None = None) -> None:
        """Complete claimed work, as `ExternalWork.complete`."""
        await self._call(self._work.complete, work, token, output)

    async def fail(self, work: str, token: str, reason: str = "", **how: Any) -> bool:
        """Say that an attempt failed, as `ExternalWork.fail`."""
        return await self._call(self._work.fail, work, token, reason, **how)

    async def extend(self, work: str, token: str, lease: Span | None = LEASE) -> int:
        """Keep claimed work, as `ExternalWork.extend`."""
        return await self._call(self._work.extend, work, token, lease)

    async def release(self, work: str, token: str) -> None:
        """Give claimed work back, as `ExternalWork.release`."""
        await self._call(self._work.release, work, token)


class AsyncDeadLetters:
    """The dead letters of all cases, as `DeadLetters`, with await."""

    def __init__(self, letters: DeadLetters, call: Calls) -> None:
        self._letters = letters
        self._call = call

    async def list(self, **wanted: Any) -> list[DeadLetter]:
        """Return a page of the dead letters, as `DeadLetters.list`."""
        return await self._call(self._letters.list, **wanted)

    async def get(self, letter: str) -> DeadLetter:
        """Return a dead letter with its data, as `DeadLetters.get`."""
        return await self._call(self._letters.get, letter)

    async def replay(self, letter: str, *, by: str = "") -> None:
        """Give the work all its attempts anew, as `DeadLetters.replay`."""
        await self._call(self._letters.replay, letter, by=by)

    async def replay_all(self, **wanted: Any) -> int:
        """Replay all that fit, as `DeadLetters.replay_all`."""
        return await self._call(self._letters.replay_all, **wanted)

    async def discard(self, letter: str, *, by: str, reason: str) -> None:
        """Give the work up, as `DeadLetters.discard`."""
        await self._call(self._letters.discard, letter, by=by, reason=reason)
