# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""How a monotone system and one search backward in it lie in memory; what they are, `knhk._orjoin_search` says.

The system is made once for a net and never changes: searches of several threads share it.
All that changes is in `Search`, which lives for one question and belongs to who asked it.

An element is the atoms that it asks for, in ascending order, with their counts (`Arc`: an atom and how many), in a pool.
One element at a time is *at hand*: its counts lie open, by atom, and are changed and changed back (`knhk._hot.elements`).
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc

from knhk._hot.layout cimport Arc, Span

cdef enum:  # what a search comes to, as in `knhk._orjoin_search`
    EXHAUSTED = 0
    COVERED = 1
    OUT_OF_BUDGET = 2
    PAUSED = 3  # it goes on where it was
    BEYOND = 4  # its prices are too large for a word: the reference answers
    MEMORY = 5

cdef enum:  # kinds of edits, as in `knhk._orjoin_search`
    ZERO = 0
    CAP = 1
    DROP = 2

cdef enum:
    CHEAP = 8  # so many comparisons, or pairs of atoms, are one unit of work

cdef enum:  # what a search does
    CLOSING = 0
    OFFERING = 1
    STEPPING = 2

# --- the system ---------------------------------------------------------------------------------------------------------

cdef struct Use:
    uint32_t atom
    uint32_t need  # of an edit: its kind
    uint32_t taken  # of an edit: the weight; of what is given: how many

cdef struct Rule:
    Span forbidden  # atoms of which an element must ask for none, else the rule cannot have led to it
    Span cleared  # control atoms that the rule makes so
    Span required  # control atoms that the predecessor must have
    Span gives  # of uses
    Span edits  # of uses, the last one first
    Span uses  # of uses
    Span among  # of uses
    Span needed  # atoms, as the next two
    Span achieved
    Span ended  # what does not hold beside it: what it breaks and what it empties
    int64_t least  # of `among`

cdef struct System:
    uint32_t atoms
    uint32_t rule_count
    uint32_t words  # of a bit an atom
    uint32_t limit  # a count that is not below it is too large
    Rule* rules
    Use* uses
    uint32_t* numbers
    Span* achievers  # by atom, rules, as the next two
    Span* needers
    Span* helped

# --- a search -----------------------------------------------------------------------------------------------------------

cdef struct Element:
    uint64_t hash
    size_t begin  # in the pool
    uint32_t kinds  # of atoms

cdef struct Entry:  # an element that waits, with its predecessors that have not been looked at
    int64_t cost
    int64_t age  # greater is younger
    int64_t size
    size_t element
    size_t at  # its next rule in `steps`
    size_t end
    size_t choice  # where in `steps` the choice among uses of that rule lies, from which it goes on; 0: at the first one
    bint begun

cdef struct Waiting:
    int64_t cost
    int64_t age
    size_t entry

cdef struct Sketch:  # an element that was taken up
    uint64_t bits  # of its atoms, folded into a word: what is missing here is missing there
    size_t element

cdef struct Shelf:  # the elements of one size
    int64_t size
    size_t count
    size_t room
    Sketch* sketches

cdef struct Due:  # an atom that will hold
    int64_t price
    uint32_t atom

cdef struct Search:
    const System* system
    # The question.
    const uint32_t* have
    const Arc* arcs  # of the targets, each without what is common
    const Span* targets
    size_t target_count
    int64_t budget
    int64_t patience
    # How far it is.
    int phase
    size_t offered  # targets
    size_t current  # an entry one past its number; 0: none
    int64_t work
    int64_t compared
    bint overflow
    bint out_of_memory
    # The closure.
    int64_t* price
    int64_t* rule_price
    int64_t* missing
    int64_t* lacking
    uint32_t* level
    uint32_t* rule_level
    uint32_t* order
    uint32_t order_count
    uint8_t* possible
    uint8_t* met
    uint64_t* ever
    Due* due
    uint32_t due_count
    # The exclusions.
    uint64_t* rows
    # The element at hand.
    uint32_t* counts
    uint64_t* held  # a bit an atom
    uint32_t kinds
    uint64_t hash  # of what was at hand before the change, as the next three
    int64_t cost
    int64_t size
    bint impossible
    bint excessive  # a count is too large
    Arc* changed  # what was changed: the atom, and its count before
    uint32_t changed_count
    uint64_t* marks  # by atom, the change in which it was changed last
    uint64_t change
    uint64_t bits
    # The elements.
    Element* elements
    size_t element_count
    size_t element_room
    Arc* pool
    size_t pool_count
    size_t pool_room
    uint64_t* table
    size_t table_mask
    Entry* entries
    size_t entry_count
    size_t entry_room
    Waiting* heap
    size_t heap_count
    size_t heap_room
    Shelf* shelves
    size_t shelf_count
    size_t shelf_room
    uint32_t* steps
    size_t step_count
    size_t step_room
    uint64_t* keys
    uint64_t* done  # by rule, the list of steps in which it is
    uint64_t listed
    void* block
    void* rough


cdef inline bint ample(void** block, size_t* room, size_t wanted, size_t size) noexcept nogil:
    """Make room for so many; False, and nothing has changed, when memory is out."""
    cdef void* larger
    cdef size_t many = max(2 * wanted, <size_t>64)
    if wanted <= room[0]:
        return True
    larger = realloc(block[0], many * size)
    if larger == NULL:
        return False
    block[0] = larger
    room[0] = many
    return True


cdef inline void* part(char** at, size_t count, size_t size) noexcept nogil:
    cdef void* here = at[0]
    at[0] += (count * size + 7) & ~<size_t>7
    return here


cdef inline bint prepare(Search* s) noexcept nogil:
    """Make the room that every search of the system needs, cleared where it has to be; False when memory is out."""
    cdef size_t atoms = s.system.atoms, rules = s.system.rule_count, words = s.system.words
    cdef char* at
    s.block = calloc(atoms * (8 + 8 + 4 + 4 + 1) + rules * (8 + 1) + words * 16 + 64, 1)
    s.rough = malloc(atoms * (16 + 8 + 8) + rules * (8 + 8 + 8 + 4 + 4) + 64)
    s.table = <uint64_t*>calloc(256, sizeof(uint64_t))
    s.table_mask = 255
    if s.block == NULL or s.rough == NULL or s.table == NULL:
        return False
    at = <char*>s.block
    s.price = <int64_t*>part(&at, atoms, 8)
    s.marks = <uint64_t*>part(&at, atoms, 8)
    s.done = <uint64_t*>part(&at, rules, 8)
    s.ever = <uint64_t*>part(&at, words, 8)
    s.held = <uint64_t*>part(&at, words, 8)
    s.level = <uint32_t*>part(&at, atoms, 4)
    s.counts = <uint32_t*>part(&at, atoms, 4)
    s.met = <uint8_t*>part(&at, atoms, 1)
    s.possible = <uint8_t*>part(&at, rules, 1)
    at = <char*>s.rough
    s.due = <Due*>part(&at, atoms, sizeof(Due))
    s.changed = <Arc*>part(&at, atoms, sizeof(Arc))
    s.keys = <uint64_t*>part(&at, atoms, 8)
    s.rule_price = <int64_t*>part(&at, rules, 8)
    s.missing = <int64_t*>part(&at, rules, 8)
    s.lacking = <int64_t*>part(&at, rules, 8)
    s.rule_level = <uint32_t*>part(&at, rules, 4)
    s.order = <uint32_t*>part(&at, rules, 4)
    return True


cdef inline void release(Search* s) noexcept nogil:
    cdef size_t each
    for each in range(s.shelf_count):
        free(s.shelves[each].sketches)
    free(s.shelves)
    free(s.block)
    free(s.rough)
    free(s.rows)
    free(s.elements)
    free(s.pool)
    free(s.table)
    free(s.entries)
    free(s.heap)
    free(s.steps)
