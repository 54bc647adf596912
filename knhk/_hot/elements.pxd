# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The element at hand, and the elements that are known.

At hand are the counts of one element, open by atom.  A step back changes them (`write`), what comes out is offered (`offer`), and
they are changed back (`restore`): only what differs from the element before is looked at.

Every element that was offered is known: a table of hashes finds it again, and it is compared in full.
Those that were taken up stand on shelves by size, with a word of their atoms each, so that most comparisons end with one word.

What runs out of memory says so in `Search.out_of_memory`.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from knhk._hot.closure cimport has
from knhk._hot.layout cimport ONE, Arc, lowest
from knhk._hot.monotone cimport CHEAP, Element, Entry, Search, Shelf, Sketch, Waiting, ample
from knhk._hot.states cimport mixed

cdef enum:
    REFUSED = -1


cdef inline uint64_t hash_of(uint32_t atom, uint32_t count) noexcept nogil:
    return mixed(<uint64_t>atom << 32 | count) if count else 0


# --- the element at hand ------------------------------------------------------------------------------------------------


cdef inline void begin_change(Search* s) noexcept nogil:
    s.change += 1
    s.changed_count = 0


cdef inline void write(Search* s, uint32_t atom, uint32_t count) noexcept nogil:
    if s.marks[atom] != s.change:
        s.marks[atom] = s.change
        s.changed[s.changed_count].place = atom
        s.changed[s.changed_count].weight = s.counts[atom]
        s.changed_count += 1
    s.counts[atom] = count


cdef inline void hold(Search* s, uint32_t atom, bint before, bint now) noexcept nogil:
    """Keep the bits of the atoms that are asked for, and how many they are."""
    if before != now:
        s.held[atom >> 6] ^= ONE << (atom & 63)
        s.kinds += now - before


cdef inline void restore(Search* s) noexcept nogil:
    cdef uint32_t at, atom, before
    for at in range(s.changed_count):
        atom = s.changed[at].place
        before = s.changed[at].weight
        hold(s, atom, has(s.held, atom), before > 0)
        s.counts[atom] = before
    s.changed_count = 0


cdef inline void put_down(Search* s) noexcept nogil:
    """Ask for nothing."""
    cdef uint32_t word, atom
    for word in range(s.system.words):
        while s.held[word]:
            atom = 64 * word + lowest(s.held[word])
            s.held[word] &= s.held[word] - 1
            s.counts[atom] = 0
    s.kinds = 0
    s.hash = 0
    s.cost = s.size = 0
    s.impossible = s.excessive = False


cdef inline void take_up(Search* s, const Entry* entry) noexcept nogil:
    cdef const Element* element = &s.elements[entry.element]
    cdef const Arc* arcs = &s.pool[element.begin]
    cdef uint32_t at
    put_down(s)
    for at in range(element.kinds):
        s.counts[arcs[at].place] = arcs[at].weight
        s.held[arcs[at].place >> 6] |= ONE << (arcs[at].place & 63)
    s.kinds = element.kinds
    s.hash = element.hash
    s.cost = entry.cost
    s.size = entry.size


# --- what is known ------------------------------------------------------------------------------------------------------


cdef inline bint widen_table(Search* s) noexcept nogil:
    cdef size_t room = 4 * (s.table_mask + 1), slot, each
    cdef uint64_t* table = <uint64_t*>calloc(room, sizeof(uint64_t))
    if table == NULL:
        return False
    for each in range(s.element_count):
        slot = s.elements[each].hash & (room - 1)
        while table[slot]:
            slot = (slot + 1) & (room - 1)
        table[slot] = each + 1
    free(s.table)
    s.table = table
    s.table_mask = room - 1
    return True


cdef inline bint is_at_hand(const Search* s, const Element* element) noexcept nogil:
    cdef const Arc* arcs = &s.pool[element.begin]
    cdef uint32_t at
    if element.kinds != s.kinds:
        return False
    for at in range(element.kinds):
        if s.counts[arcs[at].place] != arcs[at].weight:
            return False
    return True


cdef inline bint get_to_know(Search* s, uint64_t value) noexcept nogil:
    """Keep what is at hand, and its bits; False if it was known."""
    cdef size_t slot = value & s.table_mask
    cdef Element* element
    cdef Arc* arc
    cdef uint64_t word
    cdef uint32_t at, atom
    while s.table[slot]:
        element = &s.elements[s.table[slot] - 1]
        if element.hash == value and is_at_hand(s, element):
            return False
        slot = (slot + 1) & s.table_mask
    if (
        not ample(<void**>&s.elements, &s.element_room, s.element_count + 1, sizeof(Element))
        or not ample(<void**>&s.pool, &s.pool_room, s.pool_count + s.kinds + 1, sizeof(Arc))
        or (2 * s.element_count > s.table_mask and not widen_table(s))
    ):
        s.out_of_memory = True
        return False
    slot = value & s.table_mask
    while s.table[slot]:
        slot = (slot + 1) & s.table_mask
    element = &s.elements[s.element_count]
    s.element_count += 1
    s.table[slot] = s.element_count
    element.hash = value
    element.begin = s.pool_count
    element.kinds = s.kinds
    s.bits = 0
    for at in range(s.system.words):
        word = s.held[at]
        s.bits |= word << (23 * at & 63) | word >> (64 - (23 * at & 63) & 63)
        while word:
            atom = 64 * at + lowest(word)
            word &= word - 1
            arc = &s.pool[s.pool_count]
            arc.place = atom
            arc.weight = s.counts[atom]
            s.pool_count += 1
    return True


cdef inline bint asks_for_no_less(const Search* s, const Element* element) noexcept nogil:
    """Say whether what is at hand asks for no less than this element."""
    cdef const Arc* arcs = &s.pool[element.begin]
    cdef uint32_t at
    for at in range(element.kinds):
        if s.counts[arcs[at].place] < arcs[at].weight:
            return False
    return True


cdef inline bint put_on_shelf(Search* s, int64_t size) noexcept nogil:
    """Keep the youngest element, which is at hand, among those of its size; False if it asks for no less than another."""
    cdef Shelf* shelf
    cdef Shelf* mine = NULL
    cdef Sketch* sketch
    cdef size_t each, at
    cdef uint64_t missing = ~s.bits
    for each in range(s.shelf_count):
        shelf = &s.shelves[each]
        if shelf.size == size:
            mine = shelf
        elif shelf.size < size:
            s.compared += 1 + <int64_t>shelf.count
            for at in range(shelf.count):
                if not shelf.sketches[at].bits & missing:
                    if asks_for_no_less(s, &s.elements[shelf.sketches[at].element]):
                        return False
    if mine == NULL:
        if not ample(<void**>&s.shelves, &s.shelf_room, s.shelf_count + 1, sizeof(Shelf)):
            s.out_of_memory = True
            return False
        mine = &s.shelves[s.shelf_count]
        s.shelf_count += 1
        mine.size = size
        mine.count = mine.room = 0
        mine.sketches = NULL
    if not ample(<void**>&mine.sketches, &mine.room, mine.count + 1, sizeof(Sketch)):
        s.out_of_memory = True
        return False
    sketch = &mine.sketches[mine.count]
    mine.count += 1
    sketch.bits = s.bits
    sketch.element = s.element_count - 1
    return True


# --- what waits ---------------------------------------------------------------------------------------------------------


cdef inline bint nearer(const Waiting* one, const Waiting* other) noexcept nogil:
    return one.cost < other.cost or (one.cost == other.cost and one.age > other.age)


cdef inline void push(Search* s, size_t entry) noexcept nogil:
    cdef size_t at = s.heap_count, above
    cdef Waiting fresh
    if not ample(<void**>&s.heap, &s.heap_room, s.heap_count + 1, sizeof(Waiting)):
        s.out_of_memory = True
        return
    fresh.cost = s.entries[entry].cost
    fresh.age = s.entries[entry].age
    fresh.entry = entry
    s.heap_count += 1
    while at:
        above = (at - 1) >> 1
        if not nearer(&fresh, &s.heap[above]):
            break
        s.heap[at] = s.heap[above]
        at = above
    s.heap[at] = fresh


cdef inline size_t pop(Search* s) noexcept nogil:
    cdef size_t first = s.heap[0].entry, at = 0, below = 1
    cdef Waiting last
    s.heap_count -= 1
    last = s.heap[s.heap_count]
    while below < s.heap_count:
        if below + 1 < s.heap_count and nearer(&s.heap[below + 1], &s.heap[below]):
            below += 1
        if not nearer(&s.heap[below], &last):
            break
        s.heap[at] = s.heap[below]
        at = below
        below = 2 * at + 1
    s.heap[at] = last
    return first


# --- what is offered ----------------------------------------------------------------------------------------------------


cdef inline bint is_held_with(const Search* s, uint32_t atom) noexcept nogil:
    """Say whether the atom may hold, as often as it is asked for, together with all else that is asked for (X)."""
    cdef const uint64_t* row = &s.rows[<size_t>atom * s.system.words]
    cdef uint32_t word
    cdef uint64_t stranger
    if s.counts[atom] > 1 and not has(row, atom):
        return False
    for word in range(s.system.words):
        stranger = s.held[word] & ~row[word]
        if word == atom >> 6:
            stranger &= ~(ONE << (atom & 63))
        if stranger:
            return False
    return True


cdef inline int64_t cost_of(const Search* s, uint32_t atom, uint32_t count) noexcept nogil:
    return <int64_t>(count - s.have[atom]) * s.price[atom] if count > s.have[atom] else 0


cdef inline bint is_possible(const Search* s, uint32_t atom) noexcept nogil:
    return (s.counts[atom] <= s.have[atom] or s.price[atom]) and (s.rows == NULL or is_held_with(s, atom))


cdef inline int64_t offer(Search* s) noexcept nogil:
    """
    Take up what the element at hand was changed to; return its cost, 0 if the state covers it.

    It is not taken up, and REFUSED, if it is impossible, or asks for no less than one that is known.
    """
    cdef uint64_t value = s.hash
    cdef int64_t cost = s.cost, size = s.size
    cdef uint32_t at, atom, before, count
    cdef bint excessive = s.excessive
    cdef Entry* entry
    s.work += 1 + s.compared // CHEAP
    s.compared %= CHEAP
    for at in range(s.changed_count):
        atom = s.changed[at].place
        before = s.changed[at].weight
        count = s.counts[atom]
        if before != count:
            value += hash_of(atom, count) - hash_of(atom, before)
            hold(s, atom, before > 0, count > 0)
            size += <int64_t>count - before
            excessive = excessive or count >= s.system.limit
    if not get_to_know(s, value):
        return REFUSED
    if excessive:
        s.overflow = True
        return REFUSED
    for at in range(s.changed_count):
        atom = s.changed[at].place
        before = s.changed[at].weight
        count = s.counts[atom]
        if before != count:
            if count and not is_possible(s, atom):
                return REFUSED
            cost += cost_of(s, atom, count) - cost_of(s, atom, before)
    if s.impossible or not put_on_shelf(s, size):
        return REFUSED
    if not ample(<void**>&s.entries, &s.entry_room, s.entry_count + 1, sizeof(Entry)):
        s.out_of_memory = True
        return REFUSED
    entry = &s.entries[s.entry_count]
    entry.cost = cost
    entry.age = s.work
    entry.size = size
    entry.element = s.element_count - 1
    entry.begun = False
    s.entry_count += 1
    push(s, s.entry_count - 1)
    return cost
