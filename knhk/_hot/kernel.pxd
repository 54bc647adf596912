# cython: language_level=3
"""The classes of the compiled kernel, for the compiled modules that are built on it."""

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from knhk._hot.layout cimport NetData, Sight, State, TaskLine
from knhk._hot.lines cimport Lines


cdef class Net(Lines):
    pass


cdef class Marking:
    cdef readonly Net net
    cdef set _undecided
    cdef NetData* of
    cdef uint64_t word  # the state, while `counted` is false
    cdef Sight sight
    cdef State c
    cdef bint counted

    cdef bint _is_idle(self, uint32_t number) noexcept nogil
    cdef bint is_ready_now(self, uint32_t number) noexcept nogil
    cdef uint32_t _number(self, object task) except? 0xFFFFFFFF
    cdef Py_ssize_t _choose(self, uint32_t number, object chosen) except -1
    cdef bint _puts(self, uint32_t number, Py_ssize_t count, uint64_t* puts) noexcept nogil
    cdef int _promote(self) except -1
    cdef int _start(self, uint32_t number) except -1
    cdef int _pass_control(self, uint32_t number, Py_ssize_t count, uint8_t status) except -1
    cdef int _end_round(self, uint32_t number) except -1
    cdef int _make_sure(self, uint32_t number, Py_ssize_t count) except -1
    cdef bint _may_take(self, uint32_t number) noexcept nogil
    cdef int _answer(self, uint32_t view) except -1
    cdef bint _empties(self, const TaskLine* line, uint32_t place) noexcept nogil
    cdef int _check_tokens(self, list counts) except -1
    cdef int _check_status(self, list states) except -1
    cdef list _checked_seen(self, object seen)
