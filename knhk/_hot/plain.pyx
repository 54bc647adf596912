# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
"""JSON trees, quickly: copied, and written as bytes.

Both do what the ``json`` module does with the objects that it makes itself (None, bool, int, float, str, list, dict with str
keys, and tuples, which it takes for lists), and with nothing else: for any other object, and for all that is no JSON, they
return None, and the caller asks ``json``, which knows what to do or to say.
"""

from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact
from cpython.long cimport PyLong_Check, PyLong_CheckExact
from cpython.mem cimport PyMem_Free
from cpython.tuple cimport PyTuple_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact
from libc.math cimport isfinite
from libc.string cimport strlen

from knhk._hot.text cimport Text, need, put, put_integer, put_one

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1
    char* PyOS_double_to_string(double value, char format_code, int precision, int flags, int* kind) except NULL
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    bytes PyBytes_FromStringAndSize(const char* text, Py_ssize_t size)
    int Py_DTSF_ADD_DOT_0


cdef class Foreign(Exception):
    """An object that is not ours to handle."""


cdef object FOREIGN = Foreign()


cdef object copied(object tree, int depth, Py_ssize_t* left):
    cdef dict copy
    cdef list items
    cdef int overflow = 0
    left[0] -= 5
    if left[0] < 0:
        raise FOREIGN
    if tree is None or tree is True or tree is False:
        return tree
    if PyLong_CheckExact(tree):
        PyLong_AsLongLongAndOverflow(tree, &overflow)
        if overflow:
            # Of any length: `json` writes it, and so says how long.
            raise FOREIGN
        return tree
    if PyUnicode_CheckExact(tree):
        left[0] -= PyUnicode_GET_LENGTH(tree)
        if not PyUnicode_IS_ASCII(tree):
            checked(tree)
        return tree
    if PyFloat_CheckExact(tree):
        if not isfinite(PyFloat_AS_DOUBLE(tree)):
            raise FOREIGN
        return tree
    if depth == 0:
        raise FOREIGN
    if type(tree) is dict:
        copy = {}
        for key, value in (<dict>tree).items():
            if not PyUnicode_CheckExact(key):
                raise FOREIGN
            if not PyUnicode_IS_ASCII(key):
                checked(key)
            left[0] -= PyUnicode_GET_LENGTH(key)
            copy[key] = copied(value, depth - 1, left)
        return copy
    if PyList_CheckExact(tree) or PyTuple_CheckExact(tree):
        items = []
        for value in tree:
            items.append(copied(value, depth - 1, left))
        return items
    raise FOREIGN


cdef int checked(object text) except -1:
    """Refuse lone surrogates."""
    cdef Py_ssize_t size
    try:
        PyUnicode_AsUTF8AndSize(text, &size)
    except UnicodeEncodeError:
        raise FOREIGN from None
    return 0


def copy(tree, Py_ssize_t size):
    """
    Return a copy that shares nothing that can change; None for None, for what is not ours, and for what may be too large.

    `size` is how many characters it may have as texts and keys, each value counted as five more.
    """
    try:
        made = copied(tree, DEEPEST, &size)
    except Foreign:
        return None
    return made if size >= 0 else None


cdef int put_number(Text* text, object number) except -1:
    cdef int overflow = 0
    cdef long long value = PyLong_AsLongLongAndOverflow(number, &overflow)
    cdef bytes written
    if overflow:
        written = int.__repr__(number).encode()
        return put(text, written, len(written))
    return put_integer(text, value)


cdef int put_text(Text* text, object word) except -1:
    cdef Py_ssize_t size, at, begun = 0
    cdef const char* letters
    cdef unsigned char letter
    cdef const char* hexadecimal = b"0123456789abcdef"
    try:
        letters = PyUnicode_AsUTF8AndSize(word, &size)
    except UnicodeEncodeError:
        raise FOREIGN from None
    need(text, size + 2)
    put_one(text, 34)
    for at in range(size):
        letter = letters[at]
        if letter >= 32 and letter != 34 and letter != 92:
            continue
        put(text, letters + begun, at - begun)
        begun = at + 1
        put_one(text, 92)
        if letter == 34 or letter == 92:
            put_one(text, <char>letter)
        elif letter == 10:
            put_one(text, 110)
        elif letter == 13:
            put_one(text, 114)
        elif letter == 9:
            put_one(text, 116)
        elif letter == 8:
            put_one(text, 98)
        elif letter == 12:
            put_one(text, 102)
        else:
            put(text, b"u00", 3)
            put_one(text, hexadecimal[letter >> 4])
            put_one(text, hexadecimal[letter & 15])
    put(text, letters + begun, size - begun)
    return put_one(text, 34)


cdef int put_float(Text* text, double value) except -1:
    cdef char* written
    if not isfinite(value):
        raise FOREIGN
    written = PyOS_double_to_string(value, b"r", 0, Py_DTSF_ADD_DOT_0, NULL)
    try:
        return put(text, written, strlen(written))
    finally:
        PyMem_Free(written)


cdef int put_tree(Text* text, object tree, int depth) except -1:
    cdef bint behind = False
    if tree is None:
        return put(text, b"null", 4)
    if tree is True:
        return put(text, b"true", 4)
    if tree is False:
        return put(text, b"false", 5)
    if PyLong_Check(tree):
        return put_number(text, tree)
    if PyUnicode_CheckExact(tree):
        return put_text(text, tree)
    if PyFloat_CheckExact(tree):
        return put_float(text, PyFloat_AS_DOUBLE(tree))
    if depth == 0:
        raise FOREIGN
    if PyList_CheckExact(tree) or PyTuple_CheckExact(tree):
        put_one(text, 91)
        for value in tree:
            if behind:
                put_one(text, 44)
            behind = True
            put_tree(text, value, depth - 1)
        return put_one(text, 93)
    if type(tree) is not dict:
        raise FOREIGN
    put_one(text, 123)
    for key, value in (<dict>tree).items():
        if not PyUnicode_CheckExact(key):
            raise FOREIGN
        if behind:
            put_one(text, 44)
        behind = True
        put_text(text, key)
        put_one(text, 58)
        put_tree(text, value, depth - 1)
    return put_one(text, 125)


def dump(tree):
    """Return the bytes of compact JSON in UTF-8; None for what is not ours."""
    cdef Text text
    text.at, text.length, text.room = NULL, 0, 0
    try:
        put_tree(&text, tree, DEEPEST)
        return PyBytes_FromStringAndSize(text.at, text.length)
    except Foreign:
        return None
    finally:
        PyMem_Free(text.at)
