# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The moves of a net on general states (`knhk._hot.space`): the rules of `knhk._kernel`, on bytes, in its order."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from knhk._hot.layout cimport AND, BUSY, DRAINING, ENABLED, IDLE, OR, PARTIAL, XOR, Arc, Span
from knhk._hot.space cimport (
    CANCELS_ITSELF, COMPLETES_AT_ONCE, DETACHED, DRAINS, FUSED, JOIN_CANCELS, MOST, STARTS_AT_ONCE,
    Space, Task,
)
from knhk._hot.states cimport next_made


cdef inline bint bytes_ended(const Space* s, const uint8_t* state) noexcept nogil:
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


cdef inline bint bytes_improper(const Space* s, const uint8_t* state) noexcept nogil:
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


cdef inline bint in_round(const Space* s, const uint8_t* state, const Task* task) noexcept nogil:
    cdef uint32_t at
    if task.seen >= 0:
        for at in range((inputs_of(task) + 7) // 8):
            if state[task.seen + at]:
                return True
    return False


cdef inline bint may_start(const Space* s, const uint8_t* state, uint32_t number) noexcept nogil:
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


cdef inline void cancel(const Space* s, uint8_t* state, Span conditions, Span tasks, uint32_t keep) noexcept nogil:
    cdef uint32_t at, other
    for at in range(conditions.begin, conditions.end):
        state[s.numbers[at]] = 0
    for at in range(tasks.begin, tasks.end):
        other = s.numbers[at]
        if other != keep:
            forget(s, state, other)
            state[s.status_at + other] = IDLE


cdef inline void swallow(const Space* s, uint8_t* state, uint32_t number) noexcept nogil:
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


cdef inline bint put(const Space* s, uint8_t* state, Span arcs) noexcept nogil:
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


cdef inline void take(const Space* s, uint8_t* state, uint32_t number) noexcept nogil:
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


cdef inline bint pass_control(const Space* s, uint8_t* state, uint32_t number, uint8_t status, Span arcs) noexcept nogil:
    cdef const Task* task = &s.tasks[number]
    cancel(s, state, task.conditions, task.tasks, number)
    state[s.status_at + number] = status
    if task.flags & CANCELS_ITSELF:
        forget(s, state, number)
    return put(s, state, arcs)


cdef inline uint8_t* copied(Space* s) noexcept nogil:
    cdef uint64_t* later = next_made(s)
    if later != NULL:
        memcpy(later, s.current, s.words * sizeof(uint64_t))
    return <uint8_t*>later


cdef inline void passes(Space* s, uint32_t number, bint starts, uint8_t status, uint32_t from_) noexcept nogil:
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


cdef inline bint expand_bytes(Space* s, uint32_t from_, bint urgent) noexcept nogil:
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
