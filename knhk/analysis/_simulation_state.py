"""What the event loop keeps: cases, running nets, their work, pools, and what is measured."""

from __future__ import annotations

import enum
from array import array
from collections.abc import Callable

import attrs

from knhk._kernel import Marking
from knhk.analysis._simulation_plan import NetRun

Progress = Callable[[int], None]

COMPLETED = 0
DEADLOCKED = 1
WAITING = 2
CUT_OFF = 3
FAILED = 4

BATCHES = 30
"""In how many batches the cases are put for confidence intervals."""

MAX_DEPTH = 1_000
"""How deep composite tasks may be inside one another before the case is cut off."""

BEAT = 4_096
"""How many events lie between two calls of `progress`."""


class Does(enum.IntEnum):
    """What work waits for; the loop's first paragraph tells them."""

    WAIT = 0
    TIMER = 1
    REQUEST = 2
    QUEUED = 3
    SERVICE = 4
    SUBNET = 5
    LIMIT = 6
    RETRY = 7
    LOST = 8


class Claim(enum.Enum):
    """A claim on a start that needs no work: its event never comes, or its timer was due while it was busy."""

    NEVER = "never"
    DUE = "due"


@attrs.define(eq=False)
class Raw:
    """
    What a run measured; times in seconds.

    Args:
        throughput, outcomes: by case number.
        executions, aborted, finished, failed: by task: services begun, dropped, ended, and ended by an error.
        delay, waiting, service: by task, sums: from enabled to wanted; in the queue; of ended services.
        waiting_sums, waiting_counts: by task and batch.
        marks: by batch boundary, the time and each pool's integrals of busy units and of queue length since the warm-up.
        most_busy: by pool, the most units that were ever in use at once.
        events: how many were processed.
    """

    throughput: array[float]
    outcomes: bytearray
    executions: list[int]
    aborted: list[int]
    finished: list[int]
    failed: list[int]
    delay: list[float]
    waiting: list[float]
    service: list[float]
    waiting_sums: list[float]
    waiting_counts: list[int]
    marks: list[tuple[float, tuple[float, ...], tuple[float, ...]]]
    most_busy: list[int]
    most_queued: list[int]
    events: int = 0


class Work:
    """
    What a case waits for; `live` is false once it has come or was dropped.

    `attempt` counts the failed attempts, the first of which began at `first`; it is `lost` when it, or what is inside it, has
    failed for good and nobody took the error.
    """

    __slots__ = ("attempt", "case", "child", "does", "first", "granted", "live", "lost", "net", "since", "task")

    def __init__(self, does: Does, case: Case, net: Running | None, task: int, since: float) -> None:
        self.does = does
        self.case = case
        self.net = net
        self.task = task
        self.since = since
        self.child: Running | None = None
        self.granted = False
        self.live = True
        self.attempt = 0
        self.first = 0.0
        self.lost = False


class Activity:
    """The state of one task of a running net: its claim on a start, and its open work, in order."""

    __slots__ = ("changed", "claim", "completed", "enabled", "open", "passed")

    def __init__(self) -> None:
        self.claim: Work | Claim | None = None
        self.open: dict[Work, None] = {}
        self.completed = 0
        self.passed = False
        self.enabled = 0.0
        self.changed = False


class Running:
    """One running net."""

    __slots__ = ("activities", "alive", "case", "depth", "marking", "may_end", "of", "stands_for", "touched", "visited")

    def __init__(self, of: NetRun, case: Case, stands_for: Work | None, depth: int) -> None:
        self.of = of
        self.case = case
        self.stands_for = stands_for
        self.depth = depth
        self.marking: Marking = of.kernel.marking()
        self.activities = [Activity() for _ in range(of.size)]
        self.alive = True
        self.touched = False
        self.visited = False
        self.may_end = True


class Case:
    """One case; `pending` counts the work that will come by itself."""

    __slots__ = ("batch", "ended", "limit", "number", "pending", "root", "start", "steps")

    def __init__(self, number: int, start: float, batch: int) -> None:
        self.number = number
        self.start = start
        self.batch = batch
        self.ended = False
        self.pending = 0
        self.steps = 0
        self.root: Running | None = None
        self.limit: Work | None = None


class Pool:
    """One resource: units in use, a queue first come first served, and the integrals of both over time."""

    __slots__ = ("busy", "busy_area", "capacity", "last", "most_busy", "most_queued", "queue", "queue_area")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.busy = 0
        self.queue: dict[Work, None] = {}
        self.busy_area = 0.0
        self.queue_area = 0.0
        self.last = 0.0
        self.most_busy = 0
        self.most_queued = 0

    def account(self, now: float) -> None:
        """Bring the integrals up to now; before anything changes."""
        self.busy_area += self.busy * (now - self.last)
        self.queue_area += len(self.queue) * (now - self.last)
        self.last = now
