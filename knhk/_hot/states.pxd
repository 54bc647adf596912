# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The states found so far: storing one, finding it again, and recording what leads to it.

States lie one after the other in the order in which they were found, each with the number of the state before it: a breadth
first search, whose paths are shortest.  An open-addressing table of (hash, number) finds them again; it is never more than three
quarters full and grows with the states.  What a state leads to is looked up when the moves of the next state have been made, so
that the table's lines are on their way meanwhile.

What runs out of memory says so in `Space.out_of_memory` or its answer, and leaves what was found.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy

from knhk._hot.layout cimport likely
from knhk._hot.space cimport NO_STATE, Space

cdef extern from *:
    """
    #ifndef KNHK_EXPECT
    #define KNHK_EXPECT
    #if defined(_MSC_VER)
    #include <intrin.h>
    #define knhk_expect(address) _mm_prefetch((const char*)(address), _MM_HINT_T0)
    #else
    #define knhk_expect(address) __builtin_prefetch(address)
    #endif
    #endif
    """
    void expect "knhk_expect"(const void* address) noexcept nogil


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


cdef inline bint grow_table(Space* s) noexcept nogil:
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


cdef inline bint grow_states(Space* s) noexcept nogil:
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


cdef inline void note(Space* s, uint32_t number) noexcept nogil:
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
    if not likely(number < s.room) and not grow_states(s):
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
    if not likely(4 * <uint64_t>s.count <= 3 * s.table_mask) and not grow_table(s):
        s.out_of_memory = True
    return number


cdef inline uint64_t* next_made(Space* s) noexcept nogil:
    """Return room for one more state among those that the current one leads to."""
    cdef size_t room
    cdef void* larger
    if not likely(s.made_count < s.made_room):
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


cdef inline void delay(Space* s, uint32_t number) noexcept nogil:
    """Keep what a state leads to for later."""
    cdef uint64_t* made = s.made
    cdef uint64_t* hashes = s.hashes
    cdef uint32_t room = s.made_room
    s.made, s.hashes, s.made_room = s.late, s.late_hashes, s.late_room
    s.late, s.late_hashes, s.late_room = made, hashes, room
    s.late_count = s.made_count
    s.pending = number


cdef inline bint look_up(Space* s) noexcept nogil:
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
    if not likely(s.edge_count + s.late_count <= s.edge_room):
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
