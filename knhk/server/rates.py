"""How many requests a client may send: counted by who he is, and before that is known by his address."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import attrs
from limits import RateLimitItemPerSecond
from limits.errors import StorageError
from limits.strategies import SlidingWindowCounterRateLimiter

from knhk.server.problems import Problem
from knhk.server.windows import Windows

_LOG: Final = logging.getLogger("knhk.server")

AWAY: Final = 1.0
"""Seconds for which the common counts are not asked again after they have failed."""

_T = TypeVar("_T")


@attrs.frozen
class Standing:
    """
    What a client has left.

    Args:
        limit: requests a second; just as many may come at once.
        remaining: of them, now.
    """

    limit: int
    remaining: int

    def headers(self) -> dict[str, str]:
        """Return the fields of draft-ietf-httpapi-ratelimit-headers."""
        return {"RateLimit-Policy": f'"default";q={self.limit};w=1', "RateLimit": f'"default";r={self.remaining};t=1'}


class Rates:
    """
    Counts requests in a sliding second (library `limits`).

    Args:
        rate: requests a second and client.
        overrides: other rates, by ``tenant/subject``.
        common: where all instances count together (`knhk.server.counts.CommonCounts`); while it is away, and where it is None,
            this instance counts for itself.
    """

    def __init__(self, rate: float, overrides: Mapping[str, float], common: Any = None) -> None:
        self._own = SlidingWindowCounterRateLimiter(Windows())
        self._server = common
        self._common = None if common is None else SlidingWindowCounterRateLimiter(common)
        self._away_until = 0.0
        self._rate = _item(rate)
        self._overrides = {client: _item(each) for client, each in overrides.items()}

    def admit(self, client: str) -> Standing:
        """Count a request; raises Problem where it is one too many."""
        item = self._overrides.get(client, self._rate)

        def count(limiter: SlidingWindowCounterRateLimiter) -> tuple[bool, int]:
            admitted = limiter.hit(item, "client", client)
            return admitted, limiter.get_window_stats(item, "client", client).remaining if admitted else 0

        admitted, remaining = self._counted(count)
        standing = Standing(item.amount, remaining)
        if not admitted:
            raise _too_many(standing)
        return standing

    def admit_stranger(self, address: str) -> None:
        """Count a request that did not say who sends it; raises Problem where it is one too many from there."""
        if not self._counted(lambda limiter: bool(limiter.hit(self._rate, "address", address))):
            raise _too_many(Standing(self._rate.amount, 0))

    def close(self) -> None:
        """Give back what counting together needs."""
        if self._server is not None:
            self._server.close()

    def _counted(self, count: Callable[[SlidingWindowCounterRateLimiter], _T]) -> _T:
        """Count with all others where that can be, else here: a client is not refused because a count is out of reach."""
        if self._common is not None and time.monotonic() >= self._away_until:
            try:
                return count(self._common)
            except StorageError as error:
                self._away_until = time.monotonic() + AWAY
                _LOG.warning(
                    "requests are counted by this instance alone: %s does not answer: %s",
                    self._server.shown,
                    error,
                )
        return count(self._own)


def _item(rate: float) -> RateLimitItemPerSecond:
    # Less than one a second is so many in a longer time.
    return RateLimitItemPerSecond(int(rate)) if rate >= 1 else RateLimitItemPerSecond(1, math.ceil(1 / rate))


def _too_many(standing: Standing) -> Problem:
    detail = f"at most {standing.limit} requests a second"
    return Problem(kind="rate-limited", detail=detail, headers={**standing.headers(), "Retry-After": "1"})
