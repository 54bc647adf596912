# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
"""The states of a net, compiled: what `knhk.analysis._space.ReferenceExplorer` defines, on packed words.

Here a relation becomes the numbers of a `Space` (`knhk._hot.space` says what a state is), and numbers become what Python sees.
The rest has rooms of its own: `knhk._hot.search` goes from state to state, with the moves of `knhk._hot.masks` or
`knhk._hot.general`, and `knhk._hot.states` keeps what is found.

OR-joins of which some inputs are marked and some not are asked of the caller (`OrJoinAnalysis.decide`, which remembers).

What is between `run` and Python objects releases the GIL; a caller that shares an explorer between threads must lock it.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from knhk._hot.layout cimport BUSY, DRAINING, IDLE, PARTIAL, UNDECIDED, Arc, Span
from knhk._hot.search cimport first_doomed, search
from knhk._hot.space cimport (
    ASK, CANCELS_ITSELF, COMPLETES_AT_ONCE, DETACHED, DRAINS, FUSED, JOIN_CANCELS, MEMORY, MOST, NO_STATE, STARTS_AT_ONCE,
    Masked, Space, Task,
)
from knhk._hot.states cimport find, hash_of


cdef void* room_for(size_t count, size_t size) except NULL:
    cdef void* block = calloc(count + 1, size)
    if block == NULL:
        raise MemoryError
    return block


cdef uint32_t* copied_numbers(object numbers) except NULL:
    cdef uint32_t* block = <uint32_t*>room_for(len(numbers), sizeof(uint32_t))
    for at, number in enumerate(numbers):
        block[<size_t>at] = number
    return block


cdef void write_mask(uint64_t* to, object mask, uint32_t words):
    cdef uint32_t at
    for at in range(words):
        to[at] = (mask >> 64 * at) & 0xFFFFFFFFFFFFFFFF


cdef class Explorer:
    """
    The search on packed words; `knhk.analysis._space.Explorer` says what it offers.

    Args:
        relation: what may happen.
        decide: `OrJoinAnalysis.decide` of the net.
        packing: the relation as masks; None for a general explorer.
        ceiling: tokens on a condition above which a general explorer comes back from `run`.
    """

    cdef Space s
    cdef object tables
    cdef object packing
    cdef object decide
    cdef object slots
    cdef object urgent_starts
    cdef set open_joins

    def __init__(self, relation, decide, packing=None, *, int ceiling=1):
        cdef Space* s = &self.s
        cdef uint32_t bits
        if s.states != NULL:
            raise RuntimeError("an explorer is made once")
        self.tables = relation.tables
        self.packing = packing
        self.decide = decide
        self.open_joins = set()
        tables = relation.tables
        s.general = packing is None
        s.implicit = tables.implicit
        s.places = len(tables.conditions)
        s.task_count = len(tables.tasks)
        s.status_at = s.places
        s.ceiling = ceiling
        s.some_urgent = bool(relation.urgent_starts or relation.urgent_completions)
        s.some_calm = not s.some_urgent or not relation.even
        self.urgent_starts = relation.urgent_starts
        s.improper = s.stuck = s.record = NO_STATE
        s.joins = copied_numbers(tables.or_joins)
        s.join_count = len(tables.or_joins)
        s.gates = <uint8_t*>room_for(s.task_count, 1)
        s.started = <uint8_t*>room_for(s.task_count, 1)
        s.most = <uint32_t*>room_for(s.places, sizeof(uint32_t))
        if s.general:
            self._compile(relation)
        else:
            s.words = (packing.bits + 63) // 64
            self._copy_masks()
        self._begin()

    cdef _begin(self):
        cdef Space* s = &self.s
        s.room = 256
        s.states = <uint64_t*>room_for(s.room * s.words, sizeof(uint64_t))
        s.before = <uint32_t*>room_for(s.room, sizeof(uint32_t))
        s.first_edge = <uint64_t*>room_for(s.room, sizeof(uint64_t))
        s.spared = <uint8_t*>room_for(s.room, 1)
        s.table_mask = 1023
        s.table = <uint64_t*>room_for(1024, sizeof(uint64_t))
        s.edge_room = 1024
        s.edges = <uint32_t*>room_for(s.edge_room, sizeof(uint32_t))
        s.made_room = 64
        s.made = <uint64_t*>room_for(s.made_room * s.words, sizeof(uint64_t))
        s.hashes = <uint64_t*>room_for(s.made_room, sizeof(uint64_t))
        s.late_room = 64
        s.late = <uint64_t*>room_for(s.late_room * s.words, sizeof(uint64_t))
        s.late_hashes = <uint64_t*>room_for(s.late_room, sizeof(uint64_t))
        s.pending = NO_STATE
        s.current = <uint64_t*>room_for(s.words, sizeof(uint64_t))
        # Byte 0 and bit 0 are the input condition.
        if s.general:
            (<uint8_t*>s.current)[0] = 1
        else:
            s.current[0] = 1
        find(s, s.current, hash_of(s.current, s.words), NO_STATE)

    cdef _copy_masks(self):
        cdef Space* s = &self.s
        cdef uint32_t at = 0
        cdef uint64_t* mask
        packing = self.packing
        s.move_count = len(packing.moves)
        s.moves = <Masked*>room_for(s.move_count, sizeof(Masked))
        s.masks = <uint64_t*>room_for(s.move_count * 5 * s.words, sizeof(uint64_t))
        for move in packing.moves:
            s.moves[at].task = move.task
            s.moves[at].required = move.required
            s.moves[at].kind = move.kind
            s.moves[at].begins = move.begins
            s.moves[at].urgent = move.urgent
            mask = &s.masks[<size_t>at * 5 * s.words]
            write_mask(mask, move.need, s.words)
            write_mask(mask + s.words, move.forbid, s.words)
            write_mask(mask + 2 * s.words, move.clear, s.words)
            write_mask(mask + 3 * s.words, move.put, s.words)
            write_mask(mask + 4 * s.words, move.any_of, s.words)
            at += 1
        s.ended_by = <uint64_t*>room_for(s.words, sizeof(uint64_t))
        s.lives_by = <uint64_t*>room_for(s.words, sizeof(uint64_t))
        s.leftover = <uint64_t*>room_for(s.words, sizeof(uint64_t))
        s.ever = <uint64_t*>room_for(s.words, sizeof(uint64_t))
        write_mask(s.ended_by, packing.ended_by, s.words)
        write_mask(s.lives_by, packing.lives_by, s.words)
        write_mask(s.leftover, packing.leftover, s.words)
        s.or_masks = <uint64_t*>room_for(3 * s.join_count * s.words, sizeof(uint64_t))
        for number, join in enumerate(self.tables.or_joins):
            entry = self.tables.table[join]
            mask = &s.or_masks[<size_t>number * 3 * s.words]
            write_mask(mask, sum(1 << place for place, _ in entry.inputs), s.words)
            write_mask(mask + s.words, sum(1 << place for place in set(entry.reads)), s.words)
            running = [bit for bit in (packing.busy[join], packing.draining[join]) if bit >= 0]
            write_mask(mask + 2 * s.words, sum(1 << bit for bit in running), s.words)

    cdef _compile(self, relation):
        cdef Space* s = &self.s
        cdef Task* task
        cdef size_t at
        numbers = []
        arcs = []
        choices = []
        slots = {}
        size = s.places + s.task_count

        def span(into, values):
            begin = len(into)
            into.extend(values)
            return begin, len(into)

        s.tasks = <Task*>room_for(s.task_count, sizeof(Task))
        for number, entry in enumerate(self.tables.table):
            task = &s.tasks[<size_t>number]
            task.inputs.begin, task.inputs.end = span(arcs, entry.inputs)
            task.reads.begin, task.reads.end = span(numbers, entry.reads)
            task.conditions.begin, task.conditions.end = span(numbers, entry.cancels_conditions)
            task.tasks.begin, task.tasks.end = span(numbers, entry.cancels_tasks)
            task.join_conditions.begin, task.join_conditions.end = span(numbers, entry.join_cancels_conditions)
            task.join_tasks.begin, task.join_tasks.end = span(numbers, entry.join_cancels_tasks)
            ways = [span(arcs, [entry.outputs[each] for each in chosen]) for chosen in relation.choices[number]]
            task.choices.begin, task.choices.end = span(choices, ways)
            task.required = entry.required
            task.join = entry.join
            task.flags = (
                (DETACHED if entry.detached else 0)
                | (JOIN_CANCELS if entry.join_cancels else 0)
                | (CANCELS_ITSELF if number in entry.cancels_tasks else 0)
                | (FUSED if number in relation.fused else 0)
                | (DRAINS if number in relation.draining else 0)
                | (STARTS_AT_ONCE if number in relation.urgent_starts else 0)
                | (COMPLETES_AT_ONCE if number in relation.urgent_completions else 0)
            )
            task.seen = -1
            if entry.join == PARTIAL and not entry.join_cancels:
                task.seen = size
                slots[number] = (size, len(entry.inputs))
                size += (len(entry.inputs) + 7) // 8
        self.slots = slots
        s.words = (size + 7) // 8
        s.arcs = <Arc*>room_for(len(arcs), sizeof(Arc))
        for at, (place, weight) in enumerate(arcs):
            s.arcs[at].place = place
            s.arcs[at].weight = min(weight, MOST + 1)
        s.choices = <Span*>room_for(len(choices), sizeof(Span))
        for at, (begin, end) in enumerate(choices):
            s.choices[at].begin = begin
            s.choices[at].end = end
        s.swallowers = <Span*>room_for(s.places, sizeof(Span))
        s.sinks = <uint8_t*>room_for(s.places, 1)
        for at in range(s.places):
            s.swallowers[at].begin, s.swallowers[at].end = span(numbers, [t for t, _ in self.tables.swallowers[at]])
            s.sinks[at] = self.tables.sinks[at]
        s.numbers = copied_numbers(numbers)

    def __dealloc__(self):
        cdef Space* s = &self.s
        for block in (
            <size_t>s.moves, <size_t>s.masks, <size_t>s.ended_by, <size_t>s.lives_by, <size_t>s.leftover, <size_t>s.ever,
            <size_t>s.or_masks, <size_t>s.tasks, <size_t>s.arcs, <size_t>s.numbers, <size_t>s.choices,
            <size_t>s.swallowers, <size_t>s.sinks, <size_t>s.joins, <size_t>s.gates, <size_t>s.states, <size_t>s.before,
            <size_t>s.first_edge, <size_t>s.spared, <size_t>s.table, <size_t>s.edges, <size_t>s.made, <size_t>s.hashes,
            <size_t>s.late, <size_t>s.late_hashes,
            <size_t>s.current, <size_t>s.started, <size_t>s.most,
        ):
            free(<void*><size_t>block)

    @property
    def ceiling(self):
        return self.s.ceiling

    @ceiling.setter
    def ceiling(self, uint32_t value):
        self.s.ceiling = value

    @property
    def count(self):
        return self.s.count

    @property
    def expanded(self):
        return self.s.expanded

    @property
    def edges(self):
        return self.s.edge_count

    @property
    def improper(self):
        return -1 if self.s.improper == NO_STATE else self.s.improper

    @property
    def stuck(self):
        return -1 if self.s.stuck == NO_STATE else self.s.stuck

    @property
    def record(self):
        return -1 if self.s.record == NO_STATE else self.s.record

    @property
    def cut(self):
        return bool(self.s.cut)

    @property
    def started(self):
        return frozenset(number for number in range(self.s.task_count) if self.s.started[<size_t>number])

    @property
    def undecided(self):
        return frozenset(self.open_joins)

    @property
    def most(self):
        cdef size_t at
        if self.s.general:
            return [self.s.most[at] for at in range(self.s.places)]
        return [(self.s.ever[at // 64] >> (at % 64)) & 1 for at in range(self.s.places)]

    def run(self, states):
        cdef Space* s = &self.s
        cdef uint64_t until = <uint64_t>s.expanded + <uint64_t>states
        cdef int code
        s.record = NO_STATE
        while True:
            with nogil:
                code = search(s, until)
            if code == MEMORY:
                raise MemoryError
            if code != ASK:
                return code
            self._ask()

    cdef _ask(self):
        cdef Space* s = &self.s
        tokens, status, seen = self.state(s.expanded)
        remembered = dict(seen)
        for join in self.tables.or_joins:
            if s.gates[<size_t>join] == UNDECIDED:
                answer = self.decide(join, tokens, status, remembered)
                s.gates[<size_t>join] = answer
                if answer == UNDECIDED:
                    self.open_joins.add(join)
                    s.spared[s.expanded] = 1
                    s.blind = s.blind or join in self.urgent_starts
        s.answered = True

    def state(self, number):
        if not 0 <= number < self.s.count:
            raise IndexError(f"there is no state {number}: {self.s.count} are known")
        return self._general_state(number) if self.s.general else self._masked_state(number)

    cdef _general_state(self, size_t number):
        cdef const uint8_t* state = <const uint8_t*>&self.s.states[number * self.s.words]
        cdef size_t at
        tokens = tuple([state[at] for at in range(self.s.places)])
        status = tuple([state[self.s.status_at + at] for at in range(self.s.task_count)])
        seen = []
        for task, (begin, inputs) in self.slots.items():
            mask = sum(1 << each for each in range(inputs) if state[<size_t>(begin + each // 8)] >> (each % 8) & 1)
            if mask:
                seen.append((task, mask))
        return tokens, status, tuple(seen)

    cdef _masked_state(self, size_t number):
        cdef const uint64_t* state = &self.s.states[number * self.s.words]
        cdef size_t at
        bits = [(state[at // 64] >> (at % 64)) & 1 for at in range(self.packing.bits)]
        status = [
            BUSY if busy >= 0 and bits[busy] else DRAINING if draining >= 0 and bits[draining] else IDLE
            for busy, draining in zip(self.packing.busy, self.packing.draining)
        ]
        return tuple(bits[: self.s.places]), tuple(status), ()

    def predecessor(self, number):
        if not 0 <= number < self.s.count:
            raise IndexError(f"there is no state {number}: {self.s.count} are known")
        before = self.s.before[<size_t>number]
        return -1 if before == NO_STATE else before

    def doomed(self):
        cdef uint32_t found = 0
        cdef int answer
        cdef Space* s = &self.s
        with nogil:
            answer = first_doomed(s, &found)
        if answer == 0:
            raise MemoryError
        return found if answer == 2 else -1
