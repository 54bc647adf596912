# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
"""The event loop of a simulation, compiled: what `knhk.analysis._simulation_loop` defines, on C arrays.

The functions are those of the definition, in its order, and draw and add in its order: results are equal to the bit, which
needs that no multiplication is fused with an addition (``-ffp-contract=off``).
The token game is the kernel's, through its Python methods.  What differs:

- Work, running nets and cases are lines of C arrays, named by their number; a line is used again once it is free.
  A number of work carries a generation, so that what was scheduled for dropped work is recognised.
- Nets and cases that end are freed when their case's drive is through, since its lists may still name them.
- ``open`` and the queues are linked lists through the work.

This module knows nothing of models and reports: it reads plain attributes of the plan that it is given.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF, PyObject
from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from knhk._hot.draws cimport duration, exponential, unit
from knhk._hot.world cimport (
    BEAT, COMPLETED, CUT_OFF, DEADLOCKED, DUE, FAILED, LIMIT, LOST, NEVER, NEVER_COMES, NO_CLAIM, OFFERED, ONE_BY_ONE, QUEUED,
    RATE, REQUEST, RETRY, SERVICE, STARTS_BY_ITSELF, SUBNET, TIMED, TIMER, WAIT, WAITING,
    Activity, Entry, Kind, Pair, Task, Work, World, push,
)


cdef class _Simulation(World):
    """Cases of a specification, played through their world."""

    # --- events -------------------------------------------------------------------------------------------------------

    def run(self, progress):
        """Play all cases; returns the measurements in the order of the definition's `Raw`."""
        cdef Entry entry
        self._schedule(0.0, -1)
        while self.ended < self.total:
            if self.events % BEAT == 0:
                PyErr_CheckSignals()
                if progress is not None:
                    progress(self.ended)
            self.events += 1
            if self.ring_count:
                entry = self.ring[self.ring_begin]
                self.ring_begin += 1
                if self.ring_begin == self.ring_room:
                    self.ring_begin = 0
                self.ring_count -= 1
                if self.works[entry.work].generation != entry.generation:
                    continue
            else:
                entry = self._pop()
                if entry.work >= 0 and self.works[entry.work].generation != entry.generation:
                    continue
                self.now = entry.at
            if entry.work < 0:
                self._arrive()
            else:
                self._happen(entry.work)
        self._mark()
        return self._raw()

    cdef object _raw(self):
        cdef int each
        return (
            self.throughput_array,
            self.outcome_bytes,
            [self.executions[each] for each in range(self.task_count)],
            [self.aborted[each] for each in range(self.task_count)],
            [self.finished[each] for each in range(self.task_count)],
            [self.failed[each] for each in range(self.task_count)],
            [self.delay[each] for each in range(self.task_count)],
            [self.waiting[each] for each in range(self.task_count)],
            [self.service[each] for each in range(self.task_count)],
            [self.waiting_sums[each] for each in range(self.task_count * self.batches)],
            [self.waiting_counts[each] for each in range(self.task_count * self.batches)],
            self.marks,
            [self.pools[each].most_busy for each in range(self.pool_count)],
            [self.pools[each].most_queued for each in range(self.pool_count)],
            self.events,
        )

    cdef int _arrive(self) except -1:
        cdef int64_t measured = self.started - self.warm_up
        cdef int batch = -1, case
        if measured >= 0:
            batch = <int>(measured * self.batches // (self.total - self.warm_up))
            if batch == self.next_mark:
                self.next_mark += 1
                self._mark()
        case = self._new_case(self.now, batch)
        self.started += 1
        if self.started < self.total and self.arrival != ONE_BY_ONE:
            self._schedule(
                exponential(&self.arrivals, self.interval) if self.arrival == RATE else self.interval, -1
            )
        if self.max_time < INFINITY:
            self.cases[case].limit = self._new_work(LIMIT, case, -1, -1)
            self._schedule(self.max_time, self.cases[case].limit)
        self.cases[case].root = self._open_net(0, case, -1, 1)
        self._drive(case)
        return 0

    cdef int _happen(self, int work) except -1:
        cdef Work* w = &self.works[work]
        cdef int net = w.net, task = w.task, case = w.case, does = w.does, way
        cdef Task* of
        if net < 0:
            self._end_case(case, CUT_OFF)
            self._tidy()
            return 0
        of = &self.tasks[self.kinds[self.nets[net].kind].first + task]
        if does == WAIT and of.queues_first:
            self._measure_delay(net, task)
            w.does = REQUEST
            w.since = self.now
            self._request(work, of)
            return 0
        if does == SERVICE:
            way = self._draw_failure(of)
            if way < 0:
                self._finish(net, task, work)
            else:
                self._fail(net, task, work, way)
        elif does == QUEUED:
            self._serve(work, of)
        elif does == RETRY:
            self._queue(work, of)
        elif does == TIMER and not self._is_ready(net, task):
            self.nets[net].activities[task].claim = DUE
            self._unpend(work)
            self._free_work(work)
        else:
            if does != REQUEST:
                self._measure_delay(net, task)
            self._begin(net, task)
        self._drive(case)
        return 0

    cdef inline bint _is_ready(self, int net, int task) except -1:
        return (<object>self.nets[net].marking).is_ready(task)

    # --- driving a case -----------------------------------------------------------------------------------------------

    cdef int _drive(self, int case) except -1:
        while not self.cases[case].ended:
            self._absorb()
            if self.cases[case].ended or not (self._start_next() or self._settle()):
                break
        if not self.cases[case].ended:
            self._offer()
            if self.cases[case].pending == 0:
                self._conclude(case)
        self._tidy()
        return 0

    cdef int _tidy(self) except -1:
        cdef size_t each
        for each in range(self.visited.end):
            self.nets[self.visited.items[each].net].visited = False
        self.visited.end = 0
        self.agenda.begin = self.agenda.end = 0
        for each in range(self.changed.end):
            self.nets[self.changed.items[each].net].activities[self.changed.items[each].task].changed = False
        self.changed.end = 0
        for each in range(self.touched.begin, self.touched.end):
            self.nets[self.touched.items[each].net].touched = False
        self.touched.begin = self.touched.end = 0
        for each in range(self.dead_nets.end):
            push(&self.free_nets, self.dead_nets.items[each].net, 0)
        self.dead_nets.end = 0
        for each in range(self.dead_cases.end):
            push(&self.free_cases, self.dead_cases.items[each].net, 0)
        self.dead_cases.end = 0
        return 0

    cdef int _absorb(self) except -1:
        cdef int net, task, starts, each
        cdef int64_t change
        cdef Kind* kind
        while self.touched.begin < self.touched.end:
            net = self.touched.items[self.touched.begin].net
            self.touched.begin += 1
            self.nets[net].touched = False
            if not self.nets[net].alive:
                continue
            kind = &self.kinds[self.nets[net].kind]
            if not self.nets[net].visited:
                self.nets[net].visited = True
                push(&self.visited, net, 0)
            for item in <list>(<object>self.nets[net].marking).changes():
                change = item
                task = <int>(change if change >= 0 else ~change)
                starts = self.tasks[kind.first + task].starts
                if starts == STARTS_BY_ITSELF:
                    if change >= 0:
                        push(&self.agenda, net, task)
                elif starts == OFFERED:
                    self._change(net, task)
                elif change < 0:
                    self._unclaim(net, task)
            for each in range(kind.timed_count):
                self._keep_time(net, kind.timed[each])
            if self.nets[net].may_end:
                self.nets[net].may_end = False
                if not kind.implicit and (kind.empty or (<object>self.nets[net].marking).has_ended()):
                    self._end_net(net)
        self.touched.begin = self.touched.end = 0
        return 0

    cdef int _change(self, int net, int task) except -1:
        if not self.nets[net].activities[task].changed:
            self.nets[net].activities[task].changed = True
            push(&self.changed, net, task)
        return 0

    cdef int _keep_time(self, int net, int task) except -1:
        cdef int work
        cdef bint waits = (<object>self.nets[net].marking).threads(task) > 0
        if not waits:
            self._unclaim(net, task)
        elif self.nets[net].activities[task].claim == NO_CLAIM:
            work = self._new_work(TIMER, self.nets[net].case, net, task)
            self.nets[net].activities[task].claim = work
            self.nets[net].activities[task].enabled = self.now
            self.cases[self.nets[net].case].pending += 1
            self._schedule(self.tasks[self.kinds[self.nets[net].kind].first + task].timer, work)
        elif self.nets[net].activities[task].claim == DUE and self._is_ready(net, task):
            push(&self.agenda, net, task)
        return 0

    cdef int _start_next(self) except -1:
        cdef Pair next_
        cdef Task* of
        while self.agenda.begin < self.agenda.end:
            next_ = self.agenda.items[self.agenda.begin]
            if self.nets[next_.net].alive and self.kinds[self.nets[next_.net].kind].has_or_joins:
                if (<object>self.nets[next_.net].marking).settle_before(next_.task):
                    # First what that has changed is looked at, then this one again.
                    self._touch(next_.net)
                    return 1
            self.agenda.begin += 1
            if self.agenda.begin == self.agenda.end:
                self.agenda.begin = self.agenda.end = 0
            if not self.nets[next_.net].alive or not self._is_ready(next_.net, next_.task):
                continue
            of = &self.tasks[self.kinds[self.nets[next_.net].kind].first + next_.task]
            if of.starts != STARTS_BY_ITSELF:
                if self.nets[next_.net].activities[next_.task].claim != DUE:
                    continue
                self._measure_delay(next_.net, next_.task)
            self._begin(next_.net, next_.task)
            if of.detached and of.starts == STARTS_BY_ITSELF:
                push(&self.agenda, next_.net, next_.task)
            return 1
        return 0

    cdef bint _any_open(self, int net) noexcept:
        cdef int task
        for task in range(self.kinds[self.nets[net].kind].size):
            if self.nets[net].activities[task].count:
                return True
        return False

    cdef int _settle(self) except -1:
        cdef int net, news = 0
        cdef size_t each, count = self.visited.end
        for each in range(count):
            net = self.visited.items[each].net
            if not self.nets[net].alive:
                continue
            if self.kinds[self.nets[net].kind].has_or_joins and (<object>self.nets[net].marking).settle():
                self._touch(net)
                news = 1
            elif self.kinds[self.nets[net].kind].implicit and not self._any_open(net):
                if self.kinds[self.nets[net].kind].empty or (<object>self.nets[net].marking).has_ended():
                    self._end_net(net)
                    return 1
        return news

    cdef int _offer(self) except -1:
        cdef size_t each
        cdef int net, task, work
        cdef double length
        cdef Task* of
        cdef Activity* activity
        for each in range(self.changed.end):
            net = self.changed.items[each].net
            task = self.changed.items[each].task
            if not self.nets[net].alive:
                continue
            activity = &self.nets[net].activities[task]
            if not self._is_ready(net, task):
                self._unclaim(net, task)
            elif activity.claim == NO_CLAIM:
                activity.enabled = self.now
                of = &self.tasks[self.kinds[self.nets[net].kind].first + task]
                length = duration(&self.draws, &of.wait)
                if of.wait.shape == NEVER:
                    activity.claim = NEVER_COMES
                    continue
                work = self._new_work(WAIT, self.nets[net].case, net, task)
                activity.claim = work
                self.cases[self.nets[net].case].pending += 1
                if length > 0.0:
                    self._schedule(length, work)
                else:
                    self._at_once(work)
        return 0

    cdef int _unclaim(self, int net, int task) except -1:
        cdef int claim = self.nets[net].activities[task].claim
        self.nets[net].activities[task].claim = NO_CLAIM
        if claim >= 0:
            self._unpend(claim)
            if self.works[claim].does == REQUEST:
                self._give_back(claim, &self.tasks[self.kinds[self.nets[net].kind].first + task])
            self._free_work(claim)
        return 0

    # --- tasks --------------------------------------------------------------------------------------------------------

    cdef int _begin(self, int net, int task) except -1:
        cdef int g = self.kinds[self.nets[net].kind].first + task
        cdef Task* of = &self.tasks[g]
        cdef int case = self.nets[net].case
        cdef int claim = self.nets[net].activities[task].claim, asked = -1
        cdef int each, count = 1
        cdef bint fires
        cdef tuple chosen = ()
        self.nets[net].activities[task].claim = NO_CLAIM
        if claim >= 0:
            if self.works[claim].does == REQUEST:
                asked = claim
            else:
                self._unpend(claim)
                self._free_work(claim)
        if of.multiple:
            count = self._draw_count(of)
        self.cases[case].steps += 1 + count if of.multiple else 1
        if self.cases[case].steps > self.max_steps or (of.subnet >= 0 and self.nets[net].depth >= self.max_depth):
            if asked >= 0:
                self._unpend(asked)
                self._give_back(asked, of)
                self._free_work(asked)
            self._end_case(case, CUT_OFF)
            return 0
        self._touch(net)
        fires = of.fires or count == 0
        if fires or of.detached:
            chosen = self._choose(g)
        marking = <object>self.nets[net].marking
        marking.start(task)
        for each in range(of.join_cancel_count):
            if of.join_cancels[each] != task:
                self._drop(net, of.join_cancels[each])
        if of.detached and of.cancels_itself and not fires:
            self._drop(net, task)
        if fires:
            if self.cases[case].batch >= 0:
                self.executions[g] += 1
                self.finished[g] += 1
        else:
            for each in range(count):
                self._open(net, task, of, asked)
        if fires or of.detached:
            self._drop_region(net, task, of)
            if of.detached:
                marking.pass_on(task, chosen)
            else:
                marking.complete(task, chosen)
            self.nets[net].may_end = True
        if of.detached and of.starts == OFFERED:
            self._change(net, task)
        return 0

    cdef int _open(self, int net, int task, const Task* of, int asked) except -1:
        cdef int work = asked, case = self.nets[net].case, child
        cdef Activity* activity
        if work < 0:
            work = self._new_work(SUBNET if of.subnet >= 0 else QUEUED, case, net, task)
        activity = &self.nets[net].activities[task]
        self.works[work].before = activity.last
        self.works[work].behind = -1
        if activity.last >= 0:
            self.works[activity.last].behind = work
        else:
            activity.first = work
        activity.last = work
        activity.count += 1
        if of.subnet >= 0:
            if self.cases[case].batch >= 0:
                self.executions[self.kinds[self.nets[net].kind].first + task] += 1
            child = self._open_net(of.subnet, case, work, self.nets[net].depth + 1)
            self.works[work].child = child
            return 0
        if asked >= 0:
            return self._serve(work, of)
        self.cases[case].pending += 1
        return self._queue(work, of)

    cdef int _queue(self, int work, const Task* of) except -1:
        self.works[work].does = QUEUED
        self.works[work].since = self.now
        if of.pool < 0:
            return self._serve(work, of)
        return self._request(work, of)

    cdef void _unlink(self, Activity* activity, int work) noexcept:
        cdef Work* w = &self.works[work]
        if w.before >= 0:
            self.works[w.before].behind = w.behind
        else:
            activity.first = w.behind
        if w.behind >= 0:
            self.works[w.behind].before = w.before
        else:
            activity.last = w.before
        activity.count -= 1

    cdef int _finish(self, int net, int task, int work) except -1:
        cdef int g = self.kinds[self.nets[net].kind].first + task
        cdef Task* of = &self.tasks[g]
        cdef Activity* activity = &self.nets[net].activities[task]
        cdef double since = self.works[work].since
        cdef tuple chosen
        self._unlink(activity, work)
        if self.works[work].does == SERVICE:
            self._unpend(work)
            self._give_back(work, of)
        self._free_work(work)
        if self.cases[self.nets[net].case].batch >= 0:
            self.finished[g] += 1
            self.service[g] += self.now - since
        activity.completed += 1
        self._touch(net)
        if of.detached:
            return 0
        marking = <object>self.nets[net].marking
        if activity.passed:
            if not activity.count:
                activity.completed = 0
                activity.passed = False
                marking.release(task)
            return 0
        if activity.count and not (of.threshold and activity.completed >= of.threshold):
            return 0
        chosen = self._choose(g)
        self.nets[net].may_end = True
        if activity.count and of.continues:
            activity.passed = True
            self._drop_region(net, task, of)
            marking.pass_on(task, chosen)
            if of.cancels_itself:
                self._drop(net, task)
                marking.release(task)
            return 0
        self._drop(net, task)
        self._drop_region(net, task, of)
        marking.complete(task, chosen)
        return 0

    # --- failures -----------------------------------------------------------------------------------------------------

    cdef int _fail(self, int net, int task, int work, int way) except -1:
        cdef int g = self.kinds[self.nets[net].kind].first + task
        cdef Task* of = &self.tasks[g]
        cdef int case = self.nets[net].case
        cdef double pause
        self._give_back(work, of)
        if self.cases[case].batch >= 0:
            self.finished[g] += 1
            self.failed[g] += 1
            self.service[g] += self.now - self.works[work].since
        self.works[work].attempt += 1
        self.works[work].does = RETRY
        if self.works[work].attempt < of.attempts[way]:
            pause = self._pause(of, self.works[work].attempt)
            if self.now + pause < self.works[work].first + of.within:
                self.cases[case].steps += 1
                if self.cases[case].steps > self.max_steps:
                    return self._end_case(case, CUT_OFF)
                if pause > 0.0:
                    return self._schedule(pause, work)
                return self._at_once(work)
        return self._raise(net, task, work, of.errors[way])

    cdef double _pause(self, const Task* of, int attempt) noexcept:
        cdef double pause = of.pause
        cdef int each
        for each in range(attempt - 1):
            if pause >= of.longest or of.coefficient == 1.0:
                break
            pause *= of.coefficient
        if pause > of.longest:
            pause = of.longest
        if of.jitter > 0.0:
            pause *= 1.0 - of.jitter * unit(&self.draws)
        return pause

    cdef int _raise(self, int net, int task, int work, int error) except -1:
        cdef int inside = work, at = net, number = task, position, lost
        cdef Task* of
        while True:
            of = &self.tasks[self.kinds[self.nets[at].kind].first + number]
            if self._goes_on_without(&self.nets[at].activities[number], of, inside):
                break
            position = of.catches[error] if of.catches_any else -1
            if position >= 0:
                self._touch(at)
                self.nets[at].may_end = True
                self._drop(at, number)
                self._drop_region(at, number, of)
                (<object>self.nets[at].marking).complete(number, (position,))
                return 0
            inside = self.nets[at].stands_for
            if inside < 0:
                break
            at = self.works[inside].net
            number = self.works[inside].task
        self._unpend(work)
        self.works[work].does = LOST
        lost = work
        while lost >= 0:
            self.works[lost].lost = True
            lost = self.nets[self.works[lost].net].stands_for
        return 0

    cdef bint _goes_on_without(self, const Activity* activity, const Task* of, int work) noexcept:
        cdef int64_t hopeful = 0, created = activity.completed + activity.count
        cdef int each = activity.first
        if not of.multiple:
            return False
        if of.detached or activity.passed:
            return True
        if not of.threshold:
            return False
        while each >= 0:
            hopeful += each != work and not self.works[each].lost
            each = self.works[each].behind
        return activity.completed + hopeful >= min(<int64_t>of.threshold, created)

    cdef int _drop_region(self, int net, int task, const Task* of) except -1:
        cdef int each
        for each in range(of.cancel_count):
            if of.cancels[each] != task:
                self._drop(net, of.cancels[each])
        return 0

    cdef int _drop(self, int net, int task) except -1:
        self._drop_open(net, task)
        self.nets[net].activities[task].completed = 0
        self.nets[net].activities[task].passed = False
        return self._close()

    cdef int _drop_open(self, int net, int task) except -1:
        cdef int g = self.kinds[self.nets[net].kind].first + task
        cdef Activity* activity = &self.nets[net].activities[task]
        cdef int work = activity.first, behind
        cdef bint measured = self.cases[self.nets[net].case].batch >= 0
        while work >= 0:
            behind = self.works[work].behind
            if self.works[work].child >= 0:
                push(&self.doomed, self.works[work].child, 0)
            elif self.works[work].does != LOST:
                self._unpend(work)
                if self.works[work].does != RETRY:
                    self._give_back(work, &self.tasks[g])
            if measured and (self.works[work].does == SERVICE or self.works[work].does == SUBNET):
                self.aborted[g] += 1
            self._free_work(work)
            work = behind
        activity.first = activity.last = -1
        activity.count = 0
        return 0

    cdef int _close(self) except -1:
        cdef int net, task
        while self.doomed.end:
            self.doomed.end -= 1
            net = self.doomed.items[self.doomed.end].net
            self.nets[net].alive = False
            for task in range(self.kinds[self.nets[net].kind].size):
                self._unclaim(net, task)
                self._drop_open(net, task)
            Py_DECREF(<object>self.nets[net].marking)
            self.nets[net].marking = NULL
            push(&self.dead_nets, net, 0)
        return 0

    # --- ends ---------------------------------------------------------------------------------------------------------

    cdef int _end_net(self, int net) except -1:
        cdef int work = self.nets[net].stands_for
        if work < 0:
            return self._end_case(self.nets[net].case, COMPLETED)
        push(&self.doomed, net, 0)
        self._close()
        self.works[work].child = -1
        return self._finish(self.works[work].net, self.works[work].task, work)

    cdef int _end_case(self, int case, int outcome) except -1:
        self.cases[case].ended = True
        push(&self.doomed, self.cases[case].root, 0)
        self._close()
        if self.cases[case].limit >= 0:
            self._free_work(self.cases[case].limit)
        self.outcomes[self.cases[case].number] = <unsigned char>outcome
        if outcome == COMPLETED:
            self.throughput[self.cases[case].number] = self.now - self.cases[case].start
        self.ended += 1
        push(&self.dead_cases, case, 0)
        if self.arrival == ONE_BY_ONE and self.started < self.total:
            self._schedule(0.0, -1)
        return 0

    cdef int _conclude(self, int case) except -1:
        cdef list nets = [self.cases[case].root]
        cdef int net, task, work, outcome = DEADLOCKED
        while nets:
            net = nets.pop()
            for task in range(self.kinds[self.nets[net].kind].size):
                if self.nets[net].activities[task].claim == NEVER_COMES:
                    outcome = WAITING
                work = self.nets[net].activities[task].first
                while work >= 0:
                    if self.works[work].does == LOST:
                        return self._end_case(case, FAILED)
                    nets.append(self.works[work].child)
                    work = self.works[work].behind
        return self._end_case(case, outcome)

    # --- draws --------------------------------------------------------------------------------------------------------

    cdef tuple _choose(self, int g):
        cdef Task* of = &self.tasks[g]
        cdef int each
        cdef double drawn
        cdef list chosen
        if not of.chooses:
            return <tuple>self.every_output[g]
        if of.one:
            drawn = unit(&self.draws)
            for each in range(of.branch_count - 1):
                if drawn < of.chances[each]:
                    return <tuple>(<list>self.single[g])[each]
            return <tuple>(<list>self.single[g])[of.branch_count - 1]
        chosen = []
        for each in range(of.branch_count):
            if of.branches[each] == of.default_:
                if not chosen:
                    chosen.append(of.branches[each])
            elif unit(&self.draws) < (of.chances[each] if chosen else of.first_chances[each]):
                chosen.append(of.branches[each])
        return tuple(chosen)

    cdef int _draw_failure(self, const Task* of) noexcept:
        cdef int way
        cdef double drawn
        if not of.ways:
            return -1
        drawn = unit(&self.draws)
        for way in range(of.ways):
            if drawn < of.failing_bounds[way]:
                return way
        return -1

    cdef int _draw_count(self, const Task* of) noexcept:
        cdef int each
        cdef double drawn
        if of.count_of_counts == 1:
            return of.counts[0]
        drawn = unit(&self.draws)
        for each in range(of.count_of_counts - 1):
            if drawn < of.count_bounds[each]:
                return of.counts[each]
        return of.counts[of.count_of_counts - 1]


def play(plan, *, cases, warm_up, seed, batches, max_depth, progress):
    """Play all cases through one world; returns the fields of the definition's `Raw` as a tuple, in its order."""
    return _Simulation(plan, cases, warm_up, seed, batches, max_depth).run(progress)
