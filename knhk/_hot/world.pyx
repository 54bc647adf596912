# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
"""The world of a simulation: its lines, the clock's queue, and the resources; `knhk._hot.simulate` plays in it.

- Work, running nets and cases are lines of C arrays, named by their number; a line is used again once it is free.
  A number of work carries a generation, so that what was scheduled for dropped work is recognised.
- The queues of resources are linked lists through the work.
"""

from array import array

from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.math cimport NAN
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from knhk._hot.draws cimport Shaped, duration, splitmix64


cdef int* integers(object values) except NULL:
    cdef int* copy = <int*>calloc(len(values) + 1, sizeof(int))
    cdef Py_ssize_t at
    if copy == NULL:
        raise MemoryError
    for at in range(len(values)):
        copy[at] = values[at]
    return copy


cdef double* doubles(object values) except NULL:
    cdef double* copy = <double*>calloc(len(values) + 1, sizeof(double))
    cdef Py_ssize_t at
    if copy == NULL:
        raise MemoryError
    for at in range(len(values)):
        copy[at] = values[at]
    return copy


cdef Shaped shaped(object of):
    cdef Shaped copy
    copy.shape = int(of.shape)
    copy.a = of.a
    copy.b = of.b
    copy.c = of.c
    return copy


cdef class World:
    """
    A world before its first case.

    Args:
        plan: what the reference loop is given, by its plain attributes.
        cases, warm_up, seed, batches, max_depth: as `knhk._hot.simulate.play` is given them.
    """

    def __init__(self, plan, int64_t cases, int64_t warm_up, object seed, int batches, int max_depth):
        cdef uint64_t state = seed & 0xFFFFFFFFFFFFFFFF
        self.total = cases
        self.warm_up = warm_up
        self.batches = batches
        self.max_depth = max_depth
        self.max_time = plan.max_time
        self.max_steps = plan.max_steps
        self.interval = plan.arrival.interval
        self.arrival = {"one by one": ONE_BY_ONE, "rate": RATE}.get(plan.arrival.kind.value, INTERVAL)
        self.arrivals.s0 = splitmix64(&state)
        self.arrivals.s1 = splitmix64(&state)
        self.arrivals.s2 = splitmix64(&state)
        self.arrivals.s3 = splitmix64(&state)
        self.draws.s0 = splitmix64(&state)
        self.draws.s1 = splitmix64(&state)
        self.draws.s2 = splitmix64(&state)
        self.draws.s3 = splitmix64(&state)
        self.free_work = -1
        self.throughput_array = array("d", [NAN]) * cases
        self.outcome_bytes = bytearray(cases)
        self.throughput = self.throughput_array
        self.outcomes = self.outcome_bytes
        self.marks = []
        self._read_nets(plan)
        self._read_tasks(plan)

    cdef int _read_nets(self, object plan) except -1:
        cdef int number
        self.kernels = [each.kernel for each in plan.nets]
        self.kinds = <Kind*>calloc(len(plan.nets) + 1, sizeof(Kind))
        self.pools = <Pool*>calloc(len(plan.capacities) + 1, sizeof(Pool))
        if self.kinds == NULL or self.pools == NULL:
            raise MemoryError
        self.kind_count = len(plan.nets)
        for number, each in enumerate(plan.nets):
            self.kinds[number].first = each.first
            self.kinds[number].size = each.size
            self.kinds[number].implicit = each.implicit
            self.kinds[number].empty = each.empty
            self.kinds[number].has_or_joins = each.has_or_joins
            self.kinds[number].timed_count = len(each.timed)
            self.kinds[number].timed = integers(each.timed)
        self.pool_count = len(plan.capacities)
        for number, capacity in enumerate(plan.capacities):
            self.pools[number].capacity = capacity
            self.pools[number].first = self.pools[number].last = -1
        return 0

    cdef int _read_tasks(self, object plan) except -1:
        cdef int number
        cdef size_t count = len(plan.tasks) + 1
        cdef Task* task
        self.tasks = <Task*>calloc(count, sizeof(Task))
        self.executions = <int64_t*>calloc(count, sizeof(int64_t))
        self.aborted = <int64_t*>calloc(count, sizeof(int64_t))
        self.finished = <int64_t*>calloc(count, sizeof(int64_t))
        self.failed = <int64_t*>calloc(count, sizeof(int64_t))
        self.delay = <double*>calloc(count, sizeof(double))
        self.waiting = <double*>calloc(count, sizeof(double))
        self.service = <double*>calloc(count, sizeof(double))
        self.waiting_sums = <double*>calloc(count * <size_t>self.batches, sizeof(double))
        self.waiting_counts = <int64_t*>calloc(count * <size_t>self.batches, sizeof(int64_t))
        if (
            self.tasks == NULL or self.executions == NULL or self.aborted == NULL or self.finished == NULL
            or self.failed == NULL or self.delay == NULL or self.waiting == NULL or self.service == NULL
            or self.waiting_sums == NULL or self.waiting_counts == NULL
        ):
            raise MemoryError
        self.task_count = len(plan.tasks)
        self.every_output = [each.every_output for each in plan.tasks]
        self.single = [[(position,) for position in each.branches] for each in plan.tasks]
        for number, each in enumerate(plan.tasks):
            task = &self.tasks[number]
            task.starts = each.starts
            task.fires = each.fires
            task.queues_first = each.queues_first
            task.pool = each.pool
            task.subnet = each.subnet
            task.service = shaped(each.service)
            task.wait = shaped(each.wait)
            task.timer = each.timer
            task.multiple = each.multiple
            task.detached = each.detached
            task.continues = each.continues
            task.threshold = each.threshold
            task.count_of_counts = len(each.counts)
            task.counts = integers([count for count, _ in each.counts])
            task.count_bounds = doubles([bound for _, bound in each.counts])
            task.chooses = each.chooses
            task.one = each.one
            task.branch_count = len(each.branches)
            task.branches = integers(each.branches)
            task.chances = doubles(each.chances)
            task.first_chances = doubles(each.first_chances)
            task.default_ = each.default
            task.cancels_itself = each.cancels_itself
            task.cancel_count = len(each.cancels)
            task.cancels = integers(each.cancels)
            task.join_cancel_count = len(each.join_cancels)
            task.join_cancels = integers(each.join_cancels)
            task.ways = len(each.failing.bounds)
            task.failing_bounds = doubles(each.failing.bounds)
            task.errors = integers(each.failing.errors)
            task.attempts = integers(each.failing.attempts)
            task.pause = each.failing.pause
            task.coefficient = each.failing.coefficient
            task.longest = each.failing.longest
            task.jitter = each.failing.jitter
            task.within = each.failing.within
            task.catches_any = bool(each.failing.catches)
            task.catches = integers(each.failing.catches)
        return 0

    def __dealloc__(self):
        cdef int number
        for number in range(self.task_count):
            free(self.tasks[number].counts)
            free(self.tasks[number].count_bounds)
            free(self.tasks[number].branches)
            free(self.tasks[number].chances)
            free(self.tasks[number].first_chances)
            free(self.tasks[number].cancels)
            free(self.tasks[number].join_cancels)
            free(self.tasks[number].failing_bounds)
            free(self.tasks[number].errors)
            free(self.tasks[number].attempts)
            free(self.tasks[number].catches)
        for number in range(self.kind_count):
            free(self.kinds[number].timed)
        for number in range(self.net_count):
            if self.nets[number].marking != NULL:
                Py_DECREF(<object>self.nets[number].marking)
            free(self.nets[number].activities)
        for each in (
            <size_t>self.tasks, <size_t>self.kinds, <size_t>self.pools, <size_t>self.works, <size_t>self.nets,
            <size_t>self.cases, <size_t>self.free_nets.items, <size_t>self.free_cases.items,
            <size_t>self.dead_nets.items, <size_t>self.dead_cases.items, <size_t>self.agenda.items,
            <size_t>self.touched.items, <size_t>self.visited.items, <size_t>self.changed.items,
            <size_t>self.doomed.items, <size_t>self.heap, <size_t>self.ring, <size_t>self.executions,
            <size_t>self.aborted, <size_t>self.finished, <size_t>self.failed, <size_t>self.delay, <size_t>self.waiting,
            <size_t>self.service, <size_t>self.waiting_sums, <size_t>self.waiting_counts,
        ):
            free(<void*><size_t>each)

    # --- lines --------------------------------------------------------------------------------------------------------

    cdef int _new_work(self, int does, int case, int net, int task) except -1:
        cdef int number = self.free_work, room
        cdef void* larger
        cdef Work* work
        if number >= 0:
            self.free_work = self.works[number].behind
        else:
            if self.work_count == self.work_room:
                room = 2 * self.work_room + 64
                larger = realloc(self.works, <size_t>room * sizeof(Work))
                if larger == NULL:
                    raise MemoryError
                self.works = <Work*>larger
                self.work_room = room
            number = self.work_count
            self.work_count += 1
            self.works[number].generation = 0
        work = &self.works[number]
        work.does = does
        work.task = task
        work.net = net
        work.case = case
        work.child = -1
        work.attempt = 0
        work.granted = False
        work.live = True
        work.lost = False
        work.since = self.now
        work.before = work.behind = work.queue_before = work.queue_behind = -1
        return number

    cdef inline void _free_work(self, int number) noexcept:
        self.works[number].live = False
        self.works[number].generation += 1
        self.works[number].behind = self.free_work
        self.free_work = number

    cdef int _open_net(self, int kind, int case, int stands_for, int depth) except -1:
        cdef int number, room, each, size = self.kinds[kind].size
        cdef void* larger
        cdef Running* net
        if self.free_nets.end:
            self.free_nets.end -= 1
            number = self.free_nets.items[self.free_nets.end].net
        else:
            if self.net_count == self.net_room:
                room = 2 * self.net_room + 64
                larger = realloc(self.nets, <size_t>room * sizeof(Running))
                if larger == NULL:
                    raise MemoryError
                self.nets = <Running*>larger
                self.net_room = room
            number = self.net_count
            memset(&self.nets[number], 0, sizeof(Running))
            self.net_count += 1
        net = &self.nets[number]
        if net.room < size:
            larger = realloc(net.activities, <size_t>size * sizeof(Activity))
            if larger == NULL:
                raise MemoryError
            net.activities = <Activity*>larger
            net.room = size
        if size:
            memset(net.activities, 0, <size_t>size * sizeof(Activity))
        for each in range(size):
            net.activities[each].claim = NO_CLAIM
            net.activities[each].first = net.activities[each].last = -1
        marking = self.kernels[kind].marking()
        Py_INCREF(marking)
        net = &self.nets[number]
        net.marking = <PyObject*>marking
        net.kind = kind
        net.case = case
        net.stands_for = stands_for
        net.depth = depth
        net.alive = True
        net.touched = net.visited = False
        net.may_end = True
        self._touch(number)
        return number

    cdef int _new_case(self, double start, int batch) except -1:
        cdef int number, room
        cdef void* larger
        if self.free_cases.end:
            self.free_cases.end -= 1
            number = self.free_cases.items[self.free_cases.end].net
        else:
            if self.case_count == self.case_room:
                room = 2 * self.case_room + 64
                larger = realloc(self.cases, <size_t>room * sizeof(Case))
                if larger == NULL:
                    raise MemoryError
                self.cases = <Case*>larger
                self.case_room = room
            number = self.case_count
            self.case_count += 1
        memset(&self.cases[number], 0, sizeof(Case))
        self.cases[number].number = self.started
        self.cases[number].start = start
        self.cases[number].batch = batch
        self.cases[number].root = self.cases[number].limit = -1
        return number

    cdef int _touch(self, int net) except -1:
        if not self.nets[net].touched:
            self.nets[net].touched = True
            push(&self.touched, net, 0)
        return 0

    # --- the clock ----------------------------------------------------------------------------------------------------

    cdef inline bint _earlier(self, const Entry* one, const Entry* other) noexcept:
        return one.at < other.at or (one.at == other.at and one.order < other.order)

    cdef int _schedule(self, double delay, int work) except -1:
        cdef size_t at, above
        cdef void* larger
        cdef Entry entry
        if self.heap_count == self.heap_room:
            larger = realloc(self.heap, (2 * self.heap_room + 64) * sizeof(Entry))
            if larger == NULL:
                raise MemoryError
            self.heap = <Entry*>larger
            self.heap_room = 2 * self.heap_room + 64
        self.order += 1
        entry.at = self.now + delay
        entry.order = self.order
        entry.work = work
        entry.generation = self.works[work].generation if work >= 0 else 0
        at = self.heap_count
        self.heap_count += 1
        while at:
            above = (at - 1) >> 1
            if not self._earlier(&entry, &self.heap[above]):
                break
            self.heap[at] = self.heap[above]
            at = above
        self.heap[at] = entry
        return 0

    cdef Entry _pop(self) noexcept:
        cdef Entry first = self.heap[0], last
        cdef size_t at = 0, below
        self.heap_count -= 1
        last = self.heap[self.heap_count]
        while True:
            below = 2 * at + 1
            if below >= self.heap_count:
                break
            if below + 1 < self.heap_count and self._earlier(&self.heap[below + 1], &self.heap[below]):
                below += 1
            if not self._earlier(&self.heap[below], &last):
                break
            self.heap[at] = self.heap[below]
            at = below
        self.heap[at] = last
        return first

    cdef int _at_once(self, int work) except -1:
        cdef size_t at
        cdef Entry* larger
        if self.ring_count == self.ring_room:
            larger = <Entry*>calloc(2 * self.ring_room + 64, sizeof(Entry))
            if larger == NULL:
                raise MemoryError
            for at in range(self.ring_count):
                larger[at] = self.ring[(self.ring_begin + at) % self.ring_room]
            free(self.ring)
            self.ring = larger
            self.ring_begin = 0
            self.ring_room = 2 * self.ring_room + 64
        at = self.ring_begin + self.ring_count
        if at >= self.ring_room:
            at -= self.ring_room
        self.ring[at].work = work
        self.ring[at].generation = self.works[work].generation
        self.ring_count += 1
        return 0

    cdef int _mark(self) except -1:
        cdef int each
        for each in range(self.pool_count):
            self._account(&self.pools[each])
        busy = tuple([self.pools[each].busy_area for each in range(self.pool_count)])
        queue = tuple([self.pools[each].queue_area for each in range(self.pool_count)])
        self.marks.append((self.now, busy, queue))
        return 0

    # --- resources ----------------------------------------------------------------------------------------------------

    cdef inline void _account(self, Pool* pool) noexcept:
        pool.busy_area += <double>pool.busy * (self.now - pool.since)
        pool.queue_area += <double>pool.queued * (self.now - pool.since)
        pool.since = self.now

    cdef int _request(self, int work, const Task* of) except -1:
        cdef Pool* pool
        if of.pool < 0:
            return self._at_once(work)
        pool = &self.pools[of.pool]
        self._account(pool)
        if pool.busy < pool.capacity:
            return self._grant(pool, work)
        self.works[work].queue_before = pool.last
        self.works[work].queue_behind = -1
        if pool.last >= 0:
            self.works[pool.last].queue_behind = work
        else:
            pool.first = work
        pool.last = work
        pool.queued += 1
        pool.most_queued = max(pool.most_queued, pool.queued)
        return 0

    cdef int _grant(self, Pool* pool, int work) except -1:
        pool.busy += 1
        pool.most_busy = max(pool.most_busy, pool.busy)
        self.works[work].granted = True
        return self._at_once(work)

    cdef void _leave_queue(self, Pool* pool, int work) noexcept:
        cdef Work* w = &self.works[work]
        if w.queue_before >= 0:
            self.works[w.queue_before].queue_behind = w.queue_behind
        else:
            pool.first = w.queue_behind
        if w.queue_behind >= 0:
            self.works[w.queue_behind].queue_before = w.queue_before
        else:
            pool.last = w.queue_before
        w.queue_before = w.queue_behind = -1
        pool.queued -= 1

    cdef int _give_back(self, int work, const Task* of) except -1:
        cdef Pool* pool
        cdef int first
        if of.pool < 0:
            return 0
        pool = &self.pools[of.pool]
        self._account(pool)
        if not self.works[work].granted:
            self._leave_queue(pool, work)
            return 0
        self.works[work].granted = False
        pool.busy -= 1
        first = pool.first
        if first >= 0:
            self._leave_queue(pool, first)
            self._grant(pool, first)
        return 0

    cdef int _serve(self, int work, const Task* of) except -1:
        cdef Work* w = &self.works[work]
        cdef int g = self.kinds[self.nets[w.net].kind].first + w.task
        cdef int batch = self.cases[w.case].batch
        cdef double waited, length
        if batch >= 0:
            waited = self.now - w.since
            self.executions[g] += 1
            self.waiting[g] += waited
            self.waiting_sums[g * self.batches + batch] += waited
            self.waiting_counts[g * self.batches + batch] += 1
        w.does = SERVICE
        w.since = self.now
        if not w.attempt:
            w.first = self.now
        length = duration(&self.draws, &of.service)
        if length > 0.0:
            return self._schedule(length, work)
        return self._at_once(work)

    cdef inline void _measure_delay(self, int net, int task) noexcept:
        if self.cases[self.nets[net].case].batch >= 0:
            self.delay[self.kinds[self.nets[net].kind].first + task] += (
                self.now - self.nets[net].activities[task].enabled
            )

    cdef inline void _unpend(self, int work) noexcept:
        self.cases[self.works[work].case].pending -= 1
