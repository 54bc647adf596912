# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
"""The search behind the OR-join, compiled: what `knhk._orjoin_search.Backward` defines, on arrays of counts.

The answers are the reference's, and so is the work, unit by unit: whether a budget is enough does not depend on who searches.
`knhk._hot.monotone` says what lies where; `knhk._hot.closure`, `elements` and `backward` are the parts of the search.

A short search keeps the GIL, since to hand it over costs more; a longer one releases it.
Any number of threads may search in one system at once.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.long cimport PyLong_AsLongLongAndOverflow
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from knhk._hot.backward cimport search
from knhk._hot.layout cimport BUSY, ENABLED, UNDECIDED, WAITING, Arc, Span
from knhk._hot.monotone cimport (
    BEYOND, CLOSING, COVERED, MEMORY, OUT_OF_BUDGET, PAUSED, Rule, Search, System, Use, prepare, release,
)
from knhk._orjoin_search import ZERO, backward, patience

cdef enum:
    SHORT = 256  # units of work that are done with the GIL held
    LONG = 100_000  # units of work between two looks for signals
    LARGE = 4_096  # atoms and rules: a system of more takes long before the first unit
    ENOUGH = 0x7FFFFFFF  # an element asks for less

MOST = 2**28  # in one arc: sums of a few fit a word
MOST_ATOMS = 2**24
cdef object NOTHING = 0


cdef enum:  # kinds of atoms, as in `knhk._orjoin`
    TOKENS = 0
    RUNS = 1

cdef struct Input:
    uint32_t condition
    uint32_t weight
    uint32_t atom

cdef inline bint meet(const uint64_t* one, const uint64_t* other, size_t words) noexcept nogil:
    cdef size_t at
    for at in range(words):
        if one[at] & other[at]:
            return True
    return False


cdef uint32_t count_of(object number) except? 0xFFFFFFFF:
    """Return how many that are, but no more than any element can ask for."""
    cdef int overflow = 0
    cdef long long count = PyLong_AsLongLongAndOverflow(number, &overflow)
    return <uint32_t>min(max(count, <long long>0), <long long>ENOUGH) if not overflow else ENOUGH


cdef int read_counts(uint32_t* to, size_t size, object counts, str of) except -1:
    cdef size_t at = 0
    for each in counts:
        if at < size:
            # Nearly all are this very object: it need not be read.
            to[at] = 0 if each is NOTHING else count_of(each)
        at += 1
    if at != size:
        raise ValueError(f"the state has {at} {of}: {size} are expected")
    return 0


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
        emptied = [atom for atom, kind, _ in rule.edits if kind == ZERO]
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
        try:
            spans = spans_of(pool, asked)
            arcs = <Arc*>room_for(len(pool), sizeof(Arc))
            for at, (atom, count) in enumerate(pool):
                if not 0 <= atom < self.c.atoms or not 0 < count <= MOST:
                    raise ValueError(f"a target asks for {count} of atom {atom}")
                arcs[at].place = atom
                arcs[at].weight = count
            counts = <uint32_t*>room_for(self.c.atoms, sizeof(uint32_t))
            read_counts(counts, self.c.atoms, have, "atoms")
            code = self._search(&s, counts, arcs, spans, len(asked) - 1, min(budget, 2**62))
        finally:
            free(spans)
            free(arcs)
            free(counts)
        return self.reference(have, asked[1:], common, budget) if code == BEYOND else (code, s.work)

    cdef int _search(
        self, Search* s, const uint32_t* have, const Arc* arcs, const Span* spans, size_t targets, int64_t budget
    ) except -1:
        """Search for one of the targets, whose spans come after that of what is common to them."""
        cdef int code = PAUSED
        memset(s, 0, sizeof(Search))
        s.system = &self.c
        s.have, s.arcs, s.targets = have, arcs, spans
        s.target_count = targets
        s.budget = budget
        s.patience = patience(self.c.atoms)
        s.phase = CLOSING
        try:
            if not prepare(s):
                raise MemoryError
            if self.c.atoms + self.c.rule_count <= LARGE:
                code = search(s, SHORT)
            while code == PAUSED:
                with nogil:
                    code = search(s, s.work + LONG)
                PyErr_CheckSignals()
            if code == MEMORY:
                raise MemoryError
        finally:
            release(s)
        return code


cdef class Decision:
    """
    The decision of one OR-join, compiled: steps 1 to 4 of `knhk._orjoin`, where no partial join remembers anything.

    Args:
        search: the search in the join's system.
        tiers: for each input of the join, its arc and the bits of steps 1 and 2, as `OrJoinAnalysis.tiers` says.
        atoms: for each atom of the system, its kind, and the condition or task that it is about.
        size: how many conditions and tasks the net has.
        budget: units of work.
        remembered: how many answers are kept (step 3).
    """

    cdef Backward search
    cdef Input* inputs
    cdef uint64_t* upstream  # by input, a bit a condition, and above them one a running task
    cdef uint64_t* escorts
    cdef uint32_t* atoms  # by atom, its condition, or behind those of the net its running task
    cdef size_t input_count
    cdef size_t places  # conditions of the net
    cdef size_t tasks
    cdef size_t words
    cdef size_t remembered
    cdef int64_t budget
    cdef readonly dict answers

    def __init__(self, Backward search not None, tiers, atoms, size, budget, remembered):
        cdef size_t at
        if self.search is not None:
            raise RuntimeError("a decision is made once for an OR-join")
        self.search = search
        self.places, self.tasks = size
        self.words = (self.places + self.tasks + 63) // 64
        self.budget = min(budget, 2**62)
        self.remembered = remembered
        self.answers = {}
        self.input_count = len(tiers)
        self.inputs = <Input*>room_for(self.input_count, sizeof(Input))
        for at, ((condition, weight), _, _) in enumerate(tiers):
            self.inputs[at].condition = condition
            self.inputs[at].weight = weight
            self.inputs[at].atom = atoms.index((TOKENS, condition))
        self.upstream = self._words_of([upstream for _, upstream, _ in tiers])
        self.escorts = self._words_of([escorts for _, _, escorts in tiers])
        self.atoms = <uint32_t*>room_for(len(atoms), sizeof(uint32_t))
        for at, (kind, number) in enumerate(atoms):
            # That a task does not run is asked for only where a partial join remembers.
            if kind not in (TOKENS, RUNS):
                raise ValueError(f"atom {at} is of kind {kind}, which only a net with partial joins that remember has")
            self.atoms[at] = number if kind == TOKENS else self.places + number

    cdef uint64_t* _words_of(self, object masks) except NULL:
        cdef uint64_t* block = <uint64_t*>room_for(len(masks) * self.words, sizeof(uint64_t))
        cdef size_t at = 0, word
        for mask in masks:
            for word in range(self.words):
                block[at] = (mask >> 64 * word) & 0xFFFFFFFFFFFFFFFF
                at += 1
        return block

    def __dealloc__(self):
        free(self.inputs)
        free(self.upstream)
        free(self.escorts)
        free(self.atoms)

    def __call__(self, marking, status):
        """Answer as `OrJoinAnalysis.decide` does."""
        cdef uint32_t* counts
        cdef size_t at
        counts = <uint32_t*>room_for(self.places + self.tasks, sizeof(uint32_t))
        try:
            read_counts(counts, self.places, marking, "conditions")
            read_counts(counts + self.places, self.tasks, status, "tasks")
            for at in range(self.places, self.places + self.tasks):
                counts[at] = counts[at] == BUSY
            return self._decide(counts)
        finally:
            free(counts)

    cdef int _decide(self, const uint32_t* counts) except -1:
        """Decide for a state: by condition its tokens, and behind them by task whether it runs."""
        cdef uint64_t* held
        cdef Arc* arcs
        cdef Span* spans
        cdef size_t at, targets = 0
        cdef uint32_t marked = 0
        cdef const Input* each
        cdef void* block = room_for(self.words * 8 + self.input_count * (sizeof(Arc) + sizeof(Span)) + sizeof(Span), 1)
        held = <uint64_t*>block
        arcs = <Arc*>(held + self.words)
        spans = <Span*>(arcs + self.input_count)
        try:
            for at in range(self.input_count):
                each = &self.inputs[at]
                if counts[each.condition] >= each.weight:
                    arcs[marked].place, arcs[marked].weight = each.atom, each.weight
                    marked += 1
            if marked == 0 or marked == self.input_count:
                return ENABLED if marked else WAITING
            for at in range(self.places + self.tasks):
                held[at >> 6] |= <uint64_t>(counts[at] > 0) << (at & 63)
            spans[0].end = marked
            for at in range(self.input_count):
                each = &self.inputs[at]
                if counts[each.condition] < each.weight and meet(held, self.upstream + at * self.words, self.words):
                    if meet(held, self.escorts + at * self.words, self.words):
                        return WAITING
                    arcs[marked + targets].place, arcs[marked + targets].weight = each.atom, each.weight
                    targets += 1
                    spans[targets].begin = <uint32_t>(marked + targets - 1)
                    spans[targets].end = <uint32_t>(marked + targets)
            return self._remember(counts, arcs, spans, targets) if targets else ENABLED
        finally:
            free(block)

    cdef int _remember(self, const uint32_t* counts, const Arc* arcs, const Span* spans, size_t targets) except -1:
        """Answer what was answered before, or search."""
        cdef Search s
        cdef size_t at, atoms = self.search.c.atoms
        cdef bytes key = PyBytes_FromStringAndSize(NULL, atoms * sizeof(uint32_t))
        cdef uint32_t* have = <uint32_t*>PyBytes_AS_STRING(key)
        for at in range(atoms):
            have[at] = counts[self.atoms[at]]
        found = self.answers.get(key)
        if found is None:
            code = self.search._search(&s, have, arcs, spans, targets, self.budget)
            if code == BEYOND:
                code = self._refer(have, arcs, spans, targets)
            found = UNDECIDED if code == OUT_OF_BUDGET else WAITING if code == COVERED else ENABLED
            if <size_t>len(self.answers) >= self.remembered:
                self.answers.clear()
            self.answers[key] = found
        return found

    cdef int _refer(self, const uint32_t* have, const Arc* arcs, const Span* spans, size_t targets) except -1:
        """Ask the reference."""
        cdef size_t at
        cdef uint32_t each
        asked = [
            [(arcs[each].place, arcs[each].weight) for each in range(spans[at].begin, spans[at].end)]
            for at in range(targets + 1)
        ]
        state = [have[at] for at in range(self.search.c.atoms)]
        return self.search.reference(state, asked[1:], asked[0], self.budget)[0]


def decision(search, tiers, atoms, size, budget, remembered):
    """Return a `Decision`, or None where counts are too large for it."""
    return Decision(search, tiers, atoms, size, budget, remembered) if (<Backward?>search).fits else None
