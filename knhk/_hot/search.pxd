# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The search itself, breadth first, and the question whether the end can be reached from every state.

Whether it can is decided over the recorded moves: sweeps from the last state to the first, which settle nearly
everything, then a search backwards for what four sweeps have left.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from knhk._hot.general cimport bytes_ended, bytes_improper, expand_bytes, inputs_of
from knhk._hot.layout cimport ENABLED, IDLE, UNDECIDED, WAITING, population
from knhk._hot.masks cimport expand_words, words_ended, words_improper
from knhk._hot.space cimport ASK, DONE, LIMIT, MEMORY, NO_STATE, RECORD, UNSAFE, Space, Task
from knhk._hot.states cimport delay, hash_made, look_up


cdef inline bint plain_gates(Space* s) noexcept nogil:
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
                marked += population(s.current[at] & mask[at])
                inputs += population(mask[at])
                if (s.current[at] & mask[s.words + at]) != mask[s.words + at] or s.current[at] & mask[2 * s.words + at]:
                    possible = False
        s.gates[number] = ENABLED if possible and marked == inputs else WAITING
        if possible and 0 < marked < inputs:
            s.gates[number] = UNDECIDED
            all_plain = False
    return all_plain


cdef inline int expand(Space* s) noexcept nogil:
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


cdef inline int search(Space* s, uint64_t until) noexcept nogil:
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


# --- whether the end can be reached -------------------------------------------------------------------------------------

cdef inline bint sweep(const Space* s, uint8_t* able) noexcept nogil:
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


cdef inline bint backwards(const Space* s, uint8_t* able) noexcept nogil:
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


cdef inline int first_doomed(const Space* s, uint32_t* found) noexcept nogil:
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
