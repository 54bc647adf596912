"""The event loop of a simulation, reference version: the definition of `knhk._hot.simulate`, which does the same in C.

One world: a clock, a heap of what will happen, pools with first-come queues, and many cases, each a tree of running nets whose
markings the kernel moves.
A piece of `Work` is whatever a case waits for: an event or a person (WAIT), a timer, a unit before the start (REQUEST) or after
it (QUEUED), the end of a service, the end of a subnet, the next attempt (RETRY), or nothing more, as it has failed for good
(LOST).
After each event its case is driven as `knhk.case` drives one: what starts by itself, OR-joins, ends of nets, offers.

Both versions draw random numbers and add floating-point numbers in the same order, so their results are equal to the bit.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import deque

from knhk.analysis._simulation_draws import Draws
from knhk.analysis._simulation_model import Arrivals, Shape
from knhk.analysis._simulation_plan import OFFERED, STARTS_BY_ITSELF, Plan, TaskRun
from knhk.analysis._simulation_state import (
    BATCHES,
    BEAT,
    COMPLETED,
    CUT_OFF,
    DEADLOCKED,
    FAILED,
    MAX_DEPTH,
    WAITING,
    Activity,
    Case,
    Claim,
    Does,
    Pool,
    Progress,
    Raw,
    Running,
    Work,
)


class _World:
    def __init__(self, plan: Plan, cases: int, warm_up: int, seed: int) -> None:
        self.plan = plan
        self.tasks = plan.tasks
        self.cases = cases
        self.warm_up = warm_up
        self.batches = min(BATCHES, cases - warm_up)
        self.now = 0.0
        self.order = 0
        self.heap: list[tuple[float, int, Work | None]] = []
        self.at_once: deque[Work] = deque()
        self.pools = [Pool(each) for each in plan.capacities]
        self.arrivals = Draws(seed, 0)
        self.draws = Draws(seed, 1)
        self.started = 0
        self.ended = 0
        self.next_mark = 0
        self.agenda: deque[tuple[Running, int]] = deque()
        self.touched: deque[Running] = deque()
        self.visited: list[Running] = []
        self.changed: list[tuple[Running, int]] = []
        count = len(plan.tasks)
        self.raw = Raw(
            array("d", [math.nan]) * cases,
            bytearray(cases),
            [0] * count,
            [0] * count,
            [0] * count,
            [0] * count,
            [0.0] * count,
            [0.0] * count,
            [0.0] * count,
            [0.0] * (count * self.batches),
            [0] * (count * self.batches),
            [],
            [],
            [],
        )

    # --- the clock ----------------------------------------------------------------------------------------------------

    def run(self, progress: Progress | None) -> Raw:
        self._schedule(0.0, None)
        while self.ended < self.cases:
            if self.raw.events % BEAT == 0 and progress is not None:
                progress(self.ended)
            self.raw.events += 1
            if self.at_once:
                work: Work | None = self.at_once.popleft()
            else:
                at, _, work = heapq.heappop(self.heap)
                if work is not None and not work.live:
                    continue
                self.now = at
            if work is None:
                self._arrive()
            elif work.live:
                self._happen(work)
        self._mark()
        self.raw.most_busy = [each.most_busy for each in self.pools]
        self.raw.most_queued = [each.most_queued for each in self.pools]
        return self.raw

    def _schedule(self, delay: float, work: Work | None) -> None:
        self.order += 1
        heapq.heappush(self.heap, (self.now + delay, self.order, work))

    def _mark(self) -> None:
        for pool in self.pools:
            pool.account(self.now)
        busy = tuple(each.busy_area for each in self.pools)
        self.raw.marks.append((self.now, busy, tuple(each.queue_area for each in self.pools)))

    def _arrive(self) -> None:
        number = self.started
        measured = number - self.warm_up
        batch = -1
        if measured >= 0:
            batch = measured * self.batches // (self.cases - self.warm_up)
            if batch == self.next_mark:
                self.next_mark += 1
                self._mark()
        self.started += 1
        case = Case(number, self.now, batch)
        kind = self.plan.arrival.kind
        if self.started < self.cases and kind is not Arrivals.ONE_BY_ONE:
            interval = self.plan.arrival.interval
            self._schedule(self.arrivals.exponential(interval) if kind is Arrivals.RATE else interval, None)
        if self.plan.max_time < math.inf:
            case.limit = Work(Does.LIMIT, case, None, -1, self.now)
            self._schedule(self.plan.max_time, case.limit)
        case.root = self._open_net(0, case, None, 1)
        self._drive(case)

    def _happen(self, work: Work) -> None:
        net, task, case = work.net, work.task, work.case
        if net is None:
            self._end_case(case, CUT_OFF)
            return
        activity = net.activities[task]
        of = self.tasks[net.of.first + task]
        if work.does is Does.WAIT and of.queues_first:
            self._measure_delay(net, task, activity)
            work.does = Does.REQUEST
            work.since = self.now
            self._request(work, of)
            return
        if work.does is Does.SERVICE:
            way = self._draw_failure(of)
            if way < 0:
                self._finish(net, task, work)
            else:
                self._fail(net, task, work, way)
        elif work.does is Does.QUEUED:
            self._serve(work, of)
        elif work.does is Does.RETRY:
            self._queue(work, of)
        elif work.does is Does.TIMER and not net.marking.is_ready(task):
            self._unpend(work)
            activity.claim = Claim.DUE
        else:
            if work.does is not Does.REQUEST:
                self._measure_delay(net, task, activity)
            self._begin(net, task)
        self._drive(case)

    # --- resources ----------------------------------------------------------------------------------------------------

    def _request(self, work: Work, of: TaskRun) -> None:
        """Ask for a unit; without a resource it is there at once."""
        if of.pool < 0:
            self.at_once.append(work)
            return
        pool = self.pools[of.pool]
        pool.account(self.now)
        if pool.busy < pool.capacity:
            self._grant(pool, work)
        else:
            pool.queue[work] = None
            pool.most_queued = max(pool.most_queued, len(pool.queue))

    def _grant(self, pool: Pool, work: Work) -> None:
        pool.busy += 1
        pool.most_busy = max(pool.most_busy, pool.busy)
        work.granted = True
        self.at_once.append(work)

    def _give_back(self, work: Work, of: TaskRun) -> None:
        """Leave the queue, or free the unit for the next in it."""
        if of.pool < 0:
            return
        pool = self.pools[of.pool]
        pool.account(self.now)
        if not work.granted:
            pool.queue.pop(work, None)
            return
        work.granted = False
        pool.busy -= 1
        if pool.queue:
            first = next(iter(pool.queue))
            del pool.queue[first]
            self._grant(pool, first)

    def _serve(self, work: Work, of: TaskRun) -> None:
        """The work begins; it has its unit."""
        assert work.net is not None
        g = work.net.of.first + work.task
        batch = work.case.batch
        if batch >= 0:
            waited = self.now - work.since
            self.raw.executions[g] += 1
            self.raw.waiting[g] += waited
            self.raw.waiting_sums[g * self.batches + batch] += waited
            self.raw.waiting_counts[g * self.batches + batch] += 1
        work.does = Does.SERVICE
        work.since = self.now
        if not work.attempt:
            work.first = self.now
        length = self.draws.duration(of.service)
        if length > 0.0:
            self._schedule(length, work)
        else:
            self.at_once.append(work)

    def _measure_delay(self, net: Running, task: int, activity: Activity) -> None:
        if net.case.batch >= 0:
            self.raw.delay[net.of.first + task] += self.now - activity.enabled

    def _unpend(self, work: Work) -> None:
        work.live = False
        work.case.pending -= 1

    def _pend(self, work: Work) -> None:
        work.case.pending += 1

    # --- driving a case -----------------------------------------------------------------------------------------------

    def _drive(self, case: Case) -> None:
        """Let everything happen that happens by itself at this moment, then offer what is left."""
        while not case.ended:
            self._absorb()
            if case.ended or not (self._start_next() or self._settle()):
                break
        if not case.ended:
            self._offer()
            if case.pending == 0:
                self._conclude(case)
        for net in self.visited:
            net.visited = False
        self.visited.clear()
        self.agenda.clear()
        for net, task in self.changed:
            net.activities[task].changed = False
        self.changed.clear()
        for net in self.touched:
            net.touched = False
        self.touched.clear()

    def _touch(self, net: Running) -> None:
        if not net.touched:
            net.touched = True
            self.touched.append(net)

    def _absorb(self) -> None:
        while self.touched:
            net = self.touched.popleft()
            net.touched = False
            if not net.alive:
                continue
            if not net.visited:
                net.visited = True
                self.visited.append(net)
            for change in net.marking.changes():
                task = change if change >= 0 else ~change
                starts = self.tasks[net.of.first + task].starts
                if starts == STARTS_BY_ITSELF:
                    if change >= 0:
                        self.agenda.append((net, task))
                elif starts == OFFERED:
                    self._change(net, task)
                elif change < 0:
                    self._unclaim(net, task)
            for task in net.of.timed:
                self._keep_time(net, task)
            if net.may_end:
                net.may_end = False
                if not net.of.implicit and (net.of.empty or net.marking.has_ended()):
                    self._end_net(net)

    def _change(self, net: Running, task: int) -> None:
        activity = net.activities[task]
        if not activity.changed:
            activity.changed = True
            self.changed.append((net, task))

    def _keep_time(self, net: Running, task: int) -> None:
        """As `knhk.case` keeps timers: set while a thread waits, cleared when none does, at once when it was due before."""
        activity = net.activities[task]
        waits = net.marking.threads(task) > 0
        if not waits:
            self._unclaim(net, task)
        elif activity.claim is None:
            work = Work(Does.TIMER, net.case, net, task, self.now)
            activity.claim = work
            activity.enabled = self.now
            self._pend(work)
            self._schedule(self.tasks[net.of.first + task].timer, work)
        elif activity.claim is Claim.DUE and net.marking.is_ready(task):
            self.agenda.append((net, task))

    def _start_next(self) -> bool:
        while self.agenda:
            net, task = self.agenda.popleft()
            if net.alive and net.of.has_or_joins and net.marking.settle_before(task):
                # First what that has changed is looked at, then this one again.
                self._touch(net)
                self.agenda.appendleft((net, task))
                return True
            if not net.alive or not net.marking.is_ready(task):
                continue
            of = self.tasks[net.of.first + task]
            activity = net.activities[task]
            if of.starts != STARTS_BY_ITSELF:
                if activity.claim is not Claim.DUE:
                    continue
                self._measure_delay(net, task, activity)
            self._begin(net, task)
            if of.detached and of.starts == STARTS_BY_ITSELF:
                self.agenda.append((net, task))
            return True
        return False

    def _settle(self) -> bool:
        news = False
        for net in list(self.visited):
            if not net.alive:
                continue
            if net.of.has_or_joins and net.marking.settle():
                self._touch(net)
                news = True
            elif self._ends_implicitly(net):
                self._end_net(net)
                return True
        return news

    def _ends_implicitly(self, net: Running) -> bool:
        if not net.of.implicit or any(each.open for each in net.activities):
            return False
        return net.of.empty or net.marking.has_ended()

    def _offer(self) -> None:
        """Make claims of what is offered now, and drop those of what is not any more."""
        for net, task in self.changed:
            if not net.alive:
                continue
            activity = net.activities[task]
            if not net.marking.is_ready(task):
                self._unclaim(net, task)
            elif activity.claim is None:
                activity.enabled = self.now
                wait = self.tasks[net.of.first + task].wait
                length = self.draws.duration(wait)
                if wait.shape is Shape.NEVER:
                    activity.claim = Claim.NEVER
                    continue
                work = Work(Does.WAIT, net.case, net, task, self.now)
                activity.claim = work
                self._pend(work)
                if length > 0.0:
                    self._schedule(length, work)
                else:
                    self.at_once.append(work)

    def _unclaim(self, net: Running, task: int) -> None:
        claim = net.activities[task].claim
        net.activities[task].claim = None
        if isinstance(claim, Work):
            self._unpend(claim)
            if claim.does is Does.REQUEST:
                self._give_back(claim, self.tasks[net.of.first + task])

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _begin(self, net: Running, task: int) -> None:
        """Start a ready task; the same decisions in the same order as `knhk.case`."""
        g = net.of.first + task
        of = self.tasks[g]
        activity = net.activities[task]
        case = net.case
        claim = activity.claim
        activity.claim = None
        asked = None
        if isinstance(claim, Work):
            if claim.does is Does.REQUEST:
                asked = claim
            else:
                self._unpend(claim)
        count = self._draw_count(of) if of.multiple else 1
        case.steps += 1 + count if of.multiple else 1
        if case.steps > self.plan.max_steps or (of.subnet >= 0 and net.depth >= MAX_DEPTH):
            if asked is not None:
                self._unpend(asked)
                self._give_back(asked, of)
            self._end_case(case, CUT_OFF)
            return
        self._touch(net)
        fires = of.fires or count == 0
        chosen = self._choose(of) if fires or of.detached else ()
        net.marking.start(task)
        for other in of.join_cancels:
            if other != task:
                self._drop(net, other)
        if of.detached and of.cancels_itself and not fires:
            self._drop(net, task)
        if fires:
            if case.batch >= 0:
                self.raw.executions[g] += 1
                self.raw.finished[g] += 1
        else:
            for _ in range(count):
                self._open(net, task, of, asked)
        if fires or of.detached:
            self._drop_region(net, task, of)
            if of.detached:
                net.marking.pass_on(task, chosen)
            else:
                net.marking.complete(task, chosen)
            net.may_end = True
        if of.detached and of.starts == OFFERED:
            self._change(net, task)

    def _open(self, net: Running, task: int, of: TaskRun, asked: Work | None) -> None:
        """Begin one instance of a task's work, or its subnet; `asked` has its unit already."""
        work = asked
        if work is None:
            work = Work(Does.SUBNET if of.subnet >= 0 else Does.QUEUED, net.case, net, task, self.now)
        net.activities[task].open[work] = None
        if of.subnet >= 0:
            if net.case.batch >= 0:
                self.raw.executions[net.of.first + task] += 1
            work.child = self._open_net(of.subnet, net.case, work, net.depth + 1)
        elif asked is not None:
            self._serve(work, of)
        else:
            self._pend(work)
            self._queue(work, of)

    def _queue(self, work: Work, of: TaskRun) -> None:
        """Let an attempt wait for its unit, and begin."""
        work.does = Does.QUEUED
        work.since = self.now
        if of.pool < 0:
            self._serve(work, of)
        else:
            self._request(work, of)

    def _open_net(self, number: int, case: Case, stands_for: Work | None, depth: int) -> Running:
        net = Running(self.plan.nets[number], case, stands_for, depth)
        self._touch(net)
        return net

    def _finish(self, net: Running, task: int, work: Work) -> None:
        """End one instance: perhaps the task passes control (rules 3 and 6)."""
        g = net.of.first + task
        of = self.tasks[g]
        activity = net.activities[task]
        del activity.open[work]
        if work.does is Does.SERVICE:
            self._unpend(work)
            self._give_back(work, of)
        else:
            work.live = False
        if net.case.batch >= 0:
            self.raw.finished[g] += 1
            self.raw.service[g] += self.now - work.since
        activity.completed += 1
        self._touch(net)
        remaining = len(activity.open)
        if of.detached:
            return
        if activity.passed:
            if not remaining:
                self._reset(activity)
                net.marking.release(task)
            return
        if remaining and not (of.threshold and activity.completed >= of.threshold):
            return
        chosen = self._choose(of)
        net.may_end = True
        if remaining and of.continues:
            activity.passed = True
            self._drop_region(net, task, of)
            net.marking.pass_on(task, chosen)
            if of.cancels_itself:
                self._drop(net, task)
                net.marking.release(task)
            return
        self._drop(net, task)
        self._drop_region(net, task, of)
        net.marking.complete(task, chosen)

    # --- failures -----------------------------------------------------------------------------------------------------

    def _fail(self, net: Running, task: int, work: Work, way: int) -> None:
        """End an attempt by an error: another one follows, or the error leaves the task (`knhk._attempts`, `knhk._raising`)."""
        g = net.of.first + task
        of = self.tasks[g]
        case = net.case
        self._give_back(work, of)
        if case.batch >= 0:
            self.raw.finished[g] += 1
            self.raw.failed[g] += 1
            self.raw.service[g] += self.now - work.since
        work.attempt += 1
        work.does = Does.RETRY
        if work.attempt < of.failing.attempts[way]:
            pause = self._pause(of, work.attempt)
            if self.now + pause < work.first + of.failing.within:
                case.steps += 1
                if case.steps > self.plan.max_steps:
                    self._end_case(case, CUT_OFF)
                elif pause > 0.0:
                    self._schedule(pause, work)
                else:
                    self.at_once.append(work)
                return
        self._raise(net, task, work, of.failing.errors[way])

    def _pause(self, of: TaskRun, attempt: int) -> float:
        """Draw the wait after a failed attempt."""
        pause = of.failing.pause
        for _ in range(attempt - 1):
            if pause >= of.failing.longest or of.failing.coefficient == 1.0:
                break
            pause *= of.failing.coefficient
        pause = min(pause, of.failing.longest)
        if of.failing.jitter > 0.0:
            pause *= 1.0 - of.failing.jitter * self.draws.unit()
        return pause

    def _raise(self, net: Running, task: int, work: Work, error: int) -> None:
        """Let whoever catches an error have it; what nobody catches is lost work, beside which the case goes on."""
        inside = work
        at, number = net, task
        while True:
            of = self.tasks[at.of.first + number]
            if self._goes_on_without(at.activities[number], of, inside):
                break
            position = of.failing.catches[error] if of.failing.catches else -1
            if position >= 0:
                self._touch(at)
                at.may_end = True
                self._drop(at, number)
                self._drop_region(at, number, of)
                at.marking.complete(number, (position,))
                return
            above = at.stands_for
            if above is None or above.net is None:
                break
            inside, at, number = above, above.net, above.task
        self._unpend(work)
        work.does = Does.LOST
        lost: Work | None = work
        while lost is not None and lost.net is not None:
            lost.lost = True
            lost = lost.net.stands_for

    def _goes_on_without(self, activity: Activity, of: TaskRun, work: Work) -> bool:
        """Whether the end of an instance is no end of its task: control has passed, or its threshold can still be reached."""
        if not of.multiple:
            return False
        if of.detached or activity.passed:
            return True
        if not of.threshold:
            return False
        hopeful = sum(1 for each in activity.open if each is not work and not each.lost)
        return activity.completed + hopeful >= min(of.threshold, activity.completed + len(activity.open))

    def _reset(self, activity: Activity) -> None:
        activity.completed = 0
        activity.passed = False

    def _drop_region(self, net: Running, task: int, of: TaskRun) -> None:
        for other in of.cancels:
            if other != task:
                self._drop(net, other)

    def _drop(self, net: Running, task: int) -> None:
        """End a task's open work without effect, with all below it."""
        activity = net.activities[task]
        doomed: list[Running] = []
        self._drop_open(net, task, activity, doomed)
        self._reset(activity)
        self._close(doomed)

    def _drop_open(self, net: Running, task: int, activity: Activity, doomed: list[Running]) -> None:
        g = net.of.first + task
        for work in activity.open:
            if work.child is not None:
                work.live = False
                doomed.append(work.child)
            elif work.does is not Does.LOST:
                self._unpend(work)
                if work.does is not Does.RETRY:
                    self._give_back(work, self.tasks[g])
            if net.case.batch >= 0 and work.does in (Does.SERVICE, Does.SUBNET):
                self.raw.aborted[g] += 1
        activity.open.clear()

    def _close(self, doomed: list[Running]) -> None:
        while doomed:
            net = doomed.pop()
            net.alive = False
            for task, activity in enumerate(net.activities):
                self._unclaim(net, task)
                self._drop_open(net, task, activity, doomed)

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _end_net(self, net: Running) -> None:
        work = net.stands_for
        if work is None or work.net is None:
            self._end_case(net.case, COMPLETED)
            return
        # What still runs in the net ends with it.
        self._close([net])
        work.child = None
        self._finish(work.net, work.task, work)

    def _end_case(self, case: Case, outcome: int) -> None:
        case.ended = True
        if case.root is not None:
            self._close([case.root])
        if case.limit is not None:
            case.limit.live = False
        self.raw.outcomes[case.number] = outcome
        if outcome == COMPLETED:
            self.raw.throughput[case.number] = self.now - case.start
        self.ended += 1
        if self.plan.arrival.kind is Arrivals.ONE_BY_ONE and self.started < self.cases:
            self._schedule(0.0, None)

    def _conclude(self, case: Case) -> None:
        """Nothing comes by itself any more: a deadlock, unless work has failed, or an event is waited for that never comes."""
        outcome = DEADLOCKED
        nets = [case.root]
        while nets:
            net = nets.pop()
            if net is None:
                continue
            for activity in net.activities:
                if activity.claim is Claim.NEVER:
                    outcome = WAITING
                if any(work.does is Does.LOST for work in activity.open):
                    self._end_case(case, FAILED)
                    return
                nets.extend(work.child for work in activity.open)
        self._end_case(case, outcome)

    # --- draws --------------------------------------------------------------------------------------------------------

    def _choose(self, of: TaskRun) -> tuple[int, ...]:
        """Which outputs get a token."""
        if not of.chooses:
            return of.every_output
        if of.one:
            drawn = self.draws.unit()
            return (next(each for each, bound in zip(of.branches, of.chances, strict=True) if drawn < bound),)
        chosen: list[int] = []
        for position, chance, first in zip(of.branches, of.chances, of.first_chances, strict=True):
            if position == of.default:
                if not chosen:
                    chosen.append(position)
            elif self.draws.unit() < (chance if chosen else first):
                chosen.append(position)
        return tuple(chosen)

    def _draw_failure(self, of: TaskRun) -> int:
        """In which way an attempt fails; -1: it does not."""
        if not of.failing.bounds:
            return -1
        drawn = self.draws.unit()
        return next((way for way, bound in enumerate(of.failing.bounds) if drawn < bound), -1)

    def _draw_count(self, of: TaskRun) -> int:
        if len(of.counts) == 1:
            return of.counts[0][0]
        drawn = self.draws.unit()
        return next(count for count, bound in of.counts if drawn < bound)


def reference(plan: Plan, *, cases: int, warm_up: int, seed: int, progress: Progress | None = None) -> Raw:
    """Play all cases through one world; `progress` is told now and then how many have ended."""
    return _World(plan, cases, warm_up, seed).run(progress)
