# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The world of a simulation as lines of C: tasks, work, running nets, cases, resources, and what is to come."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport realloc

from knhk._hot.draws cimport Shaped, Stream

cdef enum:
    COMPLETED = 0
    DEADLOCKED = 1
    WAITING = 2
    CUT_OFF = 3
    FAILED = 4

cdef enum:  # what work does
    WAIT = 0
    TIMER = 1
    REQUEST = 2
    QUEUED = 3
    SERVICE = 4
    SUBNET = 5
    LIMIT = 6
    RETRY = 7
    LOST = 8

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
    int ways  # to fail
    double* failing_bounds
    int* errors
    int* attempts
    double pause
    double coefficient
    double longest
    double jitter
    double within
    bint catches_any
    int* catches

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
    int attempt
    bint granted
    bint live
    bint lost
    double first
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


cdef inline int push(Pairs* q, int net, int task) except -1:
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


cdef class World:
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
    cdef int64_t* failed
    cdef double* delay
    cdef double* waiting
    cdef double* service
    cdef double* waiting_sums
    cdef int64_t* waiting_counts

    cdef int _new_work(self, int does, int case, int net, int task) except -1
    cdef void _free_work(self, int number) noexcept
    cdef int _open_net(self, int kind, int case, int stands_for, int depth) except -1
    cdef int _new_case(self, double start, int batch) except -1
    cdef bint _earlier(self, const Entry* one, const Entry* other) noexcept
    cdef int _schedule(self, double delay, int work) except -1
    cdef Entry _pop(self) noexcept
    cdef int _at_once(self, int work) except -1
    cdef int _mark(self) except -1
    cdef void _account(self, Pool* pool) noexcept
    cdef int _request(self, int work, const Task* of) except -1
    cdef int _grant(self, Pool* pool, int work) except -1
    cdef void _leave_queue(self, Pool* pool, int work) noexcept
    cdef int _give_back(self, int work, const Task* of) except -1
    cdef int _serve(self, int work, const Task* of) except -1
    cdef void _measure_delay(self, int net, int task) noexcept
    cdef void _unpend(self, int work) noexcept
    cdef int _touch(self, int net) except -1
    cdef int _read_nets(self, object plan) except -1
    cdef int _read_tasks(self, object plan) except -1
