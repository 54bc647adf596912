"""A case's plain automatic work by express: when it may go, and how the case becomes the driver's again.

`knhk._hot.express` plays; here is what it needs to know of a net, and what has to happen to a `Case` before and after.
Whatever an express leaves behind follows from the records that it wrote, so anything that goes wrong is mended in one way:
the records since the last good moment are taken back, the case is rebuilt from the rest, and the driver does the same work
one command at a time, which says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time_ns
from typing import Any, Final, Protocol

import attrs

from knhk import _hot, _kernel
from knhk._case_state import CaseState
from knhk._codes import Code, Phase, Record
from knhk._commits import batches_of
from knhk._kernel import Marking, Net
from knhk._lower import Kind, NetPlan, TaskPlan
from knhk._net_instance import NetInstance
from knhk._tables import XOR
from knhk.case import Case
from knhk.errors import CommandError, DataError
from knhk.journal import encode_text, json_bytes
from knhk.ports import Clock
from knhk.spec import Task
from knhk.system import SystemClock
from knhk.work.handlers import Work

_CREATED: Final = Code.CREATED
_STARTED: Final = json_bytes((Code.STARTED,))
_COMPLETED: Final = json_bytes((Code.PHASE, Phase.COMPLETED.value))
# Made once: up to Python 3.11 a member of an enumeration costs more to look up than a record to write.

ROOM: Final = 4_096
"""Records after which an express stops for a commit."""


def express_net(plan: NetPlan, kernel: Net) -> Any:
    """Return what an express needs to know of a root net; None where none can go there."""
    if _hot.express is None or isinstance(kernel, _kernel.Net) or plan.timed or plan.triggered or plan.empty:
        return None
    if plan.deadlines:
        return None
    net = _hot.express.ExpressNet(
        kernel,
        kinds=[_kind(each) for each in plan.plans],
        names=plan.tables.tasks,
        handlers=[each.task.handler for each in plan.plans],
        replayable=[each.task.replayable for each in plan.plans],
        outputs=[each.every_output for each in plan.plans],
        branches=[_branches(each) for each in plan.plans],
        first_only=[each.split == XOR for each in plan.tables.table],
    )
    return net if net.useful else None


def _kind(plan: TaskPlan) -> int:
    hot = _hot.express
    if not plan.automatic:
        return int(hot.WAITING)
    limited = plan.errors or plan.requires or plan.ensures or plan.compensation or plan.exlets
    own = limited or plan.maps or plan.task.http is not None
    plain = plan.task.multiple is None and not own and not _is_bounded(plan.task)
    if plain and plan.kind in (Kind.ROUTING, Kind.HANDLER):
        return int(hot.ROUTING if plan.kind is Kind.ROUTING else hot.HANDLER)
    return int(hot.DRIVEN)


def _is_bounded(task: Task) -> bool:
    """Whether more has to be looked at than that its handler is called and returns."""
    bounds = (task.timeout, task.heartbeat, task.concurrency, task.breaker)
    return any(bound is not None for bound in bounds) or (task.retry is not None and task.retry.deadline is not None)


def _branches(plan: TaskPlan) -> tuple[tuple[Callable[[dict[str, Any]], bool] | None, int], ...] | None:
    if not plan.branches:
        return None
    return tuple(
        (None if each.predicate is None else each.predicate.test_data, each.position) for each in plan.branches
    )


class Owner(Protocol):
    """Who has the case that an express runs on."""

    @property
    def case(self) -> Case:
        """The case, made where it was not needed before: then it is one that was only created."""


@attrs.define(eq=False)
class Journey:
    """
    An express under way on a case.

    Args:
        owner: of the case whose work it does.
        express: what plays.
        begun_at: how many of the case's records were stored before it.
        remains: how many of them stay where it is taken back whole.
        log: the case's records; those of the express come to it once somebody needs the case.
        moved: the items that the worklist had to be told of before it.
        alone: of a case that was only created, its marking and its data, which the express moves: nobody has needed a case
            so far, and where the express brings it to its end nobody ever does.
    """

    owner: Owner
    express: Any
    begun_at: int
    remains: int
    log: list[Record]
    moved: tuple[int, ...] = ()
    alone: tuple[Marking, dict[str, Any]] | None = None

    def end(self) -> dict[str, Any] | None:
        """Let the case end without ever having been one, and return its data; None where somebody has needed it."""
        express = self.express
        if self.alone is None or express.begun():
            return None
        express.landed = True
        express.note(_COMPLETED)
        return self.alone[1]

    def batches(self, now: int) -> list[bytes]:
        """Return what the records of a case that has ended so are in the journal."""
        express = self.express
        if not express.cuts:
            return [encode_text(now, express.written())]
        express.flush()
        return batches_of(self.log[self.begun_at :], self.begun_at, express.cuts, now)

    def land(self) -> None:
        """Bring the case to where the records are, while the express's handler runs."""
        express = self.express
        express.landed = True
        if express.job is not None:
            # What the handler was promised is what the data were when it began.
            _ = express.job[3].data
        case, net = self._whole()
        case.state.catch_up(net, express.next_item, express.begun())
        case.state.touched.clear()

    def arrive(self, outcome: int, *, at: int) -> bool:
        """
        Bring the case to where the records are, and let happen what the express left to the driver.

        Returns:
            Whether that could be; else the case is as it was before the last result, or before the express began.
        """
        express = self.express
        case, net = self._whole()
        if outcome == _hot.express.REFUSED:
            self._take_back(case)
            return False
        express.landed = True
        case.state.catch_up(net, express.next_item, express.begun())
        if outcome == _hot.express.ENDED:
            case._record(Code.PHASE, Phase.COMPLETED.value)
            return True
        if outcome == _hot.express.FAILED:
            return True
        try:
            case.go_on([(net.number, task) for task in express.left()], at=at)
        except (CommandError, DataError):
            self._take_back(case)
            return False
        return True

    def _whole(self) -> tuple[Case, NetInstance]:
        """Return the case and its root net, as the express has moved them."""
        case = self.owner.case
        self.express.flush()
        if self.alone is not None:
            case._record(Code.STARTED)
            case._log = self.log
            case._taken = self.begun_at
            marking, case.state.data = self.alone
            self.alone = None
            case.state.nets[0].marking = marking
        (net,) = case.state.nets.values()
        return case, net

    def _take_back(self, case: Case) -> None:
        express = self.express
        express.landed = True
        del case._log[self.remains if express.job is None else express.mark :]
        case._rebuild()
        case.state.moved = dict.fromkeys(self.moved)


def terms(
    functions: dict[str, Callable[[Work], Any]],
    clock: Clock,
    *,
    copy: Callable[[object], dict[str, Any]],
    forgetful: bool,
    steps: int,
) -> Any:
    """Return what all expresses of an engine have in common; None where none can go."""
    if _hot.express is None:
        return None
    # Of the machine's clock an express asks without a detour.
    now, ticks = (time_ns, 1_000_000) if type(clock) is SystemClock else (clock.now, 1)
    return _hot.express.Terms(
        functions=functions, work=Work, now=now, ticks=ticks, copy=copy, forgetful=forgetful, steps=steps, room=ROOM
    )


def set_out(
    owner: Owner, data: Mapping[str, Any], of: Any, terms: Any, case_id: str, lock: Any, *, stored: bool
) -> Journey:
    """
    Send an express on its way on a case that was only created; the caller holds its lock.

    Args:
        owner: has the case.
        data: which the case was created with.
        of, terms: its net, and the engine's terms.
        case_id, lock: of the case.
        stored: whether the store has been told of it.
    """
    marking: Marking = of.net.marking()
    log: list[Record] = [(_CREATED, data)] if stored else []
    own = dict(data)
    express = _hot.express.Express(of, terms, marking, log, own, 1, case_id, 0, lock)
    if not stored:
        express.note(json_bytes((_CREATED, data)))
    express.note(_STARTED)
    return Journey(owner, express, len(log), 1, log, (), (marking, own))


def depart(owner: Owner, of: Any, terms: Any, *, case_id: str, lock: Any, forgetful: bool) -> Journey | None:
    """
    Send an express on its way, where the case has work for one; the caller holds the case's lock.

    A case that was not started is started: `Journey.arrive` undoes it if it comes to nothing.
    """
    case = owner.case
    state = case.state
    begun_at, moved = len(case._log), tuple(state.moved)
    if state.phase is Phase.CREATED:
        case._record(Code.STARTED)
    elif state.phase is not Phase.RUNNING or not _may_go(state, of, forgetful=forgetful):
        return None
    (net,) = state.nets.values()
    express = _hot.express.Express(
        of, terms, net.marking, case._log, state.data, state.next_item, case_id, net.number, lock
    )
    for number in state.work:
        item = state.items[number]
        express.begin(item.task, number, item.attempt)
    return Journey(owner, express, begun_at, begun_at, case._log, moved)


def _may_go(state: CaseState, of: Any, *, forgetful: bool) -> bool:
    """
    Whether a running case has begun handlers, all of them plain tasks of its root net, and no other net runs.

    On a store that lasts an express stops before a handler that must wait for a commit, so there the first must be another.
    """
    if not state.work or len(state.nets) != 1 or state.deadlines:
        return False
    if any(state.items[number].begun or state.items[number].progress is not None for number in state.work):
        # Whether what was cut off may be begun again is for the driver to say, and what was done of it before.
        return False
    tasks = [state.items[number].task for number in state.work]
    return all(map(of.handles, tasks)) and (forgetful or of.replays(tasks[0]))
