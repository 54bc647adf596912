# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
"""Many cases of one net, a word each: steps for all of them in one call.

What a step means is `knhk._hot.words.fire_word`, with all its checks; here are the loops around it, for one case that goes
through many tasks, for one step of each of many cases, and for the same step of all cases, which is vector code.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t

from knhk._hot.kernel cimport Net
from knhk._hot.layout cimport AND, FIRED, ONE, OR, PARTIAL, XOR, WordLine
from knhk._hot.words cimport fire_word

cdef extern from "same_step.h":
    ctypedef struct knhk_masks:
        uint64_t inputs
        uint64_t busy
        uint64_t outputs
    ctypedef size_t (*knhk_step)(const knhk_masks*, uint64_t*, const uint64_t*, size_t) noexcept nogil
    int knhk_best_level() noexcept nogil
    knhk_step knhk_step_of(int level, int join, int split) noexcept nogil
    uint64_t knhk_ticks() noexcept nogil
    void knhk_soon(const void* address) noexcept nogil

cdef enum:
    AHEAD = 16  # cases whose words are asked for before they are needed
    ENOUGH = 10_000  # cases for which it pays to let other threads go on

LEVELS = ("baseline", "avx2", "avx512")
"""The instruction sets of `Words.fire_same`."""

BEST = LEVELS[knhk_best_level()]
"""The best of them that this processor has."""


def ticks():
    """Return the processor's reference clock; 0 where it cannot be read."""
    return knhk_ticks()


cdef struct FreeLine:  # a task's masks for a step without a branch: `WordLine` with its joins and splits as masks
    uint64_t inputs
    uint64_t busy
    uint64_t outputs
    uint64_t all_in  # all ones for an AND-join
    uint64_t one_in  # all ones for an XOR-join
    uint64_t all_out  # all ones for an AND-split
    uint64_t one_out  # all ones for an XOR-split
    uint64_t room  # to a line of the cache


cdef class Words:
    """
    The states of many cases of a net.

    A step names a task and ``facts``: the conditions, as bits, that an XOR- or OR-split puts a token on; an XOR-split takes
    the lowest of them.  What is not a legal step of a case leaves it as it was.

    Args:
        net: a net whose state fits a word, none of whose tasks cancels, reads, is detached or joins otherwise than AND or
            XOR in the order of its conditions' numbers.
        count: how many cases; each has one token in the input condition.
        level: one of `LEVELS` for `fire_same`; None: `BEST`.

    Raises:
        ValueError: the net or the level is not such a one.
    """

    cdef readonly Net net
    cdef readonly str level
    cdef uint64_t* words
    cdef FreeLine* lines
    cdef void* block
    cdef Py_ssize_t count
    cdef int steps

    def __cinit__(self, Net net not None, Py_ssize_t count, *, level=None):
        cdef Py_ssize_t each
        if not net.c.fits_word:
            raise ValueError("the net's state does not fit one word")
        for each in range(net.c.task_count):
            if net.c.words[each].flags or net.c.words[each].join in (OR, PARTIAL):
                raise ValueError(f"task {net.tables.tasks[each]} is none of those that are fired in batches")
        if count < 0:
            raise ValueError(f"there cannot be {count} cases")
        self.level = BEST if level is None else level
        if self.level not in LEVELS[: LEVELS.index(BEST) + 1]:
            raise ValueError(f"this processor has no {level!r}; it has {', '.join(LEVELS[: LEVELS.index(BEST) + 1])}")
        self.steps = LEVELS.index(self.level)
        self.net, self.count = net, count
        self.block = PyMem_Malloc(net.c.task_count * sizeof(FreeLine) + (count + 8) * sizeof(uint64_t))
        if self.block == NULL:
            raise MemoryError
        self.lines = <FreeLine*>((<uintptr_t>self.block + 63) & ~<uintptr_t>63)
        for each in range(net.c.task_count):
            free_line(&net.c.words[each], &self.lines[each])
        self.words = <uint64_t*>&self.lines[net.c.task_count]
        for each in range(count):
            self.words[each] = 1

    def __dealloc__(self):
        PyMem_Free(self.block)

    def __len__(self):
        return self.count

    def __getitem__(self, Py_ssize_t case):
        """Return a case's state: a bit a condition, and above them a bit a task, which is 0 between steps."""
        if not 0 <= case < self.count:
            raise IndexError(f"there is no case {case}: there are {self.count}")
        return self.words[case]

    def step(self, Py_ssize_t case, Py_ssize_t task, uint64_t facts=0xFFFFFFFFFFFFFFFF):
        """Fire a task of a case; return whether that was legal."""
        if not 0 <= case < self.count:
            raise IndexError(f"there is no case {case}: there are {self.count}")
        if not 0 <= task < self.net.c.task_count:
            raise IndexError(f"there is no task {task}: the net has {self.net.c.task_count}")
        return fire_word(&self.net.c.words[task], &self.words[case], facts) == FIRED

    def fire_in_turn(self, Py_ssize_t case, const unsigned char[::1] tasks, const unsigned long long[::1] facts):
        """Fire these tasks of one case, one after the other; return how many were before the first that was not legal."""
        cdef const WordLine* lines = self.net.c.words
        cdef Py_ssize_t at, count = tasks.shape[0]
        cdef uint64_t word
        self._check(tasks, facts)
        if not 0 <= case < self.count:
            raise IndexError(f"there is no case {case}: there are {self.count}")
        word = self.words[case]
        at = 0
        if count:
            at = in_turn(lines, &word, &tasks[0], <const uint64_t*>&facts[0], count)
        self.words[case] = word
        return at

    def fire_each(self, const unsigned char[::1] tasks, const unsigned long long[::1] facts):
        """Fire one task of each case, in order: the first of `tasks` for the first case; return how many were not legal."""
        cdef Py_ssize_t count = tasks.shape[0]
        cdef Py_ssize_t refused = 0
        self._check(tasks, facts)
        if count > self.count:
            raise IndexError(f"{count} steps are more than there are cases: {self.count}")
        if count >= ENOUGH:
            with nogil:
                refused = each_one(self.net.c.words, self.words, &tasks[0], <const uint64_t*>&facts[0], count)
        elif count:
            refused = each_one(self.net.c.words, self.words, &tasks[0], <const uint64_t*>&facts[0], count)
        return refused

    def fire_mixed(
        self, const unsigned int[::1] cases, const unsigned char[::1] tasks, const unsigned long long[::1] facts
    ):
        """Fire a task of each of these cases, in this order; return how many were not legal."""
        cdef Py_ssize_t at, count = tasks.shape[0], refused = 0
        self._check(tasks, facts)
        if cases.shape[0] != count:
            raise ValueError(f"{cases.shape[0]} cases do not go with {count} tasks")
        for at in range(count):
            if cases[at] >= <size_t>self.count:
                raise IndexError(f"there is no case {cases[at]}: there are {self.count}")
        if count:
            with nogil:
                refused = mixed(
                    self.lines, self.words, <const uint32_t*>&cases[0], &tasks[0], <const uint64_t*>&facts[0], count
                )
        return refused

    def fire_same(self, Py_ssize_t task, const unsigned long long[::1] facts=None):
        """Fire one task of all cases; return how many of them it was not legal for."""
        cdef const WordLine* line
        cdef knhk_masks masks
        cdef knhk_step step
        cdef size_t refused
        if not 0 <= task < self.net.c.task_count:
            raise IndexError(f"there is no task {task}: the net has {self.net.c.task_count}")
        line = &self.net.c.words[task]
        if line.split != AND and (facts is None or facts.shape[0] < self.count):
            raise ValueError(f"task {task} needs facts for each of the {self.count} cases")
        if self.count == 0:
            return 0
        masks.inputs, masks.busy, masks.outputs = line.inputs, line.busy, line.outputs
        step = knhk_step_of(self.steps, line.join, line.split)
        if self.count >= ENOUGH:
            with nogil:
                refused = step(&masks, self.words, NULL if facts is None else <const uint64_t*>&facts[0], self.count)
        else:
            refused = step(&masks, self.words, NULL if facts is None else <const uint64_t*>&facts[0], self.count)
        return refused

    cdef int _check(self, const unsigned char[::1] tasks, const unsigned long long[::1] facts) except -1:
        cdef Py_ssize_t at
        cdef unsigned char most = 0
        if facts.shape[0] < tasks.shape[0]:
            raise ValueError(f"{facts.shape[0]} facts are too few for {tasks.shape[0]} tasks")
        for at in range(tasks.shape[0]):
            most = max(most, tasks[at])
        if tasks.shape[0] and most >= self.net.c.task_count:
            raise IndexError(f"there is no task {most}: the net has {self.net.c.task_count}")
        return 0


cdef void free_line(const WordLine* line, FreeLine* free) noexcept nogil:
    free.inputs, free.busy, free.outputs = line.inputs, line.busy, line.outputs
    free.all_in = 0 - <uint64_t>(line.join == AND)
    free.one_in = 0 - <uint64_t>(line.join == XOR)
    free.all_out = 0 - <uint64_t>(line.split == AND)
    free.one_out = 0 - <uint64_t>(line.split == XOR)
    free.room = 0


cdef inline uint64_t fire_free(const FreeLine* line, uint64_t* at, uint64_t facts) noexcept nogil:
    """`fire_word` without a branch, for steps that cannot be foreseen; return whether the step was not legal."""
    cdef uint64_t word = at[0]
    cdef uint64_t marked = word & line.inputs
    cdef uint64_t taken = marked & (~line.one_in | (0 - marked))
    cdef uint64_t put = line.outputs & (facts | line.all_out)
    cdef uint64_t wrong
    put &= ~line.one_out | (0 - put)
    wrong = (word & line.busy) | ((marked ^ line.inputs) & line.all_in) | ((word ^ taken) & put)
    wrong |= <uint64_t>(marked == 0) | (<uint64_t>(put == 0) & ~line.all_out)
    wrong = <uint64_t>(wrong != 0)
    at[0] = word ^ ((taken ^ put) & (wrong - 1))
    return wrong


cdef Py_ssize_t in_turn(
    const WordLine* lines, uint64_t* at, const uint8_t* tasks, const uint64_t* facts, Py_ssize_t count
) noexcept nogil:
    cdef uint64_t word = at[0]
    cdef Py_ssize_t each
    for each in range(count):
        if fire_word(&lines[tasks[each]], &word, facts[each]) != FIRED:
            at[0] = word
            return each
    at[0] = word
    return count


cdef Py_ssize_t each_one(
    const WordLine* lines, uint64_t* words, const uint8_t* tasks, const uint64_t* facts, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t each, refused = 0
    for each in range(count):
        refused += fire_word(&lines[tasks[each]], &words[each], facts[each]) != FIRED
    return refused


cdef Py_ssize_t mixed(
    const FreeLine* lines, uint64_t* words, const uint32_t* cases, const uint8_t* tasks, const uint64_t* facts, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t each, refused = 0
    for each in range(count):
        if each + AHEAD < count:
            knhk_soon(&words[cases[each + AHEAD]])
        refused += fire_free(&lines[tasks[each]], &words[cases[each]], facts[each])
    return refused
