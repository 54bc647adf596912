# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The search backward: the steps from an element to its predecessors, one after the other, nearest to the state first.

It is the search of `knhk._orjoin_search.Backward`, in the same order and with the same count of work.  What is a generator there
is here a list of rules and a choice among the uses of one of them, both kept in `Search.steps` while an element waits.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport qsort

from knhk._hot.closure cimport close, exclude, has
from knhk._hot.elements cimport (
    REFUSED, begin_change, cost_of, hash_of, hold, is_possible, offer, pop, push, put_down, restore, take_up, write,
)
from knhk._hot.layout cimport ONE, Arc, Span
from knhk._hot.monotone cimport (
    BEYOND, CAP, CLOSING, COVERED, DROP, EXHAUSTED, MEMORY, OFFERING, OUT_OF_BUDGET, PAUSED, STEPPING, ZERO,
    Element, Entry, Rule, Search, System, Use, ample,
)

cdef enum:
    STEPPED = 6  # inside only: the next element's turn


# --- which rules, in which order ----------------------------------------------------------------------------------------


cdef inline int compare_keys(const void* one, const void* other) noexcept nogil:
    """The greater one comes first."""
    cdef uint64_t left = (<const uint64_t*>one)[0], right = (<const uint64_t*>other)[0]
    return (left < right) - (left > right)


cdef inline void list_achievers(Search* s, uint32_t atom) noexcept nogil:
    cdef Span span = s.system.achievers[atom]
    cdef uint32_t at, number
    for at in range(span.begin, span.end):
        number = s.system.numbers[at]
        if s.possible[number] and s.done[number] != s.listed:
            s.done[number] = s.listed
            s.steps[s.step_count] = number
            s.step_count += 1


cdef inline bint list_steps(Search* s, Entry* entry) noexcept nogil:
    """List the possible rules that achieve something asked for; what comes late comes first.  False when memory is out."""
    cdef const Element* element = &s.elements[entry.element]
    cdef const Arc* arcs = &s.pool[element.begin]
    cdef uint32_t at, atom, late = 0
    # The first number is nobody's: a choice that begins there is none.
    s.step_count = max(s.step_count, <size_t>1)
    if not ample(<void**>&s.steps, &s.step_room, s.step_count + s.system.rule_count, sizeof(uint32_t)):
        return False
    for at in range(element.kinds):
        atom = arcs[at].place
        if arcs[at].weight > s.have[atom]:
            s.keys[late] = <uint64_t>s.level[atom] << 32 | atom
            late += 1
    if late > 1:
        qsort(s.keys, late, sizeof(uint64_t), compare_keys)
    s.listed += 1
    entry.begun = True
    entry.choice = 0
    entry.at = s.step_count
    for at in range(late):
        list_achievers(s, <uint32_t>s.keys[at])
    for at in range(element.kinds, 0, -1):
        atom = arcs[at - 1].place
        if arcs[at - 1].weight <= s.have[atom]:
            list_achievers(s, atom)
    entry.end = s.step_count
    return True


# --- a choice of some of the uses of which a rule needs some ------------------------------------------------------------


cdef inline bint is_lacking(const Search* s, const Use* use) noexcept nogil:
    return use.taken or s.counts[use.atom] < use.need


cdef inline bint begin_choice(Search* s, Entry* entry, const Rule* rule) noexcept nogil:
    """Choose the first uses that the predecessor has to have besides; False if there are too few, or memory is out."""
    cdef uint32_t at, found = 0
    cdef size_t among = rule.among.end - rule.among.begin
    cdef int64_t many = rule.least - <int64_t>among
    cdef uint32_t* choice
    if not ample(<void**>&s.steps, &s.step_room, s.step_count + 2 * among + 2, sizeof(uint32_t)):
        s.out_of_memory = True
        return False
    choice = &s.steps[s.step_count]
    # Of how many, how many, which of them, and what they are.
    for at in range(rule.among.begin, rule.among.end):
        if is_lacking(s, &s.system.uses[at]):
            many += 1
            if has(s.ever, s.system.uses[at].atom):
                choice[2 + among + found] = at
                found += 1
    many = max(many, 0)
    if many > found:
        return False
    choice[0] = found
    choice[1] = <uint32_t>many
    for at in range(<uint32_t>many):
        choice[2 + at] = at
    entry.choice = s.step_count
    s.step_count += 2 + 2 * among
    return True


cdef inline bint next_choice(uint32_t* choice) noexcept nogil:
    """Go on to the next choice in order; False if that was the last one."""
    cdef uint32_t found = choice[0], many = choice[1], at = many, after
    while at:
        at -= 1
        if choice[2 + at] != at + found - many:
            choice[2 + at] += 1
            for after in range(at + 1, many):
                choice[2 + after] = choice[1 + after] + 1
            return True
    return False


# --- a step back --------------------------------------------------------------------------------------------------------


cdef inline void ask_for(Search* s, const Use* use) noexcept nogil:
    """Ask for what is taken in addition, and for what is needed at least."""
    cdef uint32_t count = s.counts[use.atom]
    write(s, use.atom, count + max(use.taken, use.need - count if use.need > count else 0))


cdef inline bint step_back(Search* s, const Rule* rule) noexcept nogil:
    """Change what is at hand to what must be so before the rule, but for what it takes; False if it cannot have led here."""
    cdef const System* system = s.system
    cdef uint32_t at, atom, count
    cdef const Use* use
    for at in range(rule.forbidden.begin, rule.forbidden.end):
        if s.counts[system.numbers[at]]:
            return False
    for at in range(rule.cleared.begin, rule.cleared.end):
        atom = system.numbers[at]
        write(s, atom, s.counts[atom] & ~<uint32_t>1)
    for at in range(rule.gives.begin, rule.gives.end):
        use = &system.uses[at]
        count = s.counts[use.atom]
        write(s, use.atom, count - min(count, use.taken))
    for at in range(rule.edits.begin, rule.edits.end):
        use = &system.uses[at]
        count = s.counts[use.atom]
        if count:
            if use.need == ZERO or (use.need == CAP and count > use.taken):
                return False
            write(s, use.atom, count + use.taken if use.need == DROP else use.taken)
    for at in range(rule.required.begin, rule.required.end):
        atom = system.numbers[at]
        write(s, atom, s.counts[atom] | 1)
    return True


cdef inline bint go_back(Search* s, Entry* entry) noexcept nogil:
    """Change what is at hand to its next predecessor, and go on to the one after; False if this rule has no more."""
    cdef const Rule* rule = &s.system.rules[s.steps[entry.at]]
    cdef uint32_t* choice
    cdef uint32_t at, among = rule.among.end - rule.among.begin
    if not step_back(s, rule):
        entry.at += 1
        return False
    if among or rule.least > 0:
        if not entry.choice and not begin_choice(s, entry, rule):
            entry.at += 1
            return False
        choice = &s.steps[entry.choice]
        for at in range(choice[1]):
            ask_for(s, &s.system.uses[choice[2 + among + choice[2 + at]]])
        if not next_choice(choice):
            entry.choice = 0
            entry.at += 1
    else:
        entry.at += 1
    for at in range(rule.uses.begin, rule.uses.end):
        ask_for(s, &s.system.uses[at])
    return True


cdef inline int advance(Search* s, size_t number, int64_t until) noexcept nogil:
    """
    Step back from one element; say whether the state covers what was found, or whether more than `until` was done.

    An element waits with its other predecessors as soon as one looks nearer to the state than itself.
    """
    cdef Entry entry = s.entries[number]
    cdef int64_t cost
    cdef size_t above = s.step_count
    take_up(s, &entry)
    if not entry.begun and not list_steps(s, &entry):
        return MEMORY
    while entry.at < entry.end:
        begin_change(s)
        cost = offer(s) if go_back(s, &entry) else REFUSED - 1
        restore(s)
        if s.out_of_memory:
            return MEMORY
        if cost == 0:
            return COVERED
        if cost < REFUSED:
            continue
        if 0 < cost < entry.cost or s.work > s.budget:
            s.entries[number] = entry
            push(s, number)
            return MEMORY if s.out_of_memory else STEPPED
        if s.work > until:
            s.entries[number] = entry
            return PAUSED
    # What was listed here is looked at.
    s.step_count = above
    return STEPPED


# --- the search ---------------------------------------------------------------------------------------------------------


cdef inline int offer_target(Search* s) noexcept nogil:
    cdef Span target = s.targets[1 + s.offered]
    cdef uint32_t at
    cdef int64_t cost
    begin_change(s)
    for at in range(target.begin, target.end):
        write(s, s.arcs[at].place, s.counts[s.arcs[at].place] + s.arcs[at].weight)
    cost = offer(s)
    restore(s)
    s.offered += 1
    if s.out_of_memory:
        return MEMORY
    return COVERED if cost == 0 else STEPPED


cdef inline void ask_for_common(Search* s) noexcept nogil:
    """Take up what all targets ask for, which is the first of the spans."""
    cdef Span common = s.targets[0]
    cdef uint32_t at, atom, count
    put_down(s)
    for at in range(common.begin, common.end):
        atom = s.arcs[at].place
        count = s.arcs[at].weight
        s.counts[atom] = count
        hold(s, atom, False, True)
        s.hash += hash_of(atom, count)
        s.cost += cost_of(s, atom, count)
        s.size += count
        s.impossible = s.impossible or not is_possible(s, atom)
        s.excessive = s.excessive or count >= s.system.limit


cdef inline void drop_impossible(Search* s) noexcept nogil:
    """Drop from what waits all that the exclusions show to be impossible."""
    cdef size_t count = s.heap_count, each
    cdef uint32_t at
    cdef const Element* element
    cdef bint possible
    s.heap_count = 0
    for each in range(count):
        take_up(s, &s.entries[s.heap[each].entry])
        element = &s.elements[s.entries[s.heap[each].entry].element]
        possible = True
        for at in range(element.kinds):
            possible = possible and is_possible(s, s.pool[element.begin + at].place)
        if possible:
            # There is room: so many have waited.
            push(s, s.heap[each].entry)


cdef inline int search(Search* s, int64_t until) noexcept nogil:
    """Go on until there is an answer, or until more work than this has been done, but for what cannot be paused."""
    cdef int code
    if s.phase == CLOSING:
        if not close(s):
            return BEYOND
        ask_for_common(s)
        s.phase = OFFERING
    while s.phase == OFFERING:
        if s.offered == s.target_count:
            s.phase = STEPPING
            break
        code = offer_target(s)
        if code != STEPPED:
            return code
    while True:
        if not s.current:
            if not s.heap_count or s.work > s.budget:
                return OUT_OF_BUDGET if s.heap_count or s.overflow else EXHAUSTED
            if s.work > s.patience and s.rows == NULL:
                if exclude(s):
                    drop_impossible(s)
                elif s.out_of_memory:
                    return MEMORY
                continue
            s.current = 1 + pop(s)
        code = advance(s, s.current - 1, until)
        if code != STEPPED:
            return code
        s.current = 0
        if s.work > until:
            return PAUSED
