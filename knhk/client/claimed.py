"""What the handler of a worker elsewhere is given: the same words as `knhk.work.handlers.Work`, so that one function serves both."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from knhk.client.results import Claim
from knhk.work.handlers import WorkLog

LOG: Final = logging.getLogger("knhk.worker")


class ClaimedWork:
    """
    External work that this worker has.

    Attributes:
        claim: what the service gave.
        heard: when the handler was last heard of, by the worker's clock.
        lost: why its result is not wanted any more; "" while it is.
        reporting: whether its function has returned, and the service is told.
    """

    def __init__(self, claim: Claim, seconds: Callable[[], float]) -> None:
        self.claim = claim
        self.heard = seconds()
        self.lost = ""
        self.reporting = False
        self._seconds = seconds

    def __repr__(self) -> str:
        return f"<work {self.id} {self.task} of topic {self.topic}, attempt {self.attempt}>"

    @property
    def id(self) -> str:
        """Names the piece of work: ``case:number``."""
        return self.claim.id

    @property
    def case_id(self) -> str:
        """Whose work it is."""
        return self.claim.case_id

    @property
    def task(self) -> str:
        """The path of the task."""
        return self.claim.path

    @property
    def topic(self) -> str:
        """Under which it was offered."""
        return self.claim.topic

    @property
    def data(self) -> dict[str, Any]:
        """What the work is given."""
        return self.claim.data

    @property
    def item(self) -> Any:
        """The element of a multiple instance, else None."""
        return self.claim.item

    @property
    def index(self) -> int | None:
        """The position of a multiple instance, else None."""
        return self.claim.index

    @property
    def attempt(self) -> int:
        """1 for the first; more when an earlier attempt failed or its lease ended."""
        return self.claim.attempt

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this piece of work, and for no other: give it to the services that you call."""
        return self.claim.id

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the result any more; a handler that takes long looks here from time to time, and stops."""
        return self.lost != ""

    def heartbeat(self) -> None:
        """Say that the handler is alive, where its task has a `heartbeat`; without one the lease is kept until it returns."""
        self.heard = self._seconds()

    @property
    def log(self) -> WorkLog:
        """A logger that says which work its lines belong to, in their text and as `extra`."""
        return WorkLog(LOG, {"case_id": self.case_id, "task": self.task, "attempt": self.attempt})
