# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Text that grows: what JSON is written into."""

from cpython.mem cimport PyMem_Realloc
from libc.stdint cimport uint64_t
from libc.string cimport memcpy


cdef struct Text:
    char* at
    Py_ssize_t length
    Py_ssize_t room


cdef inline int need(Text* text, Py_ssize_t more) except -1:
    cdef Py_ssize_t room
    cdef char* larger
    if text.length + more <= text.room:
        return 0
    room = 2 * text.room + more + 256
    larger = <char*>PyMem_Realloc(text.at, room)
    if larger == NULL:
        raise MemoryError
    text.at, text.room = larger, room
    return 0


cdef inline int put(Text* text, const char* what, Py_ssize_t length) except -1:
    need(text, length)
    memcpy(text.at + text.length, what, length)
    text.length += length
    return 0


cdef inline int put_one(Text* text, char what) except -1:
    need(text, 1)
    text.at[text.length] = what
    text.length += 1
    return 0


cdef inline int put_integer(Text* text, long long value) except -1:
    cdef char digits[24]
    cdef int at = 24
    cdef uint64_t left = <uint64_t>value if value >= 0 else 0 - <uint64_t>value
    while True:
        at -= 1
        digits[at] = <char>(48 + left % 10)
        left //= 10
        if left == 0:
            break
    if value < 0:
        at -= 1
        digits[at] = 45
    return put(text, &digits[at], 24 - at)
