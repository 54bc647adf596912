# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The token game on counters: what `knhk._kernel` defines, for nets of any size and conditions with any number of tokens.

The functions are those of the definition, in its order.  Readiness is a bit a task with a summary above it, kept with every
step: a step looks again at the consumers of the conditions that it touched, and at nothing else.
Nothing here allocates, raises, or touches a Python object.

The scratch space of a step (`NetData.touched`, `NetData.chosen`) has room before a function is called.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from knhk._hot.layout cimport (
    AND, BUSY, CANCELS, CANCELS_ITSELF, IDLE, ONE, OR, PARTIAL, XOR,
    Arc, NetData, Region, Round, Span, State, TaskLine,
)


cdef inline void hold(const NetData* net, State* m, uint32_t place) noexcept nogil:
    """Condition `place` had no token and gets one."""
    m.held[place >> 6] |= ONE << (place & 63)
    m.live += not net.places[place].sink


cdef inline void let_go(const NetData* net, State* m, uint32_t place) noexcept nogil:
    """Condition `place` has lost its last token."""
    m.held[place >> 6] &= ~(ONE << (place & 63))
    m.live -= not net.places[place].sink


cdef inline void take_from(const NetData* net, State* m, uint32_t place, uint32_t weight) noexcept nogil:
    m.counts[place] -= weight
    if m.counts[place] == 0:
        let_go(net, m, place)


cdef inline void put_on(const NetData* net, State* m, uint32_t place, uint32_t weight) noexcept nogil:
    if m.counts[place] == 0:
        hold(net, m, place)
    m.counts[place] += weight


cdef inline bint in_round(const NetData* net, const State* m, int32_t slot) noexcept nogil:
    return slot >= 0 and m.rounds[slot].present and m.rounds[slot].left != net.slots[slot].inputs


cdef inline void forget(const NetData* net, State* m, uint32_t task) noexcept nogil:
    """What ``seen.pop(task, None)`` is in the definition."""
    cdef int32_t slot = net.lines[task].slot
    if slot >= 0 and m.rounds[slot].present:
        m.rounds[slot].present = 0
        m.seen_count -= 1


cdef inline bint reads_marked(const NetData* net, const State* m, const TaskLine* line) noexcept nogil:
    cdef uint32_t at
    for at in range(line.reads.begin, line.reads.end):
        if m.counts[net.numbers[at]] == 0:
            return False
    return True


cdef inline bint may_take(const NetData* net, const State* m, uint32_t task) noexcept nogil:
    """Whether the task is idle, its join satisfied (an OR-join: perhaps) and its reads marked."""
    cdef const TaskLine* line = &net.lines[task]
    cdef uint32_t at, marked
    if m.status[task] != IDLE or not reads_marked(net, m, line):
        return False
    if line.join == AND:
        for at in range(line.inputs.begin, line.inputs.end):
            if m.counts[net.arcs[at].place] < net.arcs[at].weight:
                return False
        return True
    if line.join != PARTIAL:
        for at in range(line.inputs.begin, line.inputs.end):
            if m.counts[net.arcs[at].place] >= net.arcs[at].weight:
                return True
        return False
    marked = 0
    for at in range(line.inputs.begin, line.inputs.end):
        marked += m.counts[net.arcs[at].place] >= net.arcs[at].weight
    return marked >= line.required and not in_round(net, m, line.slot)


cdef inline bint is_ready(const State* m, uint32_t task) noexcept nogil:
    return (m.ready[task >> 6] >> (task & 63)) & 1


cdef inline void set_ready(State* m, uint32_t task, bint ready) noexcept nogil:
    cdef uint32_t at = task >> 6
    cdef uint64_t bit = ONE << (task & 63)
    if is_ready(m, task) == ready:
        return
    m.ready[at] ^= bit
    if ready:
        m.top[at >> 6] |= ONE << (at & 63)
        m.came[at] |= bit
        m.news[at >> 6] |= ONE << (at & 63)
        return
    if m.ready[at] == 0:
        m.top[at >> 6] &= ~(ONE << (at & 63))
    if m.announced[at] & bit:
        m.ceased[at] |= bit
        m.news[at >> 6] |= ONE << (at & 63)


cdef inline void look(const NetData* net, State* m, uint32_t task) noexcept nogil:
    """Decide again whether the task is ready; OR-joins wait for `settle` unless they have plainly ceased to be."""
    cdef bint possible = may_take(net, m, task)
    if not possible or net.lines[task].join != OR:
        set_ready(m, task, possible)


cdef inline void look_at(const NetData* net, State* m, Span tasks) noexcept nogil:
    cdef uint32_t at
    for at in range(tasks.begin, tasks.end):
        look(net, m, net.numbers[at])


cdef inline void look_after(const NetData* net, State* m, size_t touched) noexcept nogil:
    cdef size_t each
    for each in range(touched):
        look_at(net, m, net.places[net.touched[each]].consumers)
    m.dirty = True


cdef inline void set_status(const NetData* net, State* m, uint32_t task, uint8_t status) noexcept nogil:
    cdef uint32_t bit = net.place_count + task
    m.busy += <int64_t>(status != IDLE) - <int64_t>(m.status[task] != IDLE)
    m.status[task] = status
    if status == BUSY:
        m.held[bit >> 6] |= ONE << (bit & 63)
    else:
        m.held[bit >> 6] &= ~(ONE << (bit & 63))
    look(net, m, task)


cdef inline size_t swallow(const NetData* net, State* m, uint32_t task, size_t touched) noexcept nogil:
    """Add the conditions that a partial join in its round took from to the `touched` ones; return how many those are."""
    cdef const TaskLine* line = &net.lines[task]
    cdef Round* round_ = &m.rounds[line.slot]
    cdef uint64_t* seen = &m.seen[net.slots[line.slot].words]
    cdef uint32_t position
    cdef Arc arc
    if not in_round(net, m, line.slot):
        return touched
    for position in range(line.inputs.end - line.inputs.begin):
        if (seen[position >> 6] >> (position & 63)) & 1:
            continue
        arc = net.arcs[line.inputs.begin + position]
        if m.counts[arc.place] >= arc.weight:
            take_from(net, m, arc.place, arc.weight)
            seen[position >> 6] |= ONE << (position & 63)
            round_.left -= 1
            net.touched[touched] = arc.place
            touched += 1
    if round_.left == 0:
        forget(net, m, task)
        look(net, m, task)
    return touched


cdef inline void take_some(const NetData* net, State* m, uint32_t task) noexcept nogil:
    """Consume as every join but the AND-join does."""
    cdef const TaskLine* line = &net.lines[task]
    cdef uint32_t inputs = line.inputs.end - line.inputs.begin
    cdef uint32_t position
    cdef size_t touched = 0
    cdef uint64_t* seen = NULL
    cdef Arc arc
    if line.slot >= 0:
        seen = &m.seen[net.slots[line.slot].words]
        memset(seen, 0, ((inputs + 63) >> 6) * sizeof(uint64_t))
    for position in range(inputs):
        arc = net.arcs[line.inputs.begin + position]
        if m.counts[arc.place] >= arc.weight:
            take_from(net, m, arc.place, arc.weight)
            net.touched[touched] = arc.place
            touched += 1
            if seen != NULL:
                seen[position >> 6] |= ONE << (position & 63)
            if line.join == XOR:
                break
    if seen != NULL and touched == inputs:
        memset(seen, 0, ((inputs + 63) >> 6) * sizeof(uint64_t))
    elif seen != NULL:
        m.seen_count += not m.rounds[line.slot].present
        m.rounds[line.slot].present = 1
        m.rounds[line.slot].left = inputs - <uint32_t>touched
    look_after(net, m, touched)


cdef inline void take(const NetData* net, State* m, uint32_t task) noexcept nogil:
    """Consume the inputs of a task that may start as its join says."""
    cdef const TaskLine* line = &net.lines[task]
    cdef uint32_t at
    if line.join != AND:
        take_some(net, m, task)
        return
    for at in range(line.inputs.begin, line.inputs.end):
        take_from(net, m, net.arcs[at].place, net.arcs[at].weight)
    look_at(net, m, line.affected)
    m.dirty = True


cdef inline void cancel(const NetData* net, State* m, Span conditions, Span tasks, uint32_t keep) noexcept nogil:
    """Empty the conditions and abort the tasks (rule 5); `keep` is the task whose step this is."""
    cdef size_t emptied = 0
    cdef uint32_t at, place, task
    for at in range(conditions.begin, conditions.end):
        place = net.numbers[at]
        if m.counts[place] == 0:
            continue
        m.counts[place] = 0
        let_go(net, m, place)
        net.touched[emptied] = place
        emptied += 1
    for at in range(tasks.begin, tasks.end):
        task = net.numbers[at]
        if task == keep:
            continue
        forget(net, m, task)
        if m.status[task] != IDLE:
            set_status(net, m, task, IDLE)
        look(net, m, task)
    look_after(net, m, emptied)


cdef inline void put(const NetData* net, State* m, const Arc* outputs, size_t chosen) noexcept nogil:
    """Put a token on each chosen output: positions in `NetData.chosen`."""
    cdef size_t each, touched = 0
    cdef Arc arc
    cdef Span swallowers
    cdef uint32_t at
    if m.seen_count == 0:
        for each in range(chosen):
            arc = outputs[net.chosen[each]]
            put_on(net, m, arc.place, arc.weight)
        for each in range(chosen):
            look_at(net, m, net.places[outputs[net.chosen[each]].place].consumers)
        m.dirty = True
        return
    for each in range(chosen):
        arc = outputs[net.chosen[each]]
        put_on(net, m, arc.place, arc.weight)
        net.touched[touched] = arc.place
        touched += 1
        swallowers = net.places[arc.place].swallowers
        for at in range(swallowers.begin, swallowers.end):
            if m.seen_count == 0:
                break
            touched = swallow(net, m, net.numbers[at], touched)
    look_after(net, m, touched)


cdef inline void pass_control(const NetData* net, State* m, uint32_t task, size_t chosen, uint8_t status) noexcept nogil:
    """Cancel the region, set the task's status, put on the chosen outputs."""
    cdef const TaskLine* line = &net.lines[task]
    cdef const Region* region
    if line.flags & CANCELS:
        region = &net.regions[line.region]
        cancel(net, m, region.conditions, region.tasks, task)
    if m.status[task] != status:
        set_status(net, m, task, status)
    if line.flags & CANCELS_ITSELF:
        forget(net, m, task)
    put(net, m, &net.arcs[line.outputs.begin], chosen)
    look(net, m, task)
    m.dirty = True
