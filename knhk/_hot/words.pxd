# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The token game on one word: what `knhk._kernel` defines, for nets whose state fits (`knhk._hot.layout`).

`fire_word` is a whole step, start and completion, of a task that neither cancels nor reads: it is what runs when many cases
are moved at once, and what a case in memory uses for its automatic tasks.  The other functions are its parts, for all tasks,
and note what the step did to the readiness of tasks (`Sight`).
Nothing here allocates, raises, or touches a Python object.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from knhk._hot.layout cimport (
    AND, CANCELS, DETACHED, FIRED, GENERAL, JOIN_CANCELS, NO_CHOICE, ONE, OR, PARTIAL, READS, REFUSED, UNORDERED, UNSAFE, XOR,
    NetData, Sight, WordLine, lowest, population, likely,
)


cdef inline int fire_word(const WordLine* line, uint64_t* at, uint64_t facts) noexcept nogil:
    """
    Start and complete a task that neither cancels nor reads; nothing has happened unless it is FIRED.

    `facts` are the conditions to put on, where the split leaves a choice; an XOR-split takes the lowest of several.
    """
    cdef uint64_t word = at[0]
    cdef uint64_t taken = word & line.inputs, put = line.outputs
    if line.flags:
        return GENERAL
    if line.join == AND:
        if (word & (line.inputs | line.busy)) != line.inputs:
            return REFUSED
    elif line.join == PARTIAL:
        return GENERAL
    else:
        if taken == 0 or word & line.busy:
            return REFUSED
        if line.join == OR:
            return GENERAL
        taken &= 0 - taken
    if line.split != AND:
        put &= facts
        if put == 0:
            return NO_CHOICE
        if line.split == XOR:
            put &= 0 - put
    word ^= taken
    if word & put:
        return UNSAFE
    at[0] = word | put
    return FIRED


cdef inline bint may_take_word(const WordLine* line, uint64_t word) noexcept nogil:
    """Whether the task is idle, its join satisfied (an OR-join: perhaps) and its reads marked."""
    cdef uint64_t marked = word & line.inputs
    if word & line.busy or (word & line.reads) != line.reads:
        return False
    if line.join == AND:
        return marked == line.inputs
    if line.join == PARTIAL:
        return population(marked) >= line.required
    return marked != 0


cdef inline uint64_t taken_by(const NetData* net, uint32_t task, uint64_t word) noexcept nogil:
    """Return the conditions that the task takes from now."""
    cdef const WordLine* line = &net.words[task]
    cdef uint64_t marked = word & line.inputs
    cdef uint32_t at
    if line.join != XOR:
        return marked
    if not line.flags & UNORDERED:
        return marked & (0 - marked)
    for at in range(net.lines[task].inputs.begin, net.lines[task].inputs.end):
        if (marked >> net.arcs[at].place) & 1:
            return ONE << net.arcs[at].place
    return 0


cdef inline void cease(const NetData* net, uint64_t word, Sight* sight, uint64_t tasks) noexcept nogil:
    """Note which of these tasks, ready until now, are not any more."""
    cdef uint64_t suspects = tasks & (sight.ready | sight.announced), bit
    while suspects:
        bit = suspects & (0 - suspects)
        suspects ^= bit
        if not may_take_word(&net.words[lowest(bit)], word):
            sight.ready &= ~bit
            sight.ceased |= bit & sight.announced


cdef inline void refresh(const NetData* net, uint64_t word, Sight* sight) noexcept nogil:
    """Look at all tasks that a step may have made ready; an OR-join waits for `settle` unless it has plainly ceased to be."""
    cdef uint64_t touched = sight.touched, bit
    cdef const WordLine* line
    sight.touched = 0
    while touched:
        bit = touched & (0 - touched)
        touched ^= bit
        line = &net.words[lowest(bit)]
        if not may_take_word(line, word):
            sight.ready &= ~bit
        elif line.join != OR:
            sight.ready |= bit


cdef inline void take_word(const NetData* net, uint64_t* at, Sight* sight, uint32_t task) noexcept nogil:
    """Consume the inputs of a task that may start."""
    cdef uint64_t rivals = net.words[task].rivals | ONE << task
    at[0] &= ~taken_by(net, task, at[0])
    sight.touched |= rivals
    sight.dirty = True
    cease(net, at[0], sight, rivals)


cdef inline void start_word(const NetData* net, uint64_t* at, Sight* sight, uint32_t task) noexcept nogil:
    """Start a task that may: take, become busy unless detached, empty what a cancelling join empties."""
    cdef const WordLine* line = &net.words[task]
    cdef uint64_t rivals = line.rivals | ONE << task
    at[0] &= ~taken_by(net, task, at[0])
    if not line.flags & DETACHED:
        at[0] |= line.busy
    if line.flags & JOIN_CANCELS:
        at[0] &= ~net.word_regions[task].join_cancels
        rivals |= net.word_regions[task].join_looks
    sight.touched |= rivals
    sight.dirty = True
    cease(net, at[0], sight, rivals)


cdef inline bint pass_word(const NetData* net, uint64_t* at, Sight* sight, uint32_t task, uint64_t put) noexcept nogil:
    """Cancel, release the task, and put on the chosen conditions; False, and nothing done, if one holds a token already."""
    cdef const WordLine* line = &net.words[task]
    cdef uint64_t word = at[0]
    if line.flags & CANCELS:
        word &= ~line.cancels
    if word & put:
        return False
    if line.flags & CANCELS:
        sight.touched |= net.word_regions[task].looks
        cease(net, word, sight, net.word_regions[task].looks)
    at[0] = (word & ~line.busy) | put
    sight.touched |= line.fed
    sight.dirty = True
    return True


cdef inline bint fire_noting(const NetData* net, uint64_t* at, Sight* sight, uint32_t task, uint64_t puts) noexcept nogil:
    """
    Start and complete a task, and note what that did; False, and nothing done, where that is not a plain step of its split.

    `puts` are the conditions of the chosen outputs.
    """
    cdef const WordLine* line = &net.words[task]
    if line.split == AND:
        if puts != line.outputs:
            return False
    elif line.split == XOR and puts & (puts - 1):
        return False
    if fire_word(line, at, puts) != FIRED:
        return False
    sight.touched |= line.rivals | line.fed
    sight.ceased |= (ONE << task) & sight.announced
    sight.ready &= ~(ONE << task)
    sight.dirty = True
    if line.rivals:
        # In between, with the inputs taken and nothing put on yet.
        cease(net, at[0] & ~puts, sight, line.rivals)
    return True
