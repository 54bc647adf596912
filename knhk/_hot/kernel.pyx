# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
"""The token game, compiled: what `knhk._kernel` defines, on C arrays.

`knhk._kernel` is the definition, with the rules and the reasons; this file has the same functions in the same order, and does
the same looks in the same order, so that ``flips`` is the same list.  Property tests hold the two equal.  What differs:

- A `Net` is compiled once: a 64-byte line a task, and pools of numbers that the lines point into.
- A `Marking` is one bit a condition in one 64-bit word, while the net has at most 64 conditions and no weight above 1 and no
  condition holds two tokens.  When a second token is about to come, or where that never held, it is a 32-bit counter a
  condition.  A marking goes from the word to counters and, but for `restore`, not back; no caller can tell.
- Readiness is a bit a task with a summary above it, so that `ready` looks at what is ready, not at the whole net.
- The OR-join's two plain answers, no input marked and all inputs marked, are given here; the others by
  `OrJoinAnalysis.decide`, which both kernels share.
- ``tokens``, ``status``, ``seen`` and ``undecided`` are fresh copies.  ``flips`` is one list that stays.
- A number of a task or of an output that does not exist is an IndexError, negative ones included, before any change.  So are
  a snapshot that does not fit (ValueError) and a condition with more than 2**31 tokens (InternalError).

No function below the classes' methods raises, allocates, except for the list of flips, or touches a Python object.

SAFETY: the scratch space belongs to the net, which all its markings share.  Each method fills and empties it while it holds the
GIL and runs no Python code: arguments are plain integers before the scratch space is used, and flips are handed out before the
OR-join analysis runs.  The module does not say that it does without the GIL, so free-threaded Pythons keep it.
"""

cimport cython
from cpython.long cimport PyLong_CheckExact
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport realloc, free
from libc.string cimport memset

from operator import index

from knhk._orjoin import OrJoinAnalysis
from knhk.errors import InternalError

cdef extern from *:
    """
    #if defined(_MSC_VER)
    #include <intrin.h>
    static CYTHON_INLINE int knhk_lowest(unsigned __int64 word) {
        unsigned long position;
        _BitScanForward64(&position, word);
        return (int)position;
    }
    #define knhk_population(word) ((int)__popcnt64(word))
    #else
    #define knhk_lowest(word) __builtin_ctzll(word)
    #define knhk_population(word) __builtin_popcountll(word)
    #endif
    #define KNHK_ONE ((uint64_t)1)
    #define KNHK_MOST ((uint64_t)1 << 31)
    #define KNHK_NEVER ((uint32_t)0xFFFFFFFF)
    """
    uint64_t ONE "KNHK_ONE"
    uint64_t MOST "KNHK_MOST"  # tokens that one condition may hold
    uint32_t NEVER "KNHK_NEVER"  # stands for every weight above MOST: never there, never allowed
    int lowest "knhk_lowest"(uint64_t word) noexcept nogil
    int population "knhk_population"(uint64_t word) noexcept nogil

cdef extern from "Python.h":
    Py_ssize_t PyNumber_AsSsize_t(object number, PyObject* overflow) except? -1
    PyObject* PyExc_IndexError

COMPILED = True
"""Whether this kernel is the compiled one."""

cdef enum:
    IDLE = 0
    BUSY = 1
    DRAINING = 2

cdef enum:
    AND = 0
    XOR = 1
    OR = 2
    PARTIAL = 3

cdef enum:
    WAITING = 0
    ENABLED = 1
    UNDECIDED = 2
    OPEN = 3  # neither of the plain answers

cdef enum:  # flags of a task
    DETACHED = 1
    JOIN_CANCELS = 2
    CANCELS = 4
    CANCELS_ITSELF = 8

# --- a net ------------------------------------------------------------------------------------------------------------

cdef struct Span:  # from `begin` up to, without, `end` in a pool
    uint32_t begin
    uint32_t end

cdef struct Arc:
    uint32_t place
    uint32_t weight

cdef struct TaskLine:  # 64 bytes, one line of the cache
    uint64_t in_mask  # nets of up to 64 conditions only, as `read_mask`
    uint64_t read_mask
    Span inputs  # of arcs
    Span outputs  # of arcs
    Span reads  # of numbers, as all spans below
    Span affected  # the tasks to look at again when all inputs were taken, each once, in the order of the definition
    uint32_t required
    int32_t slot  # where a non-cancelling partial join remembers its round, or -1
    int32_t region  # what it cancels, or -1
    uint8_t join
    uint8_t flags

cdef struct Region:
    uint64_t mask
    Span conditions
    Span tasks
    Span join_conditions
    Span join_tasks

cdef struct PlaceLine:
    Span consumers
    Span swallowers
    uint32_t sink

cdef struct Slot:  # of a partial join: its words of one bit an input
    uint32_t task
    uint32_t words
    uint32_t inputs

cdef struct NetData:
    TaskLine* lines
    PlaceLine* places
    Arc* arcs
    uint32_t* numbers
    Region* regions
    Slot* slots
    uint64_t sinks
    uint32_t place_count
    uint32_t task_count
    uint32_t slot_count
    uint32_t seen_words
    uint32_t ready_words
    uint32_t top_words
    uint32_t swallowed_at_most  # by all partial joins in one step
    bint implicit
    bint fits_word
    # Scratch space of one step.
    uint32_t* touched
    size_t touched_room
    uint32_t* chosen
    size_t chosen_room
    int32_t* flips
    size_t flips_room
    size_t flip_count
    bint out_of_memory

# --- a marking --------------------------------------------------------------------------------------------------------

cdef struct Round:  # of a partial join
    uint32_t present  # whether ``seen`` has it
    uint32_t left  # how many inputs have not come

cdef struct State:
    uint64_t word  # the conditions, while `counts` is NULL
    uint32_t* counts
    uint64_t* ready
    uint64_t* top  # by word of `ready`, whether it is not 0
    uint64_t* seen
    Round* rounds
    uint8_t* status
    void* block
    int64_t busy
    int64_t live  # conditions that are marked and feed a task; while there are counts
    uint32_t seen_count
    bint dirty


cdef inline bint is_marked(const State* m, uint32_t place, uint32_t weight) noexcept nogil:
    if m.counts == NULL:
        return (m.word >> place) & 1
    return m.counts[place] >= weight


cdef inline void take_from(const NetData* net, State* m, uint32_t place, uint32_t weight) noexcept nogil:
    if m.counts == NULL:
        m.word &= ~(ONE << place)
        return
    m.counts[place] -= weight
    if m.counts[place] == 0 and not net.places[place].sink:
        m.live -= 1


cdef inline void put_on(const NetData* net, State* m, uint32_t place, uint32_t weight) noexcept nogil:
    if m.counts == NULL:
        m.word |= ONE << place
        return
    if m.counts[place] == 0 and not net.places[place].sink:
        m.live += 1
    m.counts[place] += weight


cdef inline bint in_round(const NetData* net, const State* m, int32_t slot) noexcept nogil:
    return slot >= 0 and m.rounds[slot].present and m.rounds[slot].left != net.slots[slot].inputs


cdef inline void forget(const NetData* net, State* m, uint32_t task) noexcept nogil:
    """What ``seen.pop(task, None)`` is in the definition."""
    cdef int32_t slot = net.lines[task].slot
    if slot >= 0 and m.rounds[slot].present:
        m.rounds[slot].present = 0
        m.seen_count -= 1


cdef inline bint reads_marked(const NetData* net, const State* m, const TaskLine* line) noexcept nogil:
    cdef uint32_t at
    if m.counts == NULL:
        return (m.word & line.read_mask) == line.read_mask
    for at in range(line.reads.begin, line.reads.end):
        if m.counts[net.numbers[at]] == 0:
            return False
    return True


cdef bint counts_satisfy(const NetData* net, const State* m, const TaskLine* line) noexcept nogil:
    cdef uint32_t at, marked
    if not reads_marked(net, m, line):
        return False
    if line.join == AND:
        for at in range(line.inputs.begin, line.inputs.end):
            if m.counts[net.arcs[at].place] < net.arcs[at].weight:
                return False
        return True
    if line.join != PARTIAL:
        for at in range(line.inputs.begin, line.inputs.end):
            if m.counts[net.arcs[at].place] >= net.arcs[at].weight:
                return True
        return False
    marked = 0
    for at in range(line.inputs.begin, line.inputs.end):
        marked += m.counts[net.arcs[at].place] >= net.arcs[at].weight
    return marked >= line.required and not in_round(net, m, line.slot)


cdef inline bint may_take(const NetData* net, const State* m, uint32_t task) noexcept nogil:
    cdef const TaskLine* line = &net.lines[task]
    cdef uint64_t marked
    if m.status[task] != IDLE:
        return False
    if m.counts != NULL:
        return counts_satisfy(net, m, line)
    if (m.word & line.read_mask) != line.read_mask:
        return False
    marked = m.word & line.in_mask
    if line.join == AND:
        return marked == line.in_mask
    if line.join != PARTIAL:
        return marked != 0
    return <uint32_t>population(marked) >= line.required and not in_round(net, m, line.slot)


cdef void push_flip(NetData* net, int32_t flip) noexcept nogil:
    cdef size_t room
    cdef void* larger
    if net.flip_count == net.flips_room:
        room = 2 * net.flips_room + 64
        larger = realloc(net.flips, room * sizeof(int32_t))
        if larger == NULL:
            net.out_of_memory = True
            return
        net.flips = <int32_t*>larger
        net.flips_room = room
    net.flips[net.flip_count] = flip
    net.flip_count += 1


cdef inline bint is_ready(const State* m, uint32_t task) noexcept nogil:
    return (m.ready[task >> 6] >> (task & 63)) & 1


cdef inline void set_ready(NetData* net, State* m, uint32_t task, bint ready) noexcept nogil:
    cdef uint32_t at = task >> 6
    if is_ready(m, task) == ready:
        return
    m.ready[at] ^= ONE << (task & 63)
    if ready:
        m.top[at >> 6] |= ONE << (at & 63)
        push_flip(net, <int32_t>task)
    else:
        if m.ready[at] == 0:
            m.top[at >> 6] &= ~(ONE << (at & 63))
        push_flip(net, ~<int32_t>task)


cdef inline void look(NetData* net, State* m, uint32_t task) noexcept nogil:
    cdef bint possible = may_take(net, m, task)
    if not possible or net.lines[task].join != OR:
        set_ready(net, m, task, possible)


cdef inline void look_at(NetData* net, State* m, Span tasks) noexcept nogil:
    cdef uint32_t at
    for at in range(tasks.begin, tasks.end):
        look(net, m, net.numbers[at])


cdef inline void look_after(NetData* net, State* m, size_t touched) noexcept nogil:
    cdef size_t each
    for each in range(touched):
        look_at(net, m, net.places[net.touched[each]].consumers)
    m.dirty = True


cdef inline void set_status(NetData* net, State* m, uint32_t task, uint8_t status) noexcept nogil:
    m.busy += <int64_t>(status != IDLE) - <int64_t>(m.status[task] != IDLE)
    m.status[task] = status
    look(net, m, task)


cdef size_t swallow(NetData* net, State* m, uint32_t task, size_t touched) noexcept nogil:
    """Add the conditions that a partial join in its round took from to the `touched` ones; return how many those are."""
    cdef const TaskLine* line = &net.lines[task]
    cdef Round* round_ = &m.rounds[line.slot]
    cdef uint64_t* seen = &m.seen[net.slots[line.slot].words]
    cdef uint32_t position
    cdef Arc arc
    if not in_round(net, m, line.slot):
        return touched
    for position in range(line.inputs.end - line.inputs.begin):
        if (seen[position >> 6] >> (position & 63)) & 1:
            continue
        arc = net.arcs[line.inputs.begin + position]
        if is_marked(m, arc.place, arc.weight):
            take_from(net, m, arc.place, arc.weight)
            seen[position >> 6] |= ONE << (position & 63)
            round_.left -= 1
            net.touched[touched] = arc.place
            touched += 1
    if round_.left == 0:
        forget(net, m, task)
        look(net, m, task)
    return touched


cdef void take_some(NetData* net, State* m, uint32_t task) noexcept nogil:
    """Consume as every join but the AND-join does."""
    cdef const TaskLine* line = &net.lines[task]
    cdef uint32_t inputs = line.inputs.end - line.inputs.begin
    cdef uint32_t position
    cdef size_t touched = 0
    cdef uint64_t* seen = NULL
    cdef Arc arc
    if line.slot >= 0:
        seen = &m.seen[net.slots[line.slot].words]
        memset(seen, 0, ((inputs + 63) >> 6) * sizeof(uint64_t))
    for position in range(inputs):
        arc = net.arcs[line.inputs.begin + position]
        if is_marked(m, arc.place, arc.weight):
            take_from(net, m, arc.place, arc.weight)
            net.touched[touched] = arc.place
            touched += 1
            if seen != NULL:
                seen[position >> 6] |= ONE << (position & 63)
            if line.join == XOR:
                break
    if seen != NULL and touched == inputs:
        memset(seen, 0, ((inputs + 63) >> 6) * sizeof(uint64_t))
    elif seen != NULL:
        m.seen_count += not m.rounds[line.slot].present
        m.rounds[line.slot].present = 1
        m.rounds[line.slot].left = inputs - <uint32_t>touched
    look_after(net, m, touched)


cdef inline void take(NetData* net, State* m, uint32_t task) noexcept nogil:
    """Consume the inputs of a task that may start as its join says."""
    cdef const TaskLine* line = &net.lines[task]
    cdef uint32_t at
    if line.join != AND:
        take_some(net, m, task)
        return
    if m.counts == NULL:
        m.word &= ~line.in_mask
    else:
        for at in range(line.inputs.begin, line.inputs.end):
            take_from(net, m, net.arcs[at].place, net.arcs[at].weight)
    look_at(net, m, line.affected)
    m.dirty = True


cdef void cancel(NetData* net, State* m, Span conditions, Span tasks, uint32_t keep) noexcept nogil:
    cdef size_t emptied = 0, each
    cdef uint32_t at, place, task
    for at in range(conditions.begin, conditions.end):
        place = net.numbers[at]
        if not is_marked(m, place, 1):
            continue
        take_from(net, m, place, 1 if m.counts == NULL else m.counts[place])
        net.touched[emptied] = place
        emptied += 1
    for at in range(tasks.begin, tasks.end):
        task = net.numbers[at]
        if task == keep:
            continue
        forget(net, m, task)
        if m.status[task] != IDLE:
            set_status(net, m, task, IDLE)
        look(net, m, task)
    look_after(net, m, emptied)


cdef inline void put(NetData* net, State* m, const Arc* outputs, size_t chosen) noexcept nogil:
    """Put a token on each chosen output: positions in ``net.chosen``."""
    cdef size_t each, touched = 0
    cdef Arc arc
    cdef Span swallowers
    cdef uint32_t at
    if m.seen_count == 0:
        for each in range(chosen):
            arc = outputs[net.chosen[each]]
            put_on(net, m, arc.place, arc.weight)
        for each in range(chosen):
            look_at(net, m, net.places[outputs[net.chosen[each]].place].consumers)
        m.dirty = True
        return
    for each in range(chosen):
        arc = outputs[net.chosen[each]]
        put_on(net, m, arc.place, arc.weight)
        net.touched[touched] = arc.place
        touched += 1
        swallowers = net.places[arc.place].swallowers
        for at in range(swallowers.begin, swallowers.end):
            if m.seen_count == 0:
                break
            touched = swallow(net, m, net.numbers[at], touched)
    look_after(net, m, touched)


cdef inline void pass_control(NetData* net, State* m, uint32_t task, size_t chosen, uint8_t status) noexcept nogil:
    cdef const TaskLine* line = &net.lines[task]
    cdef const Region* region
    if line.flags & CANCELS:
        region = &net.regions[line.region]
        cancel(net, m, region.conditions, region.tasks, task)
    if m.status[task] != status:
        set_status(net, m, task, status)
    if line.flags & CANCELS_ITSELF:
        forget(net, m, task)
    put(net, m, &net.arcs[line.outputs.begin], chosen)
    look(net, m, task)
    m.dirty = True


cdef int plain_answer(const NetData* net, const State* m, uint32_t task) noexcept nogil:
    """Decide an OR-join of which no input or every input is marked."""
    cdef const TaskLine* line = &net.lines[task]
    cdef uint64_t marked
    cdef uint32_t at, count = 0
    if m.status[task] != IDLE or not reads_marked(net, m, line):
        return WAITING
    if m.counts == NULL:
        marked = m.word & line.in_mask
        if marked == 0:
            return WAITING
        return ENABLED if marked == line.in_mask else OPEN
    for at in range(line.inputs.begin, line.inputs.end):
        count += m.counts[net.arcs[at].place] >= net.arcs[at].weight
    if count == 0:
        return WAITING
    return ENABLED if count == line.inputs.end - line.inputs.begin else OPEN


cdef int make_room(uint32_t** space, size_t* room, size_t wanted) except -1:
    cdef void* larger
    if wanted > room[0]:
        larger = realloc(space[0], 2 * wanted * sizeof(uint32_t))
        if larger == NULL:
            raise MemoryError
        space[0] = <uint32_t*>larger
        room[0] = 2 * wanted
    return 0


cdef int allocate(const NetData* net, State* m, bint counts) except -1:
    """Make an empty state; `m` holds nothing before."""
    cdef size_t words = net.ready_words + net.top_words + net.seen_words
    cdef size_t size = words * sizeof(uint64_t) + net.slot_count * sizeof(Round) + net.task_count
    cdef uint64_t* at
    memset(m, 0, sizeof(State))
    m.block = PyMem_Calloc(size + 1, 1)
    if m.block == NULL:
        raise MemoryError
    at = <uint64_t*>m.block
    m.ready = at
    m.top = at + net.ready_words
    m.seen = m.top + net.top_words
    m.rounds = <Round*>(m.seen + net.seen_words)
    m.status = <uint8_t*>(m.rounds + net.slot_count)
    if counts:
        m.counts = <uint32_t*>PyMem_Calloc(net.place_count + 1, sizeof(uint32_t))
        if m.counts == NULL:
            PyMem_Free(m.block)
            m.block = NULL
            raise MemoryError
    return 0


cdef int promote(const NetData* net, State* m) except -1:
    """Go from the word to counters."""
    cdef uint32_t place
    cdef uint32_t* counts = <uint32_t*>PyMem_Calloc(net.place_count + 1, sizeof(uint32_t))
    if counts == NULL:
        raise MemoryError
    for place in range(net.place_count):
        counts[place] = (m.word >> place) & 1
    m.live = population(m.word & ~net.sinks)
    m.counts = counts
    return 0


cdef int64_t weight_of(object weight) except -1:
    if weight < 1:
        raise InternalError(f"an arc moves {weight} tokens: at least 1 is allowed")
    return <int64_t>NEVER if weight > MOST else <int64_t>weight


cdef uint32_t number_of(object number, uint32_t count) except? 0xFFFFFFFF:
    if not 0 <= number < count:
        raise InternalError(f"the tables name number {number} of {count}")
    return <uint32_t>number


cdef class Net:
    """
    A net made ready for the kernel: its tables in C, and the OR-join analysis that all its instances share.

    Raises InternalError for tables that cannot be: numbers out of range, arcs without tokens, two arcs from one condition.
    """

    cdef readonly object tables
    cdef readonly object analysis
    cdef list _on  # by task, its number; built once, so that a flip and `ready` make no object
    cdef list _off  # by task, ~number
    cdef list _or_joins
    cdef list _pool  # while compiling: the numbers so far
    cdef void* _lines
    cdef NetData c

    def __cinit__(self, tables, *, or_join_budget=None):
        memset(&self.c, 0, sizeof(NetData))

    def __init__(self, tables, *, or_join_budget=None):
        if self._lines != NULL:
            raise InternalError("a net is made once")
        self._compile(tables)
        self.analysis = OrJoinAnalysis(tables) if or_join_budget is None else OrJoinAnalysis(tables, budget=or_join_budget)
        self.tables = tables

    def __dealloc__(self):
        PyMem_Free(self._lines)
        PyMem_Free(self.c.places)
        PyMem_Free(self.c.arcs)
        PyMem_Free(self.c.numbers)
        PyMem_Free(self.c.regions)
        PyMem_Free(self.c.slots)
        free(self.c.touched)
        free(self.c.chosen)
        free(self.c.flips)

    def marking(self):
        """Return a fresh instance: one token in the input condition."""
        return Marking(self)

    cdef int _compile(self, object tables) except -1:
        cdef uint32_t number, slot = 0, region = 0, words = 0
        cdef size_t longest = 0
        cdef size_t tasks = len(tables.table), places = len(tables.conditions)
        cdef uintptr_t address
        cdef bint safe = True
        cdef TaskLine* line
        cdef PlaceLine* place
        cdef list arcs = []
        self.c.task_count = <uint32_t>tasks
        self.c.place_count = <uint32_t>places
        self.c.implicit = tables.implicit
        self.c.ready_words = <uint32_t>((tasks + 63) >> 6)
        self.c.top_words = (self.c.ready_words + 63) >> 6
        self._on = list(range(<Py_ssize_t>tasks))
        self._off = [~each for each in self._on]
        self._pool = []
        swallowing = [t for t in tables.table if t.join == PARTIAL and not t.join_cancels]
        self.c.slot_count = <uint32_t>len(swallowing)
        self._lines = PyMem_Calloc(tasks + 1, sizeof(TaskLine))
        self.c.places = <PlaceLine*>PyMem_Calloc(places + 1, sizeof(PlaceLine))
        self.c.regions = <Region*>PyMem_Calloc(tasks + 1, sizeof(Region))
        self.c.slots = <Slot*>PyMem_Calloc(len(swallowing) + 1, sizeof(Slot))
        if self._lines == NULL or self.c.places == NULL or self.c.regions == NULL or self.c.slots == NULL:
            raise MemoryError
        address = (<uintptr_t>self._lines + 63) & ~<uintptr_t>63
        self.c.lines = <TaskLine*>address
        for number in range(self.c.task_count):
            task = tables.table[number]
            line = &self.c.lines[number]
            line.inputs = self._arcs(arcs, task.inputs)
            line.outputs = self._arcs(arcs, task.outputs)
            conditions = [c for c, _ in task.inputs]
            if len(set(conditions)) < len(conditions):
                raise InternalError(f"task {number} has two arcs from one condition")
            safe = safe and [weight for _, weight in (*task.inputs, *task.outputs) if weight != 1] == []
            line.reads = self._numbers(task.reads, self.c.place_count)
            line.affected = self._numbers(
                dict.fromkeys([t for c in conditions for t in tables.consumers[c]]), self.c.task_count
            )
            line.join = task.join
            line.required = <uint32_t>min(max(task.required, 0), <object>NEVER)
            line.slot = line.region = -1
            line.flags = (DETACHED if task.detached else 0) | (CANCELS_ITSELF if number in task.cancels_tasks else 0)
            if task.join == PARTIAL and not task.join_cancels:
                line.slot = <int32_t>slot
                self.c.slots[slot].task = number
                self.c.slots[slot].words = words
                self.c.slots[slot].inputs = line.inputs.end - line.inputs.begin
                self.c.swallowed_at_most += self.c.slots[slot].inputs
                words += (self.c.slots[slot].inputs + 63) >> 6
                slot += 1
            if task.join_cancels:
                line.flags |= JOIN_CANCELS
            if task.cancels_conditions or task.cancels_tasks:
                line.flags |= CANCELS
            if line.flags & (CANCELS | JOIN_CANCELS):
                line.region = <int32_t>region
                self.c.regions[region].conditions = self._numbers(task.cancels_conditions, self.c.place_count)
                self.c.regions[region].tasks = self._numbers(task.cancels_tasks, self.c.task_count)
                self.c.regions[region].join_conditions = self._numbers(task.join_cancels_conditions, self.c.place_count)
                self.c.regions[region].join_tasks = self._numbers(task.join_cancels_tasks, self.c.task_count)
                region += 1
            longest = max(
                longest,
                <size_t>len(conditions),
                <size_t>len(task.cancels_conditions),
                <size_t>len(task.join_cancels_conditions),
            )
        self.c.seen_words = words
        for number in range(self.c.place_count):
            place = &self.c.places[number]
            place.consumers = self._numbers(tables.consumers[number], self.c.task_count)
            place.swallowers = self._numbers(
                [t for t, _ in tables.swallowers[number] if self.c.lines[number_of(t, self.c.task_count)].slot >= 0],
                self.c.task_count,
            )
            place.sink = bool(tables.sinks[number])
        self._or_joins = [number_of(t, self.c.task_count) for t in tables.or_joins]
        self.c.numbers = <uint32_t*>PyMem_Malloc((len(self._pool) + 1) * sizeof(uint32_t))
        self.c.arcs = <Arc*>PyMem_Malloc((len(arcs) + 1) * sizeof(Arc))
        if self.c.numbers == NULL or self.c.arcs == NULL:
            raise MemoryError
        for number in range(<uint32_t>len(self._pool)):
            self.c.numbers[number] = self._pool[number]
        for number in range(<uint32_t>len(arcs)):
            self.c.arcs[number].place, self.c.arcs[number].weight = arcs[number]
        self._pool = None
        make_room(&self.c.touched, &self.c.touched_room, longest + 1)
        make_room(&self.c.chosen, &self.c.chosen_room, 16)
        self.c.fits_word = safe and places <= 64
        if self.c.fits_word:
            self._masks()
        return 0

    cdef int _masks(self) except -1:
        """Fill in what is needed for one bit a condition."""
        cdef uint32_t number, at
        cdef TaskLine* line
        cdef Region* region
        for number in range(self.c.task_count):
            line = &self.c.lines[number]
            for at in range(line.inputs.begin, line.inputs.end):
                line.in_mask |= ONE << self.c.arcs[at].place
            for at in range(line.reads.begin, line.reads.end):
                line.read_mask |= ONE << self.c.numbers[at]
            if line.region >= 0:
                region = &self.c.regions[line.region]
                for at in range(region.conditions.begin, region.conditions.end):
                    region.mask |= ONE << self.c.numbers[at]
        for number in range(self.c.place_count):
            if self.c.places[number].sink:
                self.c.sinks |= ONE << number
        return 0

    cdef Span _numbers(self, object numbers, uint32_t count) except *:
        cdef Span span
        span.begin = <uint32_t>len(self._pool)
        for each in numbers:
            self._pool.append(number_of(each, count))
        span.end = <uint32_t>len(self._pool)
        return span

    cdef Span _arcs(self, list arcs, object wanted) except *:
        cdef Span span
        cdef object number
        span.begin = <uint32_t>len(arcs)
        for place, weight in wanted:
            number = number_of(place, self.c.place_count)
            arcs.append((number, weight_of(weight)))
        span.end = <uint32_t>len(arcs)
        return span


@cython.final
cdef class Marking:
    """
    The state of one net instance; its attributes and methods are those of `knhk._kernel.Marking`.

    ``tokens``, ``status``, ``seen`` and ``undecided`` are copies: change a marking by its methods.
    """

    cdef readonly Net net
    cdef readonly list flips
    cdef set _undecided
    cdef NetData* of
    cdef State c

    def __cinit__(self, Net net not None):
        if net.tables is None:
            raise InternalError("the net was not made")
        if net.c.place_count == 0:
            raise IndexError("the net has no input condition")
        self.net = net
        self.of = &net.c
        self.flips = []
        allocate(self.of, &self.c, not self.of.fits_word)
        put_on(self.of, &self.c, 0, 1)
        look_at(self.of, &self.c, self.of.places[0].consumers)
        self.c.dirty = True
        self._hand_out_flips()

    def __dealloc__(self):
        PyMem_Free(self.c.counts)
        PyMem_Free(self.c.block)

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def tokens(self):
        """By condition, how many tokens it holds."""
        cdef uint32_t place
        if self.c.counts == NULL:
            return [<int>((self.c.word >> place) & 1) for place in range(self.of.place_count)]
        return [self.c.counts[place] for place in range(self.of.place_count)]

    @property
    def status(self):
        """By task, 0 idle, 1 busy, 2 draining."""
        cdef uint32_t task
        return [<int>self.c.status[task] for task in range(self.of.task_count)]

    @property
    def seen(self):
        """By partial join in the middle of a round, the bit mask of input positions that have come."""
        cdef uint32_t slot
        cdef dict seen = {}
        if self.c.seen_count:
            for slot in range(self.of.slot_count):
                if self.c.rounds[slot].present:
                    seen[self.of.slots[slot].task] = self._mask(slot)
        return seen

    @property
    def undecided(self):
        """OR-joins whose search met its budget; they count as not ready."""
        return set(self._undecided) if self._undecided else set()

    def is_ready(self, task):
        """Whether the task is idle, its join satisfied and its reads marked, as of the last `settle` for OR-joins."""
        cdef Py_ssize_t number = PyNumber_AsSsize_t(task, NULL)
        return 0 <= number < self.of.task_count and is_ready(&self.c, <uint32_t>number)

    def ready(self):
        """Return the ready tasks, ascending."""
        cdef list ready = []
        cdef uint32_t top, at
        cdef uint64_t tops, word
        for top in range(self.of.top_words):
            tops = self.c.top[top]
            while tops:
                at = (top << 6) + lowest(tops)
                tops &= tops - 1
                word = self.c.ready[at]
                while word:
                    ready.append(self.net._on[(at << 6) + lowest(word)])
                    word &= word - 1
        return ready

    def anything_busy(self):
        """Whether some task holds its thread of control."""
        return self.c.busy > 0

    def has_ended(self):
        """Whether the net has ended (rule 8), as `knhk._kernel` defines it."""
        if self.of.implicit:
            if self.c.busy:
                return False
            return (self.c.word & ~self.of.sinks) == 0 if self.c.counts == NULL else self.c.live == 0
        if self.of.place_count < 2:
            raise IndexError("the net has no output condition")
        return is_marked(&self.c, 1, 1)

    def threads(self, task):
        """Return how many threads of control wait at the task now, as `knhk._kernel` defines it."""
        cdef uint32_t number = self._number(task)
        cdef const TaskLine* line = &self.of.lines[number]
        cdef uint64_t threads = 0, possible
        cdef uint32_t at
        if not reads_marked(self.of, &self.c, line):
            return 0
        if line.join != AND and line.join != XOR:
            return 1 if is_ready(&self.c, number) else 0
        if line.join == AND:
            if line.inputs.begin == line.inputs.end:
                raise ValueError(f"task {number} has no inputs")
            threads = ~<uint64_t>0
        for at in range(line.inputs.begin, line.inputs.end):
            if self.c.counts == NULL:
                possible = (self.c.word >> self.of.arcs[at].place) & 1
            else:
                possible = self.c.counts[self.of.arcs[at].place] // self.of.arcs[at].weight
            if line.join == XOR:
                threads += possible
            elif possible < threads:
                threads = possible
        return threads

    # --- moving -------------------------------------------------------------------------------------------------------

    def start(self, task):
        """Take the input tokens; the task becomes busy, except a detached one, whose caller passes control at once."""
        cdef uint32_t number = self._number(task)
        cdef const TaskLine* line = &self.of.lines[number]
        if not may_take(self.of, &self.c, number):
            raise InternalError(f"task {task} cannot start: it is not enabled")
        take(self.of, &self.c, number)
        if not line.flags & DETACHED:
            set_status(self.of, &self.c, number, BUSY)
        if line.flags & JOIN_CANCELS:
            cancel(
                self.of,
                &self.c,
                self.of.regions[line.region].join_conditions,
                self.of.regions[line.region].join_tasks,
                number,
            )
        self._hand_out_flips()

    def complete(self, task, chosen):
        """Cancel the region, release the task and put a token on each chosen output (positions in ``outputs``)."""
        cdef uint32_t number = self._number(task)
        if self.c.status[number] != BUSY:
            raise InternalError(f"task {task} cannot complete: its status is {self.c.status[number]}")
        self._pass_control(number, chosen, IDLE)

    def pass_on(self, task, chosen):
        """Pass control while instances run on: a busy task becomes draining, a detached one stays idle (rule 6)."""
        cdef uint32_t number = self._number(task)
        if self.of.lines[number].flags & DETACHED:
            self._pass_control(number, chosen, IDLE)
        elif self.c.status[number] == BUSY:
            self._pass_control(number, chosen, DRAINING)
        else:
            raise InternalError(f"task {task} cannot pass control: its status is {self.c.status[number]}")

    def release(self, task):
        """Make a busy or draining task idle without output: its thread of control is gone; a partial join resets."""
        cdef uint32_t number = self._number(task)
        if self.c.status[number] == IDLE:
            raise InternalError(f"task {task} cannot be released: it is idle")
        set_status(self.of, &self.c, number, IDLE)
        self._end_round(number)

    def withdraw(self, task):
        """Take the tokens of a ready task without starting it: its thread of control is gone."""
        cdef uint32_t number = self._number(task)
        if not may_take(self.of, &self.c, number):
            raise InternalError(f"task {task} cannot start: it is not enabled")
        take(self.of, &self.c, number)
        self._end_round(number)

    def settle(self):
        """Look again at the OR-joins, if anything changed since the last time."""
        cdef uint32_t number
        cdef int answer
        cdef list tokens = None, status = None
        cdef dict seen = None
        if not self.c.dirty:
            return
        self.c.dirty = False
        for task in self.net._or_joins:
            number = task
            answer = plain_answer(self.of, &self.c, number)
            if answer == OPEN:
                if tokens is None:
                    tokens, status, seen = self.tokens, self.status, self.seen
                answer = self.net.analysis.decide(task, tokens, status, seen)
            if answer == UNDECIDED:
                if self._undecided is None:
                    self._undecided = set()
                self._undecided.add(task)
            elif self._undecided:
                self._undecided.discard(task)
            set_ready(self.of, &self.c, number, answer == ENABLED)
            self._hand_out_flips()

    def restore(self, tokens, status, seen):
        """Become the state that a snapshot recorded; ``flips`` is left empty."""
        cdef State fresh
        cdef list counts = list(map(index, tokens)), states = list(map(index, status))
        cdef uint32_t number, count
        cdef Py_ssize_t at
        cdef bint unsafe
        self._check_tokens(counts)
        self._check_status(states)
        masks = self._checked_seen(seen)
        unsafe = counts and max(counts) > 1
        unsafe = unsafe or not self.of.fits_word
        allocate(self.of, &fresh, unsafe)
        for number in range(self.of.place_count):
            count = counts[number]
            if count:
                put_on(self.of, &fresh, number, count)
        for number in range(self.of.task_count):
            fresh.status[number] = states[number]
            fresh.busy += fresh.status[number] != IDLE
        for slot, mask in masks:
            number = slot
            fresh.rounds[number].present = 1
            fresh.rounds[number].left = self.of.slots[number].inputs - <uint32_t>mask.bit_count()
            fresh.seen_count += 1
            for at in range((mask.bit_length() + 63) // 64):
                fresh.seen[self.of.slots[number].words + <uint32_t>at] = (mask >> 64 * at) & 0xFFFFFFFFFFFFFFFF
        PyMem_Free(self.c.counts)
        PyMem_Free(self.c.block)
        self.c = fresh
        self._undecided = None
        self.c.dirty = True
        for number in range(self.of.task_count):
            look(self.of, &self.c, number)
        self.of.flip_count = 0
        self.of.out_of_memory = False
        self.settle()
        self.flips.clear()

    # --- inside -------------------------------------------------------------------------------------------------------

    cdef inline uint32_t _number(self, object task) except? 0xFFFFFFFF:
        cdef Py_ssize_t number = PyNumber_AsSsize_t(task, PyExc_IndexError)
        if not 0 <= number < self.of.task_count:
            raise IndexError(f"there is no task {task}: the net has {self.of.task_count}")
        return <uint32_t>number

    cdef inline int _hand_out_flips(self) except -1:
        cdef size_t each, count = self.of.flip_count
        cdef int32_t flip
        if count == 0:
            return 0
        self.of.flip_count = 0
        for each in range(count):
            flip = self.of.flips[each]
            self.flips.append(self.net._on[flip] if flip >= 0 else self.net._off[~flip])
        if self.of.out_of_memory:
            self.of.out_of_memory = False
            raise MemoryError
        return 0

    cdef int _end_round(self, uint32_t number) except -1:
        forget(self.of, &self.c, number)
        look(self.of, &self.c, number)
        self.c.dirty = True
        return self._hand_out_flips()

    cdef inline int _pass_control(self, uint32_t number, object chosen, uint8_t status) except -1:
        cdef Py_ssize_t count = self._choose(number, chosen)
        cdef int64_t full
        if self.c.counts == NULL:
            if self._comes_twice(number, count):
                promote(self.of, &self.c)
        else:
            full = self._too_full(number, count)
            if full >= 0:
                raise InternalError(f"condition {full} would hold more than {MOST} tokens")
        if self.c.seen_count:
            make_room(&self.of.touched, &self.of.touched_room, <size_t>count + self.of.swallowed_at_most)
        pass_control(self.of, &self.c, number, <size_t>count, status)
        return self._hand_out_flips()

    cdef inline Py_ssize_t _choose(self, uint32_t number, object chosen) except -1:
        """Read the positions into the scratch space; no Python code runs once that has begun."""
        cdef const TaskLine* line = &self.of.lines[number]
        cdef Py_ssize_t outputs = line.outputs.end - line.outputs.begin
        cdef Py_ssize_t each, position, count
        cdef tuple positions
        if type(chosen) is tuple:
            positions = <tuple>chosen
        else:
            positions = tuple(chosen)
        for item in positions:
            if not PyLong_CheckExact(item):
                positions = tuple([index(each_item) for each_item in positions])
                break
        count = len(positions)
        make_room(&self.of.chosen, &self.of.chosen_room, <size_t>count)
        for each in range(count):
            position = PyNumber_AsSsize_t(positions[each], PyExc_IndexError)
            if not 0 <= position < outputs:
                raise IndexError(f"task {number} has no output {position}: it has {outputs}")
            self.of.chosen[each] = <uint32_t>position
        return count

    cdef inline bint _comes_twice(self, uint32_t number, Py_ssize_t count) noexcept nogil:
        """Whether a condition would hold two tokens, though perhaps only until one is swallowed."""
        cdef const TaskLine* line = &self.of.lines[number]
        cdef const Arc* outputs = &self.of.arcs[line.outputs.begin]
        cdef uint64_t word = self.c.word, bit
        cdef Py_ssize_t each
        if line.flags & CANCELS:
            word &= ~self.of.regions[line.region].mask
        for each in range(count):
            bit = ONE << outputs[self.of.chosen[each]].place
            if word & bit:
                return True
            word |= bit
        return False

    cdef int64_t _too_full(self, uint32_t number, Py_ssize_t count) noexcept nogil:
        """Return the first condition that would hold more tokens than are counted, or -1."""
        cdef const TaskLine* line = &self.of.lines[number]
        cdef const Arc* outputs = &self.of.arcs[line.outputs.begin]
        cdef uint64_t total = 0, most = 0, held
        cdef Py_ssize_t each, other
        cdef uint32_t place
        for each in range(count):
            total += outputs[self.of.chosen[each]].weight
            most = max(most, self.c.counts[outputs[self.of.chosen[each]].place])
        if total + most <= MOST:
            return -1
        for each in range(count):
            place = outputs[self.of.chosen[each]].place
            held = 0 if self._empties(line, place) else self.c.counts[place]
            for other in range(each + 1):
                if outputs[self.of.chosen[other]].place == place:
                    held += outputs[self.of.chosen[other]].weight
            if held > MOST:
                return place
        return -1

    cdef bint _empties(self, const TaskLine* line, uint32_t place) noexcept nogil:
        cdef uint32_t at
        if line.flags & CANCELS:
            for at in range(self.of.regions[line.region].conditions.begin, self.of.regions[line.region].conditions.end):
                if self.of.numbers[at] == place:
                    return True
        return False

    cdef object _mask(self, uint32_t slot):
        cdef uint32_t word
        mask = 0
        for word in range((self.of.slots[slot].inputs + 63) >> 6):
            mask |= <object>self.c.seen[self.of.slots[slot].words + word] << 64 * word
        return mask

    cdef int _check_tokens(self, list counts) except -1:
        if len(counts) != self.of.place_count:
            raise ValueError(f"tokens of {len(counts)} conditions do not fit a net of {self.of.place_count}")
        for place, count in enumerate(counts):
            if count < 0:
                raise ValueError(f"condition {place} cannot hold {count} tokens")
            if count > MOST:
                raise InternalError(f"condition {place} would hold more than {MOST} tokens")
        return 0

    cdef int _check_status(self, list states) except -1:
        if len(states) != self.of.task_count:
            raise ValueError(f"the status of {len(states)} tasks does not fit a net of {self.of.task_count}")
        for task, state in enumerate(states):
            if not IDLE <= state <= DRAINING:
                raise ValueError(f"task {task} cannot have status {state}")
        return 0

    cdef list _checked_seen(self, object seen):
        """Return slots with their masks; raise if one cannot be."""
        cdef list masks = []
        cdef int32_t slot
        for task, mask in dict(seen).items():
            mask = index(mask)
            slot = self.of.lines[self._number(task)].slot
            if slot < 0 or mask < 0 or mask.bit_length() > self.of.slots[slot].inputs:
                raise ValueError(f"task {task} cannot have seen {mask}")
            masks.append((slot, mask))
        return masks
