"""When the leases of claimed work are to be extended, and when they have ended; nothing here asks anybody or tells the time."""

from __future__ import annotations

from typing import Final

import attrs

_PART: Final = 3
"""An extension is due after this part of a lease, so that two more can be tried before it ends."""

_AGAIN: Final = 12
"""One that failed is tried again after this part of it."""


@attrs.define
class Lease:
    """
    How long a piece of work is held.

    Args:
        span: of the lease, in seconds.
        due: when it is to be extended, by the clock of whoever holds it.
        ends: when it ends by that clock.
    """

    span: float
    due: float
    ends: float


class Leases:
    """The leases that are held, by the id of their work."""

    def __init__(self) -> None:
        self._held: dict[str, Lease] = {}

    def __contains__(self, work: str) -> bool:
        return work in self._held

    def hold(self, work: str, span: float, now: float) -> None:
        """Note that work is held for so many seconds from now on."""
        self._held[work] = Lease(span, now + span / _PART, now + span)

    def drop(self, work: str) -> None:
        """Note that work is held no more."""
        self._held.pop(work, None)

    def again(self, work: str, now: float) -> None:
        """Note that an extension failed, and is to be tried again soon."""
        lease = self._held.get(work)
        if lease is not None:
            lease.due = now + lease.span / _AGAIN

    def leave(self, work: str) -> None:
        """Note that a lease is not to be extended any more."""
        lease = self._held.get(work)
        if lease is not None:
            lease.due = lease.ends

    def due(self, now: float) -> list[str]:
        """Return the work whose lease is to be extended, what ends first in front."""
        found = [(lease.ends, work) for work, lease in self._held.items() if lease.due <= now < lease.ends]
        return [work for _, work in sorted(found)]

    def ended(self, now: float) -> list[str]:
        """Return the work whose lease has ended."""
        return [work for work, lease in self._held.items() if lease.ends <= now]

    def next_in(self, now: float) -> float | None:
        """Return in how many seconds something is due or ends; None where nothing is held."""
        if not self._held:
            return None
        return max(min(min(each.due, each.ends) for each in self._held.values()) - now, 0.0)
