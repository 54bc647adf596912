# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What the kernel needs of a compiled net."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport realloc

from knhk._hot.layout cimport ONE, NetData, Span, lowest


cdef inline int make_room(uint32_t** space, size_t* room, size_t wanted) except -1:
    cdef void* larger
    if wanted > room[0]:
        larger = realloc(space[0], 2 * wanted * sizeof(uint32_t))
        if larger == NULL:
            raise MemoryError
        space[0] = <uint32_t*>larger
        room[0] = 2 * wanted
    return 0


cdef inline uint64_t bits_of(const NetData* net, Span span, uint32_t base) noexcept nogil:
    """Return the bits, from `base` up, of the numbers of a span."""
    cdef uint64_t bits = 0
    cdef uint32_t at
    for at in range(span.begin, span.end):
        bits |= ONE << (base + net.numbers[at])
    return bits


cdef inline uint64_t consumers_of(const NetData* net, uint64_t places) noexcept nogil:
    """Return the tasks that take from or read any of these conditions."""
    cdef uint64_t tasks = 0
    while places:
        tasks |= bits_of(net, net.places[lowest(places)].consumers, 0)
        places &= places - 1
    return tasks


cdef class Lines:
    cdef readonly object tables
    cdef readonly object analysis
    cdef list _on  # by task, its number; built once, so that `changes` and `ready` make no object
    cdef list _off  # by task, ~number
    cdef list _pool  # while compiling: the numbers so far
    cdef void* _lines
    cdef void* _words
    cdef NetData c

    cdef int _compile(self, object tables) except -1
    cdef int _compile_task(self, object tables, uint32_t number, list arcs) except -1
    cdef int _compile_words(self) except -1
    cdef int _compile_views(self) except -1
