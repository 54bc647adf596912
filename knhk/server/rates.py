"""How many requests a client may send: counted by who he is, and before that is known by his address."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs
from limits import RateLimitItemPerSecond
from limits.strategies import SlidingWindowCounterRateLimiter

from knhk.server.problems import Problem
from knhk.server.windows import Windows


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
    Counts requests in a sliding second (library `limits`), within this instance.

    Args:
        rate: requests a second and client.
        overrides: other rates, by ``tenant/subject``.
    """

    def __init__(self, rate: float, overrides: Mapping[str, float]) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(Windows())
        self._rate = _item(rate)
        self._overrides = {client: _item(each) for client, each in overrides.items()}

    def admit(self, client: str) -> Standing:
        """Count a request; raises Problem where it is one too many."""
        item = self._overrides.get(client, self._rate)
        admitted = self._limiter.hit(item, "client", client)
        standing = Standing(
            item.amount, self._limiter.get_window_stats(item, "client", client).remaining if admitted else 0
        )
        if not admitted:
            raise _too_many(standing)
        return standing

    def admit_stranger(self, address: str) -> None:
        """Count a request that did not say who sends it; raises Problem where it is one too many from there."""
        if not self._limiter.hit(self._rate, "address", address):
            raise _too_many(Standing(self._rate.amount, 0))


def _item(rate: float) -> RateLimitItemPerSecond:
    # Less than one a second is so many in a longer time.
    return RateLimitItemPerSecond(int(rate)) if rate >= 1 else RateLimitItemPerSecond(1, math.ceil(1 / rate))


def _too_many(standing: Standing) -> Problem:
    detail = f"at most {standing.limit} requests a second"
    return Problem(kind="rate-limited", detail=detail, headers={**standing.headers(), "Retry-After": "1"})
