# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What can never hold is not asked for: the closure and the exclusions of `knhk._orjoin_search`, in the same order."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from knhk._hot.layout cimport ONE, Span, lowest, population
from knhk._hot.monotone cimport CHEAP, Due, Rule, Search, System

cdef inline bint has(const uint64_t* bits, uint32_t atom) noexcept nogil:
    return (bits[atom >> 6] >> (atom & 63)) & 1


cdef inline void set_bit(uint64_t* bits, uint32_t atom) noexcept nogil:
    bits[atom >> 6] |= ONE << (atom & 63)


cdef inline void clear_bit(uint64_t* bits, uint32_t atom) noexcept nogil:
    bits[atom >> 6] &= ~(ONE << (atom & 63))


# --- the closure --------------------------------------------------------------------------------------------------------


cdef inline bint sooner(const Due* one, const Due* other) noexcept nogil:
    return one.price < other.price or (one.price == other.price and one.atom < other.atom)


cdef inline void push_due(Search* s, int64_t price, uint32_t atom) noexcept nogil:
    cdef uint32_t at = s.due_count, above
    cdef Due fresh
    fresh.price = price
    fresh.atom = atom
    s.due_count += 1
    while at:
        above = (at - 1) >> 1
        if not sooner(&fresh, &s.due[above]):
            break
        s.due[at] = s.due[above]
        at = above
    s.due[at] = fresh


cdef inline Due pop_due(Search* s) noexcept nogil:
    cdef Due first = s.due[0], last
    cdef uint32_t at = 0, below = 1
    s.due_count -= 1
    last = s.due[s.due_count]
    while below < s.due_count:
        if below + 1 < s.due_count and sooner(&s.due[below + 1], &s.due[below]):
            below += 1
        if not sooner(&s.due[below], &last):
            break
        s.due[at] = s.due[below]
        at = below
        below = 2 * at + 1
    s.due[at] = last
    return first


cdef inline void may_fire(Search* s, uint32_t number) noexcept nogil:
    """Note a rule that can fire, and what it achieves."""
    cdef const System* system = s.system
    cdef Span achieved = system.rules[number].achieved
    cdef int64_t price = s.rule_price[number]
    cdef uint32_t at, atom
    s.possible[number] = True
    s.order[s.order_count] = number
    s.order_count += 1
    for at in range(achieved.begin, achieved.end):
        atom = system.numbers[at]
        if s.price[atom] == 0:
            s.price[atom] = price
            s.level[atom] = s.rule_level[number]
        if not s.met[atom]:
            s.met[atom] = True
            push_due(s, price, atom)


cdef inline bint meet(Search* s, int64_t* left, uint32_t number, int64_t price, uint32_t level) noexcept nogil:
    """Count a premise of a rule as met; False if its price is beyond 2 ** 40."""
    left[number] -= 1
    s.rule_price[number] += price
    if s.rule_price[number] >> 40:
        return False
    if s.rule_level[number] < level:
        s.rule_level[number] = level
    if not s.missing[number] and not s.lacking[number]:
        may_fire(s, number)
    return True


cdef inline bint settle(Search* s, uint32_t atom, int64_t price) noexcept nogil:
    """Let an atom hold, at its price; False if that of a rule goes beyond bounds."""
    cdef const System* system = s.system
    cdef Span span = system.helped[atom]
    cdef uint32_t at, number, level = 1 + s.level[atom]
    set_bit(s.ever, atom)
    # What an atom helps is settled before it is met as a premise: then each rule is met once.
    for at in range(span.begin, span.end):
        number = system.numbers[at]
        s.done[number] = s.lacking[number] != 0
    span = system.needers[atom]
    for at in range(span.begin, span.end):
        if not meet(s, s.missing, system.numbers[at], price, level):
            return False
    span = system.helped[atom]
    for at in range(span.begin, span.end):
        number = system.numbers[at]
        if s.done[number] and not meet(s, s.lacking, number, price, level):
            return False
    return True


cdef inline bint close(Search* s) noexcept nogil:
    """Find what can ever hold and which rules can ever fire when nothing is lost; False if a price goes beyond bounds."""
    cdef const System* system = s.system
    cdef Due due
    cdef int64_t dearest = 0
    cdef uint32_t atom, number
    for number in range(system.rule_count):
        s.missing[number] = system.rules[number].needed.end - system.rules[number].needed.begin
        s.lacking[number] = system.rules[number].least
        s.rule_price[number] = s.rule_level[number] = 1
    for atom in range(system.atoms):
        s.met[atom] = s.have[atom] > 0
    for atom in range(system.atoms):
        # What is there costs nothing, and all else something: these are the first, in their order.
        if s.have[atom] and not settle(s, atom, 0):
            return False
    while s.due_count:
        due = pop_due(s)
        if not settle(s, due.atom, due.price):
            return False
    for number in range(system.rule_count):
        s.done[number] = 0
    for atom in range(system.atoms):
        dearest = max(dearest, s.price[atom])
    s.work += s.order_count // CHEAP
    return dearest <= (<int64_t>1 << 62) // (<int64_t>system.limit * (1 + system.atoms))


# --- the exclusions -----------------------------------------------------------------------------------------------------


cdef inline bint can_fire(Search* s, const Rule* rule, uint64_t* beside, uint64_t* kept, uint64_t* asked) noexcept nogil:
    """Say whether the premises of a rule can hold pairwise, and find what can hold beside them, and what stays so."""
    cdef const System* system = s.system
    cdef uint32_t words = system.words, at, word, atom
    cdef const uint64_t* row
    cdef uint64_t own
    cdef int64_t found = 0
    cdef uint32_t controls = rule.required.end - rule.required.begin, premises
    premises = controls + rule.uses.end - rule.uses.begin
    for word in range(words):
        beside[word] = kept[word] = s.ever[word]
        asked[word] = 0
    for at in range(rule.needed.begin, rule.needed.end):
        set_bit(asked, system.numbers[at])
    for at in range(premises):
        atom = system.numbers[rule.needed.begin + at]
        row = &s.rows[<size_t>atom * words]
        for word in range(words):
            own = row[word] | (ONE << (atom & 63) if word == atom >> 6 else 0)
            if asked[word] & ~own:
                return False
            beside[word] &= own
            if at >= controls and system.uses[rule.uses.begin + at - controls].taken:
                own = row[word]
            kept[word] &= own
        if at >= controls and system.uses[rule.uses.begin + at - controls].need > 1 and not has(row, atom):
            return False
    for word in range(words):
        if asked[word] & ~s.ever[word]:
            return False
    for at in range(rule.among.begin, rule.among.end):
        found += has(beside, system.uses[at].atom)
    return found >= rule.least


cdef inline bint pair_up(Search* s, const Rule* rule, uint64_t* scratch, int64_t* stamps, int64_t stamp) noexcept nogil:
    """Let the rule fire beside all that may hold with each premise; stamp the atoms with new company, say if there are any."""
    cdef const System* system = s.system
    cdef uint32_t words = system.words, at, word, atom, other
    cdef uint64_t* kept = scratch + words
    cdef uint64_t* given = scratch + 2 * <size_t>words
    cdef uint64_t* twice = scratch + 3 * <size_t>words
    cdef uint64_t* row
    cdef uint64_t fresh, own, bit
    cdef bint changed = False
    cdef int64_t found
    if not can_fire(s, rule, scratch, kept, given):
        return False
    for at in range(rule.ended.begin, rule.ended.end):
        clear_bit(kept, system.numbers[at])
    for word in range(words):
        given[word] = twice[word] = 0
    for at in range(rule.achieved.begin, rule.achieved.end):
        set_bit(given, system.numbers[at])
    for at in range(rule.gives.begin, rule.gives.end):
        if system.uses[at].taken > 1 or has(kept, system.uses[at].atom):
            set_bit(twice, system.uses[at].atom)
    for at in range(rule.achieved.begin, rule.achieved.end):
        atom = system.numbers[at]
        row = &s.rows[<size_t>atom * words]
        found = 0
        for word in range(words):
            own = ONE << (atom & 63) if word == atom >> 6 else 0
            fresh = (((kept[word] | given[word]) & ~own) | (twice[word] & own)) & ~row[word]
            row[word] |= fresh
            found += population(fresh)
            while fresh:
                bit = fresh & (0 - fresh)
                fresh ^= bit
                other = 64 * word + lowest(bit)
                set_bit(&s.rows[<size_t>other * words], atom)
                stamps[other] = stamp
        if found or not has(s.ever, atom):
            set_bit(s.ever, atom)
            s.work += found // CHEAP
            stamps[atom] = stamp
            changed = True
    return changed


cdef inline bint exclude(Search* s) noexcept nogil:
    """Find which two atoms may ever hold together; return whether the budget was enough."""
    cdef const System* system = s.system
    cdef size_t words = system.words
    cdef int64_t* stamps = <int64_t*>calloc(<size_t>system.atoms + system.rule_count + 1, sizeof(int64_t))
    cdef uint64_t* scratch = <uint64_t*>calloc(4 * words + 1, sizeof(uint64_t))
    cdef int64_t* done
    cdef int64_t now = 0, latest
    cdef uint32_t each, at, number, atom
    cdef bint changed = True, enough = True
    s.rows = <uint64_t*>calloc(<size_t>system.atoms * words + 1, sizeof(uint64_t))
    if stamps == NULL or scratch == NULL or s.rows == NULL:
        s.out_of_memory = True
        free(stamps)
        free(scratch)
        return False
    done = stamps + system.atoms
    for at in range(system.words):
        s.ever[at] = 0
    for atom in range(system.atoms):
        if s.have[atom]:
            set_bit(s.ever, atom)
    for atom in range(system.atoms):
        if s.have[atom]:
            for at in range(system.words):
                s.rows[<size_t>atom * words + at] = s.ever[at]
            if s.have[atom] == 1:
                clear_bit(&s.rows[<size_t>atom * words], atom)
    for number in range(system.rule_count):
        done[number] = -1
    while changed and enough:
        changed = False
        for each in range(s.order_count):
            number = s.order[each]
            latest = now
            if system.rules[number].needed.begin < system.rules[number].needed.end:
                latest = 0
            for at in range(system.rules[number].needed.begin, system.rules[number].needed.end):
                latest = max(latest, stamps[system.numbers[at]])
            if done[number] >= latest:
                continue
            if s.work > s.budget:
                enough = False
                break
            now += 1
            done[number] = now
            s.work += 1
            if pair_up(s, &system.rules[number], scratch, stamps, now + 1):
                changed = True
    free(stamps)
    free(scratch)
    return enough
