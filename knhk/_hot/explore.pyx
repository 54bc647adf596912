# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
"""The states of a net, compiled: what `knhk.analysis._space.ReferenceExplorer` defines, on packed words.

A state is a row of 64-bit words, of which there are two kinds:

- *masks*: one bit a condition and one a task that runs or drains.  A move is five masks.  For nets without weights and without
  partial joins that remember, as long as no condition holds two tokens; else `run` says so, and a general explorer begins again.
- *general*: one byte a condition (up to 255 tokens), one a task, and bits for the inputs that a partial join has seen; the moves
  are the rules of `knhk._kernel`, written once more on bytes.

States lie one after the other in the order in which they were found, each with the number of the state before it: a breadth
first search, whose paths are shortest.  An open-addressing table of (hash, number) finds them again; it is never more than three
quarters full and grows with the states.  What a state leads to is looked up when the moves of the next state have been made, so that the
table's lines are on their way meanwhile.

Whether the end can be reached is decided over the recorded moves: sweeps from the last state to the first, which settle nearly
everything, then a search backwards for what four sweeps have left.

OR-joins of which some inputs are marked and some not are asked of the caller (`OrJoinAnalysis.decide`, which remembers).

What is between `run` and Python objects releases the GIL; a caller that shares an explorer between threads must lock it.
"""

cimport cython
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

cdef extern from *:
    """
    #if defined(_MSC_VER)
    #include <intrin.h>
    #define knhk_expect(address) _mm_prefetch((const char*)(address), _MM_HINT_T0)
    #define knhk_ones(word) ((int)__popcnt64(word))
    #else
    #define knhk_expect(address) __builtin_prefetch(address)
    #define knhk_ones(word) __builtin_popcountll(word)
    #endif
    """
    void expect "knhk_expect"(const void* address) noexcept nogil
    int ones "knhk_ones"(uint64_t word) noexcept nogil

cdef enum:  # what `run` returns, as in `knhk.analysis._space`
    DONE = 0
    LIMIT = 1
    RECORD = 2
    UNSAFE = 3
    ASK = 4  # inside only: an OR-join of the next state has to be decided
    MEMORY = 5

cdef enum:
    AND = 0
    XOR = 1
    OR = 2
    PARTIAL = 3

cdef enum:
    IDLE = 0
    BUSY = 1
    DRAINING = 2

cdef enum:  # kinds of masked moves
    PLAIN = 0
    GATED = 1
    COUNTED = 2

cdef enum:  # decisions on an OR-join
    WAITING = 0
    ENABLED = 1
    UNDECIDED = 2

cdef enum:  # flags of a task
    DETACHED = 1
    JOIN_CANCELS = 2
    CANCELS_ITSELF = 4
    FUSED = 8
    DRAINS = 16
    STARTS_AT_ONCE = 32
    COMPLETES_AT_ONCE = 64

cdef enum:
    MOST = 255
    NO_STATE = 0xFFFFFFFF

cdef struct Span:
    uint32_t begin
    uint32_t end

cdef struct Arc:
    uint32_t place
    uint32_t weight

cdef struct Masked:  # its masks: need, forbid, clear, put, any
    uint32_t task
    uint32_t required
    uint8_t kind
    uint8_t begins
    uint8_t urgent

cdef struct Task:
    Span inputs  # of arcs
    Span reads  # of numbers, as the next four
    Span conditions
    Span tasks
    Span join_conditions
    Span join_tasks
    Span choices  # of spans of arcs
    Span or_inputs
    uint32_t required
    int32_t seen  # where its bytes for a round begin, or -1
    uint8_t join
    uint8_t flags

cdef struct Space:
    bint general
    bint implicit
    bint some_urgent  # whether there are urgent moves, and others
    bint some_calm
    uint32_t words  # a state
    uint32_t places
    uint32_t task_count
    # masks
    Masked* moves
    uint64_t* masks
    uint32_t move_count
    uint64_t* ended_by
    uint64_t* lives_by
    uint64_t* leftover
    uint64_t* ever
    uint64_t* or_masks  # by OR-join: inputs, reads, running
    # general
    Task* tasks
    Arc* arcs
    uint32_t* numbers
    Span* choices
    Span* swallowers  # by place, of numbers: tasks
    uint8_t* sinks
    uint32_t status_at
    # OR-joins
    uint32_t* joins
    uint32_t join_count
    uint8_t* gates  # by task, what was decided for the state in hand
    bint answered
    bint blind  # nothing is known of the moves of the state in hand
    # states
    uint64_t* states
    uint32_t* before
    uint64_t* first_edge
    uint8_t* spared  # ended, or not known well enough to say that the end is out of reach
    uint32_t count
    uint32_t expanded
    uint32_t room
    uint64_t* table
    uint64_t table_mask
    uint32_t* edges
    uint64_t edge_count
    uint64_t edge_room
    uint64_t* made
    uint64_t* hashes
    uint32_t made_count
    uint32_t made_room
    uint64_t* late  # what state `pending` leads to, made and not yet looked up
    uint64_t* late_hashes
    uint32_t late_count
    uint32_t late_room
    uint32_t pending
    uint64_t* current
    # findings
    uint32_t improper
    uint32_t stuck
    uint32_t record
    uint32_t ceiling
    uint8_t* started
    uint32_t* most
    bint cut
    bint out_of_memory


# --- storing states ---------------------------------------------------------------------------------------------------

cdef inline uint64_t mixed(uint64_t word) noexcept nogil:
    word ^= word >> 32
    word *= <uint64_t>0x9E3779B97F4A7C15
    word ^= word >> 29
    word *= <uint64_t>0xBF58476D1CE4E5B9
    return word ^ (word >> 32)


cdef inline uint64_t hash_of(const uint64_t* state, uint32_t words) noexcept nogil:
    cdef uint64_t value = mixed(state[0])
    cdef uint32_t at
    for at in range(1, words):
        value = mixed(value ^ state[at]) + at
    return value


cdef bint grow_table(Space* s) noexcept nogil:
    cdef uint64_t size = 2 * (s.table_mask + 1)
    cdef uint64_t* table = <uint64_t*>calloc(size, sizeof(uint64_t))
    cdef uint64_t value, slot
    cdef uint32_t number
    if table == NULL:
        return False
    for number in range(s.count):
        value = hash_of(&s.states[<size_t>number * s.words], s.words)
        slot = value & (size - 1)
        while table[slot]:
            slot = (slot + 1) & (size - 1)
        table[slot] = (value & <uint64_t>0xFFFFFFFF00000000) | (number + 1)
    free(s.table)
    s.table = table
    s.table_mask = size - 1
    return True


cdef bint grow_states(Space* s) noexcept nogil:
    cdef size_t room = 2 * <size_t>s.room
    cdef void* larger
    if room > NO_STATE:
        return False
    larger = realloc(s.states, room * s.words * sizeof(uint64_t))
    if larger == NULL:
        return False
    s.states = <uint64_t*>larger
    larger = realloc(s.before, room * sizeof(uint32_t))
    if larger == NULL:
        return False
    s.before = <uint32_t*>larger
    larger = realloc(s.first_edge, (room + 1) * sizeof(uint64_t))
    if larger == NULL:
        return False
    s.first_edge = <uint64_t*>larger
    larger = realloc(s.spared, room)
    if larger == NULL:
        return False
    s.spared = <uint8_t*>larger
    s.room = <uint32_t>room
    return True


cdef void note(Space* s, uint32_t number) noexcept nogil:
    """Keep the most tokens of each condition, and the state that exceeds the ceiling first."""
    cdef const uint8_t* bytes_ = <const uint8_t*>&s.states[<size_t>number * s.words]
    cdef uint32_t at
    if not s.general:
        for at in range(s.words):
            s.ever[at] |= s.states[<size_t>number * s.words + at]
        return
    for at in range(s.places):
        if bytes_[at] > s.most[at]:
            s.most[at] = bytes_[at]
            if bytes_[at] > s.ceiling and s.record == NO_STATE:
                s.record = number


cdef inline uint32_t find(Space* s, const uint64_t* state, uint64_t value, uint32_t before) noexcept nogil:
    """Return the number of a state, a new one if it was not known; NO_STATE when memory is out."""
    cdef uint64_t slot = value & s.table_mask
    cdef uint64_t entry
    cdef uint32_t number, words = s.words
    while True:
        entry = s.table[slot]
        if entry == 0:
            break
        if (entry ^ value) >> 32 == 0:
            number = <uint32_t>entry - 1
            if words == 1:
                if s.states[number] == state[0]:
                    return number
            elif memcmp(&s.states[<size_t>number * words], state, words * sizeof(uint64_t)) == 0:
                return number
        slot = (slot + 1) & s.table_mask
    number = s.count
    if number == s.room and not grow_states(s):
        s.out_of_memory = True
        return NO_STATE
    if words == 1:
        s.states[number] = state[0]
    else:
        memcpy(&s.states[<size_t>number * words], state, words * sizeof(uint64_t))
    s.before[number] = before
    s.spared[number] = 0
    s.table[slot] = (value & <uint64_t>0xFFFFFFFF00000000) | (number + 1)
    s.count += 1
    note(s, number)
    if 4 * <uint64_t>s.count > 3 * s.table_mask and not grow_table(s):
        s.out_of_memory = True
    return number


cdef inline uint64_t* next_made(Space* s) noexcept nogil:
    """Return room for one more state among those that the current one leads to."""
    cdef size_t room
    cdef void* larger
    if s.made_count == s.made_room:
        room = 2 * <size_t>s.made_room
        larger = realloc(s.made, room * s.words * sizeof(uint64_t))
        if larger == NULL:
            s.out_of_memory = True
            return NULL
        s.made = <uint64_t*>larger
        larger = realloc(s.hashes, room * sizeof(uint64_t))
        if larger == NULL:
            s.out_of_memory = True
            return NULL
        s.hashes = <uint64_t*>larger
        s.made_room = <uint32_t>room
    s.made_count += 1
    return &s.made[<size_t>(s.made_count - 1) * s.words]


cdef inline void hash_made(Space* s, uint32_t each) noexcept nogil:
    """Hash a state that was made, and let its line of the table come."""
    s.hashes[each] = hash_of(&s.made[<size_t>each * s.words], s.words)
    expect(&s.table[s.hashes[each] & s.table_mask])


cdef void delay(Space* s, uint32_t number) noexcept nogil:
    """Keep what a state leads to for later."""
    cdef uint64_t* made = s.made
    cdef uint64_t* hashes = s.hashes
    cdef uint32_t room = s.made_room
    s.made, s.hashes, s.made_room = s.late, s.late_hashes, s.late_room
    s.late, s.late_hashes, s.late_room = made, hashes, room
    s.late_count = s.made_count
    s.pending = number


cdef bint look_up(Space* s) noexcept nogil:
    """Look up what the pending state leads to, and record the moves; False when memory is out."""
    cdef uint32_t each
    cdef uint64_t entry
    cdef size_t room
    cdef void* larger
    if s.pending == NO_STATE:
        return True
    for each in range(s.late_count):
        entry = s.table[s.late_hashes[each] & s.table_mask]
        if entry:
            expect(&s.states[<size_t>(<uint32_t>entry - 1) * s.words])
    if s.edge_count + s.late_count > s.edge_room:
        room = 2 * s.edge_room + s.late_count
        larger = realloc(s.edges, room * sizeof(uint32_t))
        if larger == NULL:
            s.out_of_memory = True
            return False
        s.edges = <uint32_t*>larger
        s.edge_room = room
    s.first_edge[s.pending] = s.edge_count
    for each in range(s.late_count):
        s.edges[s.edge_count + each] = find(s, &s.late[<size_t>each * s.words], s.late_hashes[each], s.pending)
        if s.out_of_memory:
            return False
    s.edge_count += s.late_count
    s.first_edge[s.pending + 1] = s.edge_count
    s.pending = NO_STATE
    return True


# --- moves on masks ---------------------------------------------------------------------------------------------------

cdef bint words_ended(const Space* s, const uint64_t* state) noexcept nogil:
    cdef uint32_t at
    cdef uint64_t living = 0, ended = 0
    for at in range(s.words):
        living |= state[at] & s.lives_by[at]
        ended |= state[at] & s.ended_by[at]
    return living == 0 if s.implicit else ended != 0


cdef bint words_improper(const Space* s, const uint64_t* state) noexcept nogil:
    cdef uint32_t at
    for at in range(s.words):
        if state[at] & s.leftover[at]:
            return True
    return False


cdef inline bint masked_enabled(const Space* s, const Masked* move, const uint64_t* mask, const uint64_t* state) noexcept nogil:
    cdef uint32_t at, words = s.words
    cdef uint32_t marked = 0
    for at in range(words):
        if (state[at] & mask[at]) != mask[at] or state[at] & mask[words + at]:
            return False
    if move.kind == PLAIN:
        return True
    for at in range(words):
        marked += ones(state[at] & mask[4 * words + at])
    if move.kind == COUNTED:
        return marked >= move.required
    return marked > 0 and s.gates[move.task] == ENABLED


cdef bint expand_words(Space* s, const uint64_t* state, bint urgent) noexcept nogil:
    """Make all moves, the urgent ones or the others; False when a condition would get a second token."""
    cdef uint32_t each, at, words = s.words
    cdef const Masked* move
    cdef const uint64_t* mask
    cdef uint64_t* later
    cdef uint64_t word, left
    for each in range(s.move_count):
        move = &s.moves[each]
        mask = &s.masks[<size_t>each * 5 * words]
        word = state[0]
        if words == 1 and ((word & mask[0]) != mask[0] or word & mask[1]):
            continue
        if (words > 1 or move.kind != PLAIN) and not masked_enabled(s, move, mask, state):
            continue
        if move.urgent != urgent:
            continue
        if move.begins:
            s.started[move.task] = 1
        later = next_made(s)
        if later == NULL:
            return True
        for at in range(words):
            left = state[at] & ~mask[2 * words + at]
            if left & mask[3 * words + at]:
                return False
            later[at] = left | mask[3 * words + at]
        hash_made(s, s.made_count - 1)
    return True


# --- moves on bytes ---------------------------------------------------------------------------------------------------

cdef bint bytes_ended(const Space* s, const uint8_t* state) noexcept nogil:
    cdef uint32_t at
    if not s.implicit:
        return state[1] > 0
    for at in range(s.task_count):
        if state[s.status_at + at] != IDLE:
            return False
    for at in range(s.places):
        if state[at] and not s.sinks[at]:
            return False
    return True


cdef bint bytes_improper(const Space* s, const uint8_t* state) noexcept nogil:
    cdef uint32_t at
    if s.implicit:
        return False
    for at in range(s.places):
        if state[at] > (1 if at == 1 else 0):
            return True
    for at in range(s.task_count):
        if state[s.status_at + at] == BUSY:
            return True
    return False


cdef inline uint32_t inputs_of(const Task* task) noexcept nogil:
    return task.inputs.end - task.inputs.begin


cdef inline void forget(const Space* s, uint8_t* state, uint32_t task) noexcept nogil:
    if s.tasks[task].seen >= 0:
        memset(&state[s.tasks[task].seen], 0, (inputs_of(&s.tasks[task]) + 7) // 8)


cdef bint in_round(const Space* s, const uint8_t* state, const Task* task) noexcept nogil:
    cdef uint32_t at
    if task.seen >= 0:
        for at in range((inputs_of(task) + 7) // 8):
            if state[task.seen + at]:
                return True
    return False


cdef bint may_start(const Space* s, const uint8_t* state, uint32_t number) noexcept nogil:
    cdef const Task* task = &s.tasks[number]
    cdef uint32_t at, marked = 0
    for at in range(task.reads.begin, task.reads.end):
        if state[s.numbers[at]] == 0:
            return False
    for at in range(task.inputs.begin, task.inputs.end):
        marked += state[s.arcs[at].place] >= s.arcs[at].weight
    if task.join == AND:
        return marked == inputs_of(task)
    if task.join == PARTIAL:
        return marked >= task.required and not in_round(s, state, task)
    return marked > 0 and (task.join != OR or s.gates[number] == ENABLED)


cdef void cancel(const Space* s, uint8_t* state, Span conditions, Span tasks, uint32_t keep) noexcept nogil:
    cdef uint32_t at, other
    for at in range(conditions.begin, conditions.end):
        state[s.numbers[at]] = 0
    for at in range(tasks.begin, tasks.end):
        other = s.numbers[at]
        if other != keep:
            forget(s, state, other)
            state[s.status_at + other] = IDLE


cdef void swallow(const Space* s, uint8_t* state, uint32_t number) noexcept nogil:
    cdef const Task* task = &s.tasks[number]
    cdef uint32_t position, left = 0
    cdef Arc arc
    if not in_round(s, state, task):
        return
    for position in range(inputs_of(task)):
        if state[task.seen + position // 8] >> (position % 8) & 1:
            continue
        arc = s.arcs[task.inputs.begin + position]
        if state[arc.place] >= arc.weight:
            state[arc.place] -= <uint8_t>arc.weight
            state[task.seen + position // 8] |= <uint8_t>(1 << (position % 8))
        else:
            left += 1
    if left == 0:
        forget(s, state, number)


cdef bint put(const Space* s, uint8_t* state, Span arcs) noexcept nogil:
    """Put tokens; False if a condition would hold more than a byte can say."""
    cdef uint32_t at, each
    cdef Arc arc
    cdef Span swallowers
    cdef bint fits = True
    for at in range(arcs.begin, arcs.end):
        arc = s.arcs[at]
        # NOTE: what does not fit is dropped as a whole, so that a sum which a partial join would have taken from again is too.
        if arc.weight > MOST or state[arc.place] + arc.weight > MOST:
            fits = False
            continue
        state[arc.place] += <uint8_t>arc.weight
        swallowers = s.swallowers[arc.place]
        for each in range(swallowers.begin, swallowers.end):
            swallow(s, state, s.numbers[each])
    return fits


cdef void take(const Space* s, uint8_t* state, uint32_t number) noexcept nogil:
    cdef const Task* task = &s.tasks[number]
    cdef uint32_t position, marked = 0
    cdef Arc arc
    for position in range(inputs_of(task)):
        arc = s.arcs[task.inputs.begin + position]
        if state[arc.place] < arc.weight:
            continue
        state[arc.place] -= <uint8_t>arc.weight
        marked += 1
        if task.seen >= 0:
            state[task.seen + position // 8] |= <uint8_t>(1 << (position % 8))
        if task.join == XOR:
            break
    if marked == inputs_of(task):
        forget(s, state, number)
    if not task.flags & (DETACHED | FUSED):
        state[s.status_at + number] = BUSY
    if task.flags & JOIN_CANCELS:
        cancel(s, state, task.join_conditions, task.join_tasks, number)


cdef bint pass_control(const Space* s, uint8_t* state, uint32_t number, uint8_t status, Span arcs) noexcept nogil:
    cdef const Task* task = &s.tasks[number]
    cancel(s, state, task.conditions, task.tasks, number)
    state[s.status_at + number] = status
    if task.flags & CANCELS_ITSELF:
        forget(s, state, number)
    return put(s, state, arcs)


cdef uint8_t* copied(Space* s) noexcept nogil:
    cdef uint64_t* later = next_made(s)
    if later != NULL:
        memcpy(later, s.current, s.words * sizeof(uint64_t))
    return <uint8_t*>later


cdef void passes(Space* s, uint32_t number, bint starts, uint8_t status, uint32_t from_) noexcept nogil:
    """Make the moves in which a task puts, one for each choice."""
    cdef uint8_t* later
    cdef uint32_t at
    for at in range(s.tasks[number].choices.begin, s.tasks[number].choices.end):
        later = copied(s)
        if later == NULL:
            return
        if starts:
            s.started[number] = 1
            take(s, later, number)
        if not pass_control(s, later, number, status, s.choices[at]):
            s.made_count -= 1
            s.cut = True
            s.spared[from_] = 1


cdef bint expand_bytes(Space* s, uint32_t from_, bint urgent) noexcept nogil:
    """Make all moves, the urgent ones or the others; whether there is one, be it cut off."""
    cdef const uint8_t* state = <const uint8_t*>s.current
    cdef uint8_t* later
    cdef uint8_t status
    cdef uint32_t number
    cdef bint found = False
    for number in range(s.task_count):
        status = state[s.status_at + number]
        if status == IDLE:
            if (s.tasks[number].flags & STARTS_AT_ONCE != 0) != urgent or not may_start(s, state, number):
                continue
            found = True
            if s.tasks[number].flags & (DETACHED | FUSED):
                passes(s, number, True, IDLE, from_)
                continue
            later = copied(s)
            if later == NULL:
                return True
            s.started[number] = 1
            take(s, later, number)
        elif status == BUSY:
            if (s.tasks[number].flags & COMPLETES_AT_ONCE != 0) != urgent:
                continue
            found = found or s.tasks[number].choices.begin < s.tasks[number].choices.end
            passes(s, number, False, IDLE, from_)
            if s.tasks[number].flags & DRAINS:
                passes(s, number, False, DRAINING, from_)
        elif not urgent:
            later = copied(s)
            if later == NULL:
                return True
            later[s.status_at + number] = IDLE
            forget(s, later, number)
    return found


# --- the search -------------------------------------------------------------------------------------------------------

cdef bint plain_gates(Space* s) noexcept nogil:
    """Decide the OR-joins that need no analysis; False if there is another."""
    cdef uint32_t each, number, at, marked, inputs
    cdef const uint64_t* mask
    cdef const uint8_t* state = <const uint8_t*>s.current
    cdef const Task* task
    cdef bint possible, all_plain = True
    for each in range(s.join_count):
        number = s.joins[each]
        marked = inputs = 0
        possible = True
        if s.general:
            task = &s.tasks[number]
            inputs = inputs_of(task)
            possible = state[s.status_at + number] == IDLE
            for at in range(task.reads.begin, task.reads.end):
                possible = possible and state[s.numbers[at]] > 0
            for at in range(task.inputs.begin, task.inputs.end):
                marked += state[s.arcs[at].place] >= s.arcs[at].weight
        else:
            mask = &s.or_masks[<size_t>each * 3 * s.words]
            for at in range(s.words):
                marked += ones(s.current[at] & mask[at])
                inputs += ones(mask[at])
                if (s.current[at] & mask[s.words + at]) != mask[s.words + at] or s.current[at] & mask[2 * s.words + at]:
                    possible = False
        s.gates[number] = ENABLED if possible and marked == inputs else WAITING
        if possible and 0 < marked < inputs:
            s.gates[number] = UNDECIDED
            all_plain = False
    return all_plain


cdef int expand(Space* s) noexcept nogil:
    cdef uint32_t each, number = s.expanded
    cdef bint ended, safe = True
    memcpy(s.current, &s.states[<size_t>number * s.words], s.words * sizeof(uint64_t))
    ended = bytes_ended(s, <const uint8_t*>s.current) if s.general else words_ended(s, s.current)
    if not ended and s.join_count and not s.answered and not plain_gates(s):
        return ASK
    s.answered = False
    s.made_count = 0
    if ended:
        s.spared[number] = 1
        if s.improper == NO_STATE and (
            bytes_improper(s, <const uint8_t*>s.current) if s.general else words_improper(s, s.current)
        ):
            s.improper = number
    elif s.blind:
        s.blind = False  # an urgent OR-join is undecided
    elif s.general:
        if not (s.some_urgent and expand_bytes(s, number, True)) and s.some_calm:
            expand_bytes(s, number, False)
    else:
        if s.some_urgent:
            safe = expand_words(s, s.current, True)
        if safe and s.made_count == 0 and s.some_calm:
            safe = expand_words(s, s.current, False)
    if not safe:
        return UNSAFE
    if s.out_of_memory or not look_up(s):
        return MEMORY
    if s.made_count == 0 and s.stuck == NO_STATE and not s.spared[number]:
        s.stuck = number
    if s.general:
        for each in range(s.made_count):
            hash_made(s, each)
    delay(s, number)
    s.expanded += 1
    # A general explorer comes back as soon as the ceiling is exceeded.
    return MEMORY if s.general and not look_up(s) else DONE


cdef int search(Space* s, uint64_t until) noexcept nogil:
    cdef int code
    while True:
        if s.expanded == s.count:
            if s.pending == NO_STATE:
                return DONE
            if not look_up(s):
                return MEMORY
            continue
        code = LIMIT if s.expanded >= until else expand(s)
        if code == LIMIT or code == ASK:
            return code if look_up(s) else MEMORY
        if code != DONE:
            return code
        if s.record != NO_STATE:
            return RECORD


cdef bint sweep(const Space* s, uint8_t* able) noexcept nogil:
    """Once from the last state to the first: who has a move to a state that is able is able; whether one was found."""
    cdef uint32_t number
    cdef uint64_t at
    cdef bint found = False
    for number in range(s.expanded, 0, -1):
        if able[number - 1]:
            continue
        for at in range(s.first_edge[number - 1], s.first_edge[number]):
            if able[s.edges[at]]:
                able[number - 1] = 1
                found = True
                break
    return found


cdef bint backwards(const Space* s, uint8_t* able) noexcept nogil:
    """Search from the able states over the moves of those that are not yet; False when memory is out."""
    cdef uint64_t* begin = <uint64_t*>calloc(<size_t>s.count + 2, sizeof(uint64_t))
    cdef uint32_t* sources
    cdef uint32_t* todo
    cdef uint32_t number, target
    cdef uint64_t at, waiting = 0
    if begin == NULL:
        return False
    for number in range(s.expanded):
        if not able[number]:
            for at in range(s.first_edge[number], s.first_edge[number + 1]):
                begin[s.edges[at] + 2] += 1
    for at in range(2, <uint64_t>s.count + 2):
        begin[at] += begin[at - 1]
    sources = <uint32_t*>malloc((begin[s.count + 1] + 1) * sizeof(uint32_t))
    todo = <uint32_t*>malloc((<size_t>s.count + 1) * sizeof(uint32_t))
    if sources == NULL or todo == NULL:
        free(begin)
        free(sources)
        free(todo)
        return False
    for number in range(s.expanded):
        if not able[number]:
            for at in range(s.first_edge[number], s.first_edge[number + 1]):
                target = s.edges[at]
                sources[begin[target + 1]] = number
                begin[target + 1] += 1
    for number in range(s.count):
        if able[number]:
            todo[waiting] = number
            waiting += 1
    while waiting:
        waiting -= 1
        target = todo[waiting]
        for at in range(begin[target], begin[target + 1]):
            if not able[sources[at]]:
                able[sources[at]] = 1
                todo[waiting] = sources[at]
                waiting += 1
    free(begin)
    free(sources)
    free(todo)
    return True


cdef int first_doomed(const Space* s, uint32_t* found) noexcept nogil:
    """Find the first state that is not able; 0 when memory is out, 1 when there is none, 2 when there is."""
    cdef uint8_t* able = <uint8_t*>malloc(<size_t>s.count + 1)
    cdef uint32_t number
    cdef int turns = 0
    cdef int answer = 1
    if able == NULL:
        return 0
    memcpy(able, s.spared, s.count)
    memset(&able[s.expanded], 1, s.count - s.expanded)
    while sweep(s, able):
        turns += 1
        if turns == 4:
            if not backwards(s, able):
                free(able)
                return 0
            break
    for number in range(s.expanded):
        if not able[number]:
            found[0] = number
            answer = 2
            break
    free(able)
    return answer


# --- for Python -------------------------------------------------------------------------------------------------------

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
