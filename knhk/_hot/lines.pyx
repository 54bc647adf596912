# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
"""A net, compiled: from `knhk._tables` to the lines of `knhk._hot.layout`, once."""

from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memset

from knhk._hot.layout cimport (
    CANCELS, CANCELS_ITSELF, DETACHED, JOIN_CANCELS, MOST, NEVER, ONE, PARTIAL, READS, UNORDERED, XOR,
    Arc, InputView, NetData, OrView, Piece, PlaceLine, Region, Slot, Span, TaskLine, WordLine, WordRegion,
)
from knhk._hot.orjoin import Backward, decision
from knhk._orjoin import DEFAULT_BUDGET, OrJoinAnalysis
from knhk.errors import InternalError


cdef void* lines_of(size_t count, size_t size, void** block) except NULL:
    """Return room for lines that begin at a line of the cache, and the block that has them."""
    block[0] = PyMem_Calloc(count + 1, size)
    if block[0] == NULL:
        raise MemoryError
    return <void*>((<uintptr_t>block[0] + 63) & ~<uintptr_t>63)


cdef int64_t weight_of(object weight) except -1:
    if weight < 1:
        raise InternalError(f"an arc moves {weight} tokens: at least 1 is allowed")
    return <int64_t>NEVER if weight > MOST else <int64_t>weight


cdef uint32_t number_of(object number, uint32_t count) except? 0xFFFFFFFF:
    if not 0 <= number < count:
        raise InternalError(f"the tables name number {number} of {count}")
    return <uint32_t>number


cdef Span span_of(list pool, object numbers, uint32_t count) except *:
    """Append the numbers to the pool."""
    cdef Span span
    span.begin = <uint32_t>len(pool)
    for each in numbers:
        pool.append(number_of(each, count))
    span.end = <uint32_t>len(pool)
    return span


cdef Span arcs_of(list pool, object arcs, uint32_t count) except *:
    """Append the arcs to the pool."""
    cdef Span span
    span.begin = <uint32_t>len(pool)
    for place, weight in arcs:
        pool.append((<object>number_of(place, count), weight_of(weight)))
    span.end = <uint32_t>len(pool)
    return span


cdef class Lines:
    """
    A net as lines of C, beside its tables, and the OR-join analysis that all its instances share.

    Raises InternalError for tables that cannot be: numbers out of range, arcs without tokens, two arcs from one condition.
    """

    def __cinit__(self, tables, *, or_join_budget=None):
        memset(&self.c, 0, sizeof(NetData))

    def __init__(self, tables, *, or_join_budget=None):
        if self._lines != NULL:
            raise InternalError("a net is made once")
        self._compile(tables)
        budget = DEFAULT_BUDGET if or_join_budget is None else or_join_budget
        self.analysis = OrJoinAnalysis(tables, budget=budget, searching=Backward, deciding=decision)
        self.tables = tables

    def __dealloc__(self):
        cdef uint32_t each
        if self.c.or_joins != NULL:
            for each in range(self.c.or_count):
                PyMem_Free(self.c.or_joins[each].keys)
                PyMem_Free(self.c.or_joins[each].answers)
        PyMem_Free(self._lines)
        PyMem_Free(self._words)
        PyMem_Free(self.c.word_regions)
        PyMem_Free(self.c.places)
        PyMem_Free(self.c.arcs)
        PyMem_Free(self.c.numbers)
        PyMem_Free(self.c.regions)
        PyMem_Free(self.c.slots)
        PyMem_Free(self.c.or_joins)
        PyMem_Free(self.c.inputs)
        PyMem_Free(self.c.pieces)
        free(self.c.touched)
        free(self.c.chosen)

    cdef int _compile(self, object tables) except -1:
        cdef uint32_t number
        cdef size_t tasks = len(tables.table), places = len(tables.conditions)
        cdef PlaceLine* place
        cdef list arcs = []
        self.c.task_count = <uint32_t>tasks
        self.c.place_count = <uint32_t>places
        self.c.implicit = tables.implicit
        self.c.ready_words = <uint32_t>((tasks + 63) >> 6)
        self.c.top_words = (self.c.ready_words + 63) >> 6
        self.c.held_words = <uint32_t>((places + tasks + 63) >> 6)
        self.c.fits_word = places + tasks <= 64
        self._on = list(range(<Py_ssize_t>tasks))
        self._off = [~each for each in self._on]
        self._pool = []
        self.c.lines = <TaskLine*>lines_of(tasks, sizeof(TaskLine), &self._lines)
        self.c.places = <PlaceLine*>PyMem_Calloc(places + 1, sizeof(PlaceLine))
        self.c.regions = <Region*>PyMem_Calloc(tasks + 1, sizeof(Region))
        self.c.slots = <Slot*>PyMem_Calloc(tasks + 1, sizeof(Slot))
        if self.c.places == NULL or self.c.regions == NULL or self.c.slots == NULL:
            raise MemoryError
        make_room(&self.c.touched, &self.c.touched_room, 16)
        make_room(&self.c.chosen, &self.c.chosen_room, 16)
        for number in range(self.c.task_count):
            self._compile_task(tables, number, arcs)
        for number in range(self.c.place_count):
            place = &self.c.places[number]
            place.consumers = span_of(self._pool, tables.consumers[number], self.c.task_count)
            place.swallowers = span_of(
                self._pool,
                [t for t, _ in tables.swallowers[number] if self.c.lines[number_of(t, self.c.task_count)].slot >= 0],
                self.c.task_count,
            )
            place.sink = bool(tables.sinks[number])
        self.c.or_count = <uint32_t>len(tables.or_joins)
        self.c.or_joins = <OrView*>PyMem_Calloc(self.c.or_count + 1, sizeof(OrView))
        self.c.numbers = <uint32_t*>PyMem_Malloc((len(self._pool) + 1) * sizeof(uint32_t))
        self.c.arcs = <Arc*>PyMem_Malloc((len(arcs) + 1) * sizeof(Arc))
        if self.c.or_joins == NULL or self.c.numbers == NULL or self.c.arcs == NULL:
            raise MemoryError
        for number in range(self.c.or_count):
            self.c.or_joins[number].task = number_of(tables.or_joins[number], self.c.task_count)
        for number in range(<uint32_t>len(self._pool)):
            self.c.numbers[number] = self._pool[number]
        for number in range(<uint32_t>len(arcs)):
            self.c.arcs[number].place, self.c.arcs[number].weight = arcs[number]
        self._pool = None
        if self.c.fits_word:
            self._compile_words()
        return 0

    cdef int _compile_task(self, object tables, uint32_t number, list arcs) except -1:
        cdef object task = tables.table[number]
        cdef TaskLine* line = &self.c.lines[number]
        cdef Region* region = &self.c.regions[number]
        cdef Slot* slot
        conditions = [c for c, _ in task.inputs]
        if len(set(conditions)) < len(conditions):
            raise InternalError(f"task {number} has two arcs from one condition")
        line.inputs = arcs_of(arcs, task.inputs, self.c.place_count)
        line.outputs = arcs_of(arcs, task.outputs, self.c.place_count)
        line.reads = span_of(self._pool, task.reads, self.c.place_count)
        affected = dict.fromkeys([t for c in conditions for t in tables.consumers[c]])
        line.affected = span_of(self._pool, affected, self.c.task_count)
        line.join = task.join
        line.split = task.split
        line.required = <uint32_t>min(max(task.required, 0), <object>NEVER)
        line.slot = line.region = -1
        line.flags = (DETACHED if task.detached else 0) | (CANCELS_ITSELF if number in task.cancels_tasks else 0)
        if task.join == PARTIAL and not task.join_cancels:
            line.slot = <int32_t>self.c.slot_count
            slot = &self.c.slots[self.c.slot_count]
            slot.task = number
            slot.words = self.c.seen_words
            slot.inputs = line.inputs.end - line.inputs.begin
            self.c.slot_count += 1
            self.c.seen_words += (slot.inputs + 63) >> 6
            self.c.swallowed_at_most += slot.inputs
        line.flags |= READS if task.reads else 0
        line.flags |= JOIN_CANCELS if task.join_cancels else 0
        line.flags |= CANCELS if task.cancels_conditions or task.cancels_tasks else 0
        line.flags |= UNORDERED if task.join == XOR and sorted(conditions) != conditions else 0
        if line.flags & (CANCELS | JOIN_CANCELS):
            line.region = <int32_t>number
            region.conditions = span_of(self._pool, task.cancels_conditions, self.c.place_count)
            region.tasks = span_of(self._pool, task.cancels_tasks, self.c.task_count)
            region.join_conditions = span_of(self._pool, task.join_cancels_conditions, self.c.place_count)
            region.join_tasks = span_of(self._pool, task.join_cancels_tasks, self.c.task_count)
        longest = max(len(conditions), len(task.cancels_conditions), len(task.join_cancels_conditions))
        make_room(&self.c.touched, &self.c.touched_room, <size_t>longest + 1)
        weights = [weight for _, weight in (*task.inputs, *task.outputs) if weight != 1]
        if weights or line.slot >= 0 or task.continues:
            self.c.fits_word = False
        return 0

    cdef int _compile_words(self) except -1:
        cdef uint32_t number, at, places = self.c.place_count
        cdef TaskLine* line
        cdef WordLine* word
        cdef WordRegion* looks
        cdef Region* region
        cdef uint64_t own
        self.c.words = <WordLine*>lines_of(self.c.task_count, sizeof(WordLine), &self._words)
        self.c.word_regions = <WordRegion*>PyMem_Calloc(self.c.task_count + 1, sizeof(WordRegion))
        if self.c.word_regions == NULL:
            raise MemoryError
        for number in range(places):
            if self.c.places[number].sink:
                self.c.sinks |= ONE << number
        for number in range(self.c.task_count):
            line, word, looks = &self.c.lines[number], &self.c.words[number], &self.c.word_regions[number]
            own = ONE << number
            word.busy = ONE << (places + number)
            self.c.running |= word.busy
            for at in range(line.inputs.begin, line.inputs.end):
                word.inputs |= ONE << self.c.arcs[at].place
            for at in range(line.outputs.begin, line.outputs.end):
                word.outputs |= ONE << self.c.arcs[at].place
            word.reads = bits_of(&self.c, line.reads, 0)
            word.rivals = consumers_of(&self.c, word.inputs) & ~own
            word.fed = consumers_of(&self.c, word.outputs) | own
            word.join, word.split, word.flags = line.join, line.split, line.flags
            word.required = <uint8_t>min(line.required, 255)
            if line.region < 0:
                continue
            region = &self.c.regions[line.region]
            word.cancels = bits_of(&self.c, region.conditions, 0)
            looks.looks = consumers_of(&self.c, word.cancels) | bits_of(&self.c, region.tasks, 0)
            word.cancels |= bits_of(&self.c, region.tasks, places) & ~word.busy
            looks.join_cancels = bits_of(&self.c, region.join_conditions, 0)
            looks.join_looks = consumers_of(&self.c, looks.join_cancels) | bits_of(&self.c, region.join_tasks, 0)
            looks.join_cancels |= bits_of(&self.c, region.join_tasks, places) & ~word.busy
        return 0

    cdef int _compile_views(self) except -1:
        """Ask the analysis for what the cheap answers need; only once an OR-join is to be decided."""
        cdef OrView* view
        cdef InputView* put
        cdef uint32_t each, at
        cdef list pieces = [], inputs = []
        for each in range(self.c.or_count):
            view = &self.c.or_joins[each]
            view.inputs.begin = <uint32_t>len(inputs)
            tiers = self.analysis.tiers(view.task)
            for (place, weight), upstream, escorts in tiers:
                spans = []
                for bits in (upstream, escorts):
                    begin = len(pieces)
                    for number in range(self.c.held_words):
                        mask = (bits >> 64 * number) & 0xFFFFFFFFFFFFFFFF
                        if mask:
                            pieces.append((number, mask))
                    spans.append((begin, len(pieces)))
                inputs.append((place, weight_of(weight), *spans))
            view.inputs.end = <uint32_t>len(inputs)
        self.c.pieces = <Piece*>PyMem_Malloc((len(pieces) + 1) * sizeof(Piece))
        self.c.inputs = <InputView*>PyMem_Malloc((len(inputs) + 1) * sizeof(InputView))
        if self.c.pieces == NULL or self.c.inputs == NULL:
            raise MemoryError
        for each in range(<uint32_t>len(pieces)):
            self.c.pieces[each].at, self.c.pieces[each].mask = pieces[each]
        for each in range(<uint32_t>len(inputs)):
            put = &self.c.inputs[each]
            place, weight, upstream, escorts = inputs[each]
            put.place, put.weight = place, weight
            put.upstream.begin, put.upstream.end = upstream
            put.escorts.begin, put.escorts.end = escorts
        self.c.viewed = True
        return 0
