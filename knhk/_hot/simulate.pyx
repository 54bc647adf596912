# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
# distutils: extra_compile_args = -ffp-contract=off
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

from array import array

from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_INCREF, Py_DECREF, PyObject
from libc.math cimport INFINITY, NAN, cos, exp, log, sqrt, M_PI
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

cdef enum:
    COMPLETED = 0
    DEADLOCKED = 1
    WAITING = 2
    CUT_OFF = 3

cdef enum:  # what work does
    WAIT = 0
    TIMER = 1
    REQUEST = 2
    QUEUED = 3
    SERVICE = 4
    SUBNET = 5
    LIMIT = 6

cdef enum:  # how a task starts
    STARTS_BY_ITSELF = 0
    OFFERED = 1
    TIMED = 2

cdef enum:  # how cases come
    ONE_BY_ONE = 0
    INTERVAL = 1
    RATE = 2

cdef enum:  # claims that are no work
    NO_CLAIM = -1
    NEVER_COMES = -2
    DUE = -3

cdef enum:
    NEVER = 6  # the shape of what never comes
    BEAT = 4096

cdef struct Shaped:
    int shape
    double a
    double b
    double c

cdef struct Task:
    int starts
    bint fires
    bint queues_first
    int pool
    int subnet
    Shaped service
    Shaped wait
    double timer
    bint multiple
    bint detached
    bint continues
    int threshold
    int count_of_counts
    int* counts
    double* count_bounds
    bint chooses
    bint one
    int branch_count
    int* branches
    double* chances
    double* first_chances
    int default_
    bint cancels_itself
    int cancel_count
    int* cancels
    int join_cancel_count
    int* join_cancels

cdef struct Kind:  # a net of the specification
    int first
    int size
    bint implicit
    bint empty
    bint has_or_joins
    int timed_count
    int* timed

cdef struct Work:
    int does
    int task
    int net
    int case
    int child
    int generation
    bint granted
    bint live
    double since
    int before  # in the task's open work
    int behind
    int queue_before
    int queue_behind

cdef struct Activity:
    int claim
    int first
    int last
    int count
    int completed
    bint passed
    bint changed
    double enabled

cdef struct Running:
    PyObject* marking
    Activity* activities
    int room
    int kind
    int case
    int stands_for
    int depth
    bint alive
    bint touched
    bint visited
    bint may_end

cdef struct Case:
    int64_t number
    double start
    int batch
    bint ended
    int64_t pending
    int64_t steps
    int root
    int limit

cdef struct Pool:
    int64_t capacity
    int64_t busy
    int first
    int last
    int64_t queued
    double busy_area
    double queue_area
    double since
    int64_t most_busy
    int64_t most_queued

cdef struct Entry:
    double at
    int64_t order
    int work
    int generation

cdef struct Pair:
    int net
    int task

cdef struct Pairs:  # a queue of pairs
    Pair* items
    size_t begin
    size_t end
    size_t room

cdef struct Stream:
    uint64_t s0
    uint64_t s1
    uint64_t s2
    uint64_t s3


cdef inline uint64_t splitmix64(uint64_t* state) noexcept nogil:
    cdef uint64_t word
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    word = (state[0] ^ (state[0] >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    word = (word ^ (word >> 27)) * <uint64_t>0x94D049BB133111EB
    return word ^ (word >> 31)


cdef inline double unit(Stream* s) noexcept nogil:
    cdef uint64_t total = s.s0 + s.s3
    cdef uint64_t word = ((total << 23) | (total >> 41)) + s.s0
    cdef uint64_t shifted = s.s1 << 17
    s.s2 ^= s.s0
    s.s3 ^= s.s1
    s.s1 ^= s.s2
    s.s0 ^= s.s3
    s.s2 ^= shifted
    s.s3 = (s.s3 << 45) | (s.s3 >> 19)
    return <double>(word >> 11) * (1.0 / 9007199254740992.0)


cdef inline double exponential(Stream* s, double mean) noexcept nogil:
    return -log(1.0 - unit(s)) * mean


cdef double normal(Stream* s) noexcept nogil:
    cdef double radius = sqrt(-2.0 * log(1.0 - unit(s)))
    return radius * cos(2.0 * M_PI * unit(s))


cdef double triangular(Stream* s, double low, double mode, double high) noexcept nogil:
    cdef double share = unit(s), width = high - low
    if share * width < mode - low:
        return low + sqrt(share * width * (mode - low))
    return high - sqrt((1.0 - share) * width * (high - mode))


cdef double duration(Stream* s, const Shaped* of) noexcept nogil:
    cdef double drawn
    if of.shape == 0:
        return of.a
    if of.shape == 1:
        return exponential(s, of.a)
    if of.shape == 2:
        return of.a + (of.b - of.a) * unit(s)
    if of.shape == 3:
        return triangular(s, of.a, of.b, of.c)
    if of.shape == 4:
        drawn = of.a + of.b * normal(s)
        while drawn < 0.0:
            drawn = of.a + of.b * normal(s)
        return drawn
    if of.shape == 5:
        return exp(of.a + of.b * normal(s))
    return INFINITY


cdef int push(Pairs* q, int net, int task) except -1:
    cdef void* larger
    if q.end == q.room:
        larger = realloc(q.items, (2 * q.room + 64) * sizeof(Pair))
        if larger == NULL:
            raise MemoryError
        q.items = <Pair*>larger
        q.room = 2 * q.room + 64
    q.items[q.end].net = net
    q.items[q.end].task = task
    q.end += 1
    return 0


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


cdef class _World:
    cdef list kernels
    cdef list every_output  # by task
    cdef list single  # by task, by branch: the choice of this branch alone
    cdef Task* tasks
    cdef Kind* kinds
    cdef Pool* pools
    cdef int task_count, kind_count, pool_count
    cdef Work* works
    cdef int work_count, work_room, free_work
    cdef Running* nets
    cdef int net_count, net_room
    cdef Case* cases
    cdef int case_count, case_room
    cdef Pairs free_nets, free_cases, dead_nets, dead_cases
    cdef Pairs agenda, touched, visited, changed, doomed
    cdef Entry* heap
    cdef size_t heap_count, heap_room
    cdef Entry* ring
    cdef size_t ring_begin, ring_count, ring_room
    cdef Stream arrivals, draws
    cdef double now, interval, max_time
    cdef int64_t order, total, warm_up, started, ended, events, max_steps
    cdef int batches, next_mark, arrival, max_depth
    cdef object throughput_array, outcome_bytes, marks
    cdef double[::1] throughput
    cdef unsigned char[::1] outcomes
    cdef int64_t* executions
    cdef int64_t* aborted
    cdef int64_t* finished
    cdef double* delay
    cdef double* waiting
    cdef double* service
    cdef double* waiting_sums
    cdef int64_t* waiting_counts

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
        self.delay = <double*>calloc(count, sizeof(double))
        self.waiting = <double*>calloc(count, sizeof(double))
        self.service = <double*>calloc(count, sizeof(double))
        self.waiting_sums = <double*>calloc(count * <size_t>self.batches, sizeof(double))
        self.waiting_counts = <int64_t*>calloc(count * <size_t>self.batches, sizeof(int64_t))
        if (
            self.tasks == NULL or self.executions == NULL or self.aborted == NULL or self.finished == NULL
            or self.delay == NULL or self.waiting == NULL or self.service == NULL
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
            <size_t>self.aborted, <size_t>self.finished, <size_t>self.delay, <size_t>self.waiting,
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
        work.granted = False
        work.live = True
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

    # --- the clock ----------------------------------------------------------------------------------------------------

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
        cdef int net = w.net, task = w.task, case = w.case, does = w.does
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
            self._finish(net, task, work)
        elif does == QUEUED:
            self._serve(work, of)
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

    cdef int _touch(self, int net) except -1:
        if not self.nets[net].touched:
            self.nets[net].touched = True
            push(&self.touched, net, 0)
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
            else:
                self._unpend(work)
                self._give_back(work, &self.tasks[g])
            if measured and self.works[work].does != QUEUED:
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
        cdef int net, task, work
        while nets:
            net = nets.pop()
            for task in range(self.kinds[self.nets[net].kind].size):
                if self.nets[net].activities[task].claim == NEVER_COMES:
                    return self._end_case(case, WAITING)
                work = self.nets[net].activities[task].first
                while work >= 0:
                    nets.append(self.works[work].child)
                    work = self.works[work].behind
        return self._end_case(case, DEADLOCKED)

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
    return _World(plan, cases, warm_up, seed, batches, max_depth).run(progress)
