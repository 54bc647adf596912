# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The moves of a net on states of masks (`knhk._hot.space`): a move takes, puts and cancels in a few instructions a word."""

from libc.stdint cimport uint32_t, uint64_t

from knhk._hot.layout cimport ENABLED, population
from knhk._hot.space cimport COUNTED, PLAIN, Masked, Space
from knhk._hot.states cimport hash_made, next_made


cdef inline bint words_ended(const Space* s, const uint64_t* state) noexcept nogil:
    cdef uint32_t at
    cdef uint64_t living = 0, ended = 0
    for at in range(s.words):
        living |= state[at] & s.lives_by[at]
        ended |= state[at] & s.ended_by[at]
    return living == 0 if s.implicit else ended != 0


cdef inline bint words_improper(const Space* s, const uint64_t* state) noexcept nogil:
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
        marked += population(state[at] & mask[4 * words + at])
    if move.kind == COUNTED:
        return marked >= move.required
    return marked > 0 and s.gates[move.task] == ENABLED


cdef inline bint expand_words(Space* s, const uint64_t* state, bint urgent) noexcept nogil:
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
