# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
"""The search behind the OR-join, compiled: what `knhk._orjoin_search.Backward` defines, on arrays of counts.

The answers are the reference's, and so is the work, unit by unit: whether a budget is enough does not depend on who searches.
`knhk._hot.monotone` says what lies where; `knhk._hot.closure`, `elements` and `backward` are the parts of the search.

A short search keeps the GIL, since to hand it over costs more; a longer one releases it.
Any number of threads may search in one system at once.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from knhk._hot.backward cimport search
from knhk._hot.layout cimport Arc, Span
from knhk._hot.monotone cimport (
    BEYOND, CLOSING, MEMORY, PAUSED, ZERO, Rule, Search, System, Use, prepare, release,
)
from knhk._orjoin_search import ZERO as EMPTIES, backward, patience

cdef enum:
    SHORT = 256  # units of work that are done with the GIL held
    LONG = 100_000  # units of work between two looks for signals
    LARGE = 4_096  # atoms and rules: a system of more takes long before the first unit

MOST = 2**28  # in one arc: sums of a few fit a word
MOST_ATOMS = 2**24


cdef void* room_for(size_t count, size_t size) except NULL:
    cdef void* block = calloc(count + 1, size)
    if block == NULL:
        raise MemoryError
    return block


cdef Span span_of(list pool, object members):
    cdef Span span
    span.begin = <uint32_t>len(pool)
    pool.extend(members)
    span.end = <uint32_t>len(pool)
    return span


cdef Span* spans_of(list pool, object lists) except NULL:
    cdef Span* spans = <Span*>room_for(len(lists), sizeof(Span))
    cdef size_t at = 0
    for each in lists:
        spans[at] = span_of(pool, each)
        at += 1
    return spans


cdef class Backward:
    """
    The search in one system, as `knhk._orjoin_search.backward` makes it.

    Args:
        system: the monotone system.
    """

    cdef System c
    cdef object reference
    cdef bint fits

    def __cinit__(self, system):
        memset(&self.c, 0, sizeof(System))

    def __init__(self, system):
        if self.reference is not None:
            raise RuntimeError("a search is made once for a system")
        self.reference = backward(system)
        numbers = [
            number
            for rule in system.rules
            for uses in (rule.uses, rule.among, rule.edits)
            for _, need, taken in uses
            for number in (need, taken)
        ]
        numbers += [count for rule in system.rules for _, count in rule.gives]
        numbers.append(1 << system.width - 1)
        self.fits = system.atoms < MOST_ATOMS and max(numbers) <= MOST
        if self.fits:
            self._compile(system)

    cdef int _compile(self, object system) except -1:
        cdef System* c = &self.c
        cdef uint32_t number
        cdef size_t at
        uses, numbers = [], []
        c.atoms = system.atoms
        c.rule_count = len(system.rules)
        c.words = (c.atoms + 63) // 64
        c.limit = 1 << system.width - 1
        c.rules = <Rule*>room_for(c.rule_count, sizeof(Rule))
        for number in range(c.rule_count):
            self._compile_rule(&c.rules[number], system.rules[number], uses, numbers)
        c.achievers = spans_of(numbers, system.achievers)
        c.needers = spans_of(numbers, system.needers)
        c.helped = spans_of(numbers, system.helped)
        c.uses = <Use*>room_for(len(uses), sizeof(Use))
        for at, (atom, need, taken) in enumerate(uses):
            c.uses[at].atom = atom
            c.uses[at].need = need
            c.uses[at].taken = taken
        c.numbers = <uint32_t*>room_for(len(numbers), sizeof(uint32_t))
        for at, each in enumerate(numbers):
            c.numbers[at] = each
        return 0

    cdef int _compile_rule(self, Rule* line, object rule, list uses, list numbers) except -1:
        given = {atom for atom, _ in rule.gives}
        emptied = [atom for atom, kind, _ in rule.edits if kind == EMPTIES]
        line.forbidden = span_of(numbers, {*emptied} - given | {*rule.breaks})
        line.cleared = span_of(numbers, rule.after)
        line.required = span_of(numbers, rule.before)
        line.gives = span_of(uses, [(atom, 0, count) for atom, count in rule.gives])
        line.edits = span_of(uses, rule.edits[::-1])
        line.uses = span_of(uses, rule.uses)
        line.among = span_of(uses, rule.among)
        line.needed = span_of(numbers, rule.needed())
        line.achieved = span_of(numbers, rule.achieved())
        line.ended = span_of(numbers, [*rule.breaks, *emptied])
        line.least = rule.least
        return 0

    def __dealloc__(self):
        free(self.c.rules)
        free(self.c.uses)
        free(self.c.numbers)
        free(self.c.achievers)
        free(self.c.needers)
        free(self.c.helped)

    def __call__(self, have, targets, common, budget):
        """Answer as the reference does."""
        cdef Search s
        cdef int code
        cdef Span* spans = NULL
        cdef Arc* arcs = NULL
        cdef uint32_t* counts = NULL
        cdef size_t at
        cdef list pool = []
        asked = [common, *targets]
        if not self.fits:
            return self.reference(have, asked[1:], common, budget)
        if <uint32_t>len(have) != self.c.atoms:
            raise ValueError(f"the state has {len(have)} atoms: the system has {self.c.atoms}")
        memset(&s, 0, sizeof(Search))
        try:
            spans = spans_of(pool, asked)
            arcs = <Arc*>room_for(len(pool), sizeof(Arc))
            for at, (atom, count) in enumerate(pool):
                if not 0 <= atom < self.c.atoms or not 0 < count <= MOST:
                    raise ValueError(f"a target asks for {count} of atom {atom}")
                arcs[at].place = atom
                arcs[at].weight = count
            counts = <uint32_t*>room_for(self.c.atoms, sizeof(uint32_t))
            for at, count in enumerate(have):
                counts[at] = min(count, 2**32 - 1)
            s.system = &self.c
            s.targets, s.arcs, s.have = spans, arcs, counts
            s.target_count = len(asked) - 1
            s.budget = min(budget, 2**62)
            s.patience = patience(self.c.atoms)
            s.phase = CLOSING
            if not prepare(&s):
                raise MemoryError
            code = PAUSED
            if self.c.atoms + self.c.rule_count <= LARGE:
                code = search(&s, SHORT)
            while code == PAUSED:
                with nogil:
                    code = search(&s, s.work + LONG)
                PyErr_CheckSignals()
            if code == MEMORY:
                raise MemoryError
            work = s.work
        finally:
            release(&s)
            free(spans)
            free(arcs)
            free(counts)
        return self.reference(have, asked[1:], common, budget) if code == BEYOND else (code, work)
