# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What other modules in C write JSON with."""

from knhk._hot.text cimport Text

cdef enum:
    DEEPEST = 100  # levels; what is nested deeper is the caller's, who has Python's own limit


cdef class Foreign(Exception):
    pass


cdef int put_tree(Text* text, object tree, int depth) except -1
