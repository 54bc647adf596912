# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
"""The token game, compiled: what `knhk._kernel` defines, on C arrays.

`knhk._kernel` is the definition, with the rules and the reasons; property tests hold the two equal.  What differs:

- A `Net` is compiled once, by `knhk._hot.lines`.
- A `Marking` is one 64-bit word where that can be (`knhk._hot.words`), and counters otherwise (`knhk._hot.counts`).  It goes
  from the word to counters when a second token is about to come to a condition and, but for `restore`, not back; no caller
  can tell.
- The OR-join's cheap answers (no input marked, all inputs marked, steps 1 and 2 of `knhk._orjoin`) are given here, and for a
  word the searched ones are remembered here; the search is `OrJoinAnalysis.decide`, which both kernels share.
- ``tokens``, ``status``, ``seen`` and ``undecided`` are fresh copies.
- A number of a task or of an output that does not exist is an IndexError, negative ones included, before any change.  So are
  a snapshot that does not fit (ValueError) and a condition with more than 2**31 tokens (InternalError).

SAFETY: the scratch space belongs to the net, which all its markings share.  Each method fills and empties it while it holds the
GIL and runs no Python code: arguments are plain integers before the scratch space is used.  The module does not say that it
does without the GIL, so free-threaded Pythons keep it.
"""

cimport cython
from cpython.long cimport PyLong_CheckExact
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from operator import index

from knhk._hot.counts cimport (
    cancel, forget, in_round, is_ready, look, look_at, may_take, pass_control, put_on, reads_marked, set_ready, set_status,
    take,
)
from knhk._hot.layout cimport (
    AND, BUSY, CANCELS, DETACHED, DRAINING, ENABLED, IDLE, JOIN_CANCELS, MOST, ONE, OPEN, OR, PARTIAL, UNDECIDED, WAITING,
    XOR,
    Arc, InputView, NetData, OrView, Region, Round, Sight, Span, State, TaskLine, WordLine,
    lowest,
)
from knhk._hot.lines cimport Lines, consumers_of, make_room
from knhk._hot.words cimport fire_noting, may_take_word, pass_word, refresh, start_word, take_word
from knhk.errors import InternalError

cdef extern from "Python.h":
    Py_ssize_t PyNumber_AsSsize_t(object number, PyObject* overflow) except? -1
    PyObject* PyExc_IndexError

COMPILED = True
"""Whether this kernel is the compiled one."""

cdef enum:
    REMEMBERED = 256  # answers kept for each OR-join of a net in one word; a power of two
    NOTHING = 255


cdef int allocate(const NetData* net, State* m) except -1:
    """Make an empty state; `m` holds nothing before."""
    cdef size_t words = 4 * net.ready_words + 2 * net.top_words + net.held_words + net.seen_words
    cdef size_t size = words * sizeof(uint64_t) + net.slot_count * sizeof(Round) + net.task_count
    memset(m, 0, sizeof(State))
    m.block = PyMem_Calloc(size + net.place_count * sizeof(uint32_t) + 1, 1)
    if m.block == NULL:
        raise MemoryError
    m.ready = <uint64_t*>m.block
    m.announced = m.ready + net.ready_words
    m.ceased = m.announced + net.ready_words
    m.came = m.ceased + net.ready_words
    m.top = m.came + net.ready_words
    m.news = m.top + net.top_words
    m.held = m.news + net.top_words
    m.seen = m.held + net.held_words
    m.rounds = <Round*>(m.seen + net.seen_words)
    m.counts = <uint32_t*>(m.rounds + net.slot_count)
    m.status = <uint8_t*>(m.counts + net.place_count)
    return 0


cdef inline bint meets(const NetData* net, const uint64_t* held, Span pieces) noexcept nogil:
    cdef uint32_t at
    for at in range(pieces.begin, pieces.end):
        if held[net.pieces[at].at] & net.pieces[at].mask:
            return True
    return False


cdef int cheap_answer(const NetData* net, const OrView* view, const uint64_t* held, const uint32_t* counts) noexcept nogil:
    """Decide an OR-join, apart from its own status and reads, by its marked inputs and steps 1 and 2 of `knhk._orjoin`."""
    cdef const InputView* put
    cdef uint32_t at
    cdef bint here, marked = False, suspected = False, escorted = False
    for at in range(view.inputs.begin, view.inputs.end):
        put = &net.inputs[at]
        if counts == NULL:
            here = (held[0] >> put.place) & 1
        else:
            here = counts[put.place] >= put.weight
        if here:
            marked = True
        elif not escorted and meets(net, held, put.upstream):
            suspected = True
            escorted = meets(net, held, put.escorts)
        if marked and escorted:
            return WAITING
    if not marked:
        return WAITING
    return OPEN if suspected else ENABLED


@cython.final
cdef class Net(Lines):
    """A net made ready for the kernel."""

    def marking(self):
        """Return a fresh instance: one token in the input condition."""
        return Marking(self)


@cython.final
cdef class Marking:
    """
    The state of one net instance; its attributes and methods are those of `knhk._kernel.Marking`.

    ``tokens``, ``status``, ``seen`` and ``undecided`` are copies: change a marking by its methods.
    """

    def __cinit__(self, Net net not None):
        if net.tables is None:
            raise InternalError("the net was not made")
        if net.c.place_count == 0:
            raise IndexError("the net has no input condition")
        self.net = net
        self.of = &net.c
        self.counted = not self.of.fits_word
        if self.counted:
            allocate(self.of, &self.c)
            put_on(self.of, &self.c, 0, 1)
            look_at(self.of, &self.c, self.of.places[0].consumers)
            self.c.dirty = True
        else:
            self.word = 1
            self.sight.touched = consumers_of(self.of, 1)
            self.sight.dirty = True

    def __dealloc__(self):
        PyMem_Free(self.c.block)

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def tokens(self):
        """By condition, how many tokens it holds."""
        cdef uint32_t place
        if not self.counted:
            return [<int>((self.word >> place) & 1) for place in range(self.of.place_count)]
        return [self.c.counts[place] for place in range(self.of.place_count)]

    @property
    def status(self):
        """By task, 0 idle, 1 busy, 2 draining."""
        cdef uint32_t task
        if not self.counted:
            return [<int>((self.word >> (self.of.place_count + task)) & 1) for task in range(self.of.task_count)]
        return [<int>self.c.status[task] for task in range(self.of.task_count)]

    @property
    def seen(self):
        """By partial join in the middle of a round, the bit mask of input positions that have come."""
        cdef uint32_t slot, word
        cdef dict seen = {}
        if self.counted and self.c.seen_count:
            for slot in range(self.of.slot_count):
                if self.c.rounds[slot].present:
                    mask = 0
                    for word in range((self.of.slots[slot].inputs + 63) >> 6):
                        mask |= <object>self.c.seen[self.of.slots[slot].words + word] << 64 * word
                    seen[self.of.slots[slot].task] = mask
        return seen

    @property
    def undecided(self):
        """OR-joins whose search met its budget; they count as not ready."""
        return set() if self._undecided is None else set(self._undecided)

    def is_ready(self, task):
        """Whether the task is idle, its join satisfied and its reads marked, as of the last `settle` for OR-joins."""
        cdef Py_ssize_t number = PyNumber_AsSsize_t(task, NULL)
        if not 0 <= number < self.of.task_count:
            return False
        return self.is_ready_now(<uint32_t>number) != 0

    def ready(self):
        """Return the ready tasks, ascending."""
        cdef list ready = []
        cdef uint32_t top, at
        cdef uint64_t tops, word
        if not self.counted:
            refresh(self.of, self.word, &self.sight)
            word = self.sight.ready
            while word:
                ready.append(self.net._on[lowest(word)])
                word &= word - 1
            return ready
        for top in range(self.of.top_words):
            tops = self.c.top[top]
            while tops:
                at = (top << 6) + lowest(tops)
                tops &= tops - 1
                word = self.c.ready[at]
                while word:
                    ready.append(self.net._on[(at << 6) + lowest(word)])
                    word &= word - 1
        return ready

    def changes(self):
        """Return, and forget, which tasks became ready or ceased to be, as `knhk._kernel` defines it."""
        cdef list ceased = [], came = []
        cdef uint32_t top, at
        cdef uint64_t tops, off, on
        if not self.counted:
            refresh(self.of, self.word, &self.sight)
            off = self.sight.ceased
            on = self.sight.ready & (~self.sight.announced | off)
            self.sight.announced = self.sight.ready
            self.sight.ceased = 0
            while off:
                ceased.append(self.net._off[lowest(off)])
                off &= off - 1
            while on:
                ceased.append(self.net._on[lowest(on)])
                on &= on - 1
            return ceased
        for top in range(self.of.top_words):
            tops = self.c.news[top]
            self.c.news[top] = 0
            while tops:
                at = (top << 6) + lowest(tops)
                tops &= tops - 1
                off = self.c.ceased[at]
                on = self.c.came[at] & self.c.ready[at] & (~self.c.announced[at] | off)
                self.c.announced[at] = self.c.ready[at]
                self.c.ceased[at] = self.c.came[at] = 0
                while off:
                    ceased.append(self.net._off[(at << 6) + lowest(off)])
                    off &= off - 1
                while on:
                    came.append(self.net._on[(at << 6) + lowest(on)])
                    on &= on - 1
        return ceased + came if came else ceased

    def anything_busy(self):
        """Whether some task holds its thread of control."""
        return self.c.busy > 0 if self.counted else (self.word & self.of.running) != 0

    def has_ended(self):
        """Whether the net has ended (rule 8), as `knhk._kernel` defines it."""
        if self.of.implicit:
            if self.counted:
                return self.c.busy == 0 and self.c.live == 0
            return (self.word & ~self.of.sinks) == 0
        if self.of.place_count < 2:
            raise IndexError("the net has no output condition")
        return self.c.counts[1] > 0 if self.counted else (self.word & 2) != 0

    def threads(self, task):
        """Return how many threads of control wait at the task now, as `knhk._kernel` defines it."""
        cdef uint32_t number = self._number(task)
        cdef const TaskLine* line = &self.of.lines[number]
        cdef uint64_t threads = 0, possible
        cdef uint32_t at
        if self.counted:
            if not reads_marked(self.of, &self.c, line):
                return 0
        elif (self.word & self.of.words[number].reads) != self.of.words[number].reads:
            return 0
        if line.join == OR:
            if self._is_idle(number) and not (self.c.dirty if self.counted else self.sight.dirty):
                if not self.is_ready_now(number):
                    return 0
            elif self.net.analysis.decide(number, self.tokens, self.status, self.seen) != ENABLED:
                return 0
        elif line.join == AND:
            if line.inputs.begin == line.inputs.end:
                raise ValueError(f"task {number} has no inputs")
            threads = ~<uint64_t>0
        for at in range(line.inputs.begin, line.inputs.end):
            if not self.counted:
                possible = (self.word >> self.of.arcs[at].place) & 1
            else:
                possible = self.c.counts[self.of.arcs[at].place] // self.of.arcs[at].weight
            if line.join == XOR:
                threads += possible
            elif line.join == OR:
                threads = max(threads, possible)
            elif line.join == PARTIAL:
                threads += possible != 0
            elif possible < threads:
                threads = possible
        if line.join == PARTIAL:
            return threads >= line.required and not (self.counted and in_round(self.of, &self.c, line.slot))
        return threads

    # --- moving -------------------------------------------------------------------------------------------------------

    def start(self, task):
        """Take the input tokens; the task becomes busy, except a detached one, whose caller passes control at once."""
        cdef uint32_t number = self._number(task)
        if not self._may_take(number):
            raise InternalError(f"task {task} cannot start: it is not enabled")
        self._start(number)

    def complete(self, task, chosen):
        """Cancel the region, release the task and put a token on each chosen output (positions in ``outputs``)."""
        cdef uint32_t number = self._number(task)
        cdef Py_ssize_t count = self._choose(number, chosen)
        cdef int status
        if self.counted:
            status = self.c.status[number]
        else:
            status = BUSY if self.word & self.of.words[number].busy else IDLE
        if status != BUSY:
            raise InternalError(f"task {task} cannot complete: its status is {status}")
        self._pass_control(number, count, IDLE)

    def pass_on(self, task, chosen):
        """Pass control while instances run on: a busy task becomes draining, a detached one stays idle (rule 6)."""
        cdef uint32_t number = self._number(task)
        cdef Py_ssize_t count = self._choose(number, chosen)
        cdef int status
        if self.of.lines[number].flags & DETACHED:
            self._pass_control(number, count, IDLE)
            return
        if not self.counted:
            self._promote()
        status = self.c.status[number]
        if status != BUSY:
            raise InternalError(f"task {task} cannot pass control: its status is {status}")
        self._pass_control(number, count, DRAINING)

    def fire(self, task, chosen):
        """Start the task and pass control at once: `start`, then `complete`, or for a detached task `pass_on`."""
        cdef uint32_t number = self._number(task)
        cdef Py_ssize_t count = self._choose(number, chosen)
        cdef uint64_t puts
        if not self.counted and self._puts(number, count, &puts):
            if fire_noting(self.of, &self.word, &self.sight, number, puts):
                return
        if not self._may_take(number):
            raise InternalError(f"task {task} cannot start: it is not enabled")
        if self.counted:
            # Before the start: a step that is refused has not begun.
            self._make_sure(number, count)
        self._start(number)
        self._pass_control(number, count, IDLE)

    def release(self, task):
        """Make a busy or draining task idle without output: its thread of control is gone; a partial join resets, idle or not."""
        cdef uint32_t number = self._number(task)
        cdef const WordLine* line
        if not self.counted:
            line = &self.of.words[number]
            if not self.word & line.busy:
                raise InternalError(f"task {task} cannot be released: it is idle")
            self.word &= ~line.busy
            self.sight.touched |= ONE << number
            self.sight.dirty = True
            return
        if self.c.status[number] == IDLE and not in_round(self.of, &self.c, self.of.lines[number].slot):
            raise InternalError(f"task {task} cannot be released: it is idle")
        set_status(self.of, &self.c, number, IDLE)
        self._end_round(number)

    def withdraw(self, task):
        """Take the tokens of a ready task without starting it: its thread of control is gone."""
        cdef uint32_t number = self._number(task)
        if not self._may_take(number):
            raise InternalError(f"task {task} cannot start: it is not enabled")
        if not self.counted:
            take_word(self.of, &self.word, &self.sight, number)
            return
        take(self.of, &self.c, number)
        self._end_round(number)

    def settle_before(self, task):
        """Look again at the OR-joins, as `settle`, before a task starts that is one of them; return whether any answer changed."""
        return self.of.lines[self._number(task)].join == OR and self.settle()

    def settle(self):
        """Look again at the OR-joins, if anything changed since the last time; return whether the answer to any did."""
        cdef uint32_t each, number
        cdef int answer
        cdef uint64_t bit
        cdef bint changed = False
        if not (self.c.dirty if self.counted else self.sight.dirty):
            return False
        self.c.dirty = self.sight.dirty = False
        if self.of.or_count == 0:
            return False
        if not self.of.viewed:
            self.net._compile_views()
        if not self.counted:
            refresh(self.of, self.word, &self.sight)
        for each in range(self.of.or_count):
            number = self.of.or_joins[each].task
            answer = self._answer(each) if self._may_take(number) else WAITING
            if answer == UNDECIDED:
                if self._undecided is None:
                    self._undecided = set()
                self._undecided.add(number)
            elif self._undecided:
                self._undecided.discard(number)
            if self.counted:
                changed = changed or is_ready(&self.c, number) != (answer == ENABLED)
                set_ready(&self.c, number, answer == ENABLED)
                continue
            bit = ONE << number
            changed = changed or (self.sight.ready & bit != 0) != (answer == ENABLED)
            if answer == ENABLED:
                self.sight.ready |= bit
            else:
                self.sight.ready &= ~bit
                self.sight.ceased |= bit & self.sight.announced
        return changed

    def restore(self, tokens, status, seen):
        """Become the state that a snapshot recorded; there are no changes to tell of."""
        cdef State fresh
        cdef list counts = list(map(index, tokens)), states = list(map(index, status))
        cdef uint32_t number, count
        cdef Py_ssize_t at
        self._check_tokens(counts)
        self._check_status(states)
        masks = self._checked_seen(seen)
        if self.of.fits_word and not masks and max(counts, default=0) <= 1 and max(states, default=0) <= BUSY:
            PyMem_Free(self.c.block)
            memset(&self.c, 0, sizeof(State))
            memset(&self.sight, 0, sizeof(Sight))
            self.counted = False
            self.word = 0
            for at, each in enumerate((*counts, *states)):
                self.word |= (<uint64_t>each) << at
            self.sight.touched = ~<uint64_t>0 >> (64 - self.of.task_count) if self.of.task_count else 0
            self.sight.dirty = True
        else:
            allocate(self.of, &fresh)
            PyMem_Free(self.c.block)
            self.c = fresh
            self.counted = True
            for number in range(self.of.place_count):
                count = counts[number]
                if count:
                    put_on(self.of, &self.c, number, count)
            for slot, mask in masks:
                number = slot
                self.c.rounds[number].present = 1
                self.c.rounds[number].left = self.of.slots[number].inputs - <uint32_t>mask.bit_count()
                self.c.seen_count += 1
                for at in range((mask.bit_length() + 63) // 64):
                    self.c.seen[self.of.slots[number].words + <uint32_t>at] = (mask >> 64 * at) & 0xFFFFFFFFFFFFFFFF
            for number in range(self.of.task_count):
                set_status(self.of, &self.c, number, <uint8_t>states[number])
            self.c.dirty = True
        self._undecided = None
        self.settle()
        self.changes()

    # --- inside -------------------------------------------------------------------------------------------------------

    cdef inline bint is_ready_now(self, uint32_t number) noexcept nogil:
        """`is_ready` for compiled callers, who know that the number is right."""
        if self.counted:
            return is_ready(&self.c, number)
        refresh(self.of, self.word, &self.sight)
        return (self.sight.ready >> number) & 1

    cdef inline bint _is_idle(self, uint32_t number) noexcept nogil:
        if self.counted:
            return self.c.status[number] == IDLE
        return (self.word >> (self.of.place_count + number)) & 1 == 0

    cdef inline uint32_t _number(self, object task) except? 0xFFFFFFFF:
        cdef Py_ssize_t number = PyNumber_AsSsize_t(task, PyExc_IndexError)
        if not 0 <= number < self.of.task_count:
            raise IndexError(f"there is no task {task}: the net has {self.of.task_count}")
        return <uint32_t>number

    cdef inline bint _may_take(self, uint32_t number) noexcept nogil:
        return may_take(self.of, &self.c, number) if self.counted else may_take_word(&self.of.words[number], self.word)

    cdef int _answer(self, uint32_t each) except -1:
        """Decide an OR-join that is idle and has its reads marked: cheaply, from memory, or by search."""
        cdef OrView* view = &self.of.or_joins[each]
        cdef int answer
        cdef uint64_t key
        cdef size_t at = 0
        if self.counted:
            answer = cheap_answer(self.of, view, self.c.held, self.c.counts)
        else:
            answer = cheap_answer(self.of, view, &self.word, NULL)
        if answer != OPEN:
            return answer
        if not self.counted and view.relevant:
            key = self.word & view.relevant
            at = ((key * <uint64_t>0x9E3779B97F4A7C15) >> 56) & (REMEMBERED - 1)
            if view.answers[at] != NOTHING and view.keys[at] == key:
                return view.answers[at]
        answer = self.net.analysis.decide(view.task, self.tokens, self.status, self.seen)
        if self.counted:
            return answer
        if not view.relevant:
            view.keys = <uint64_t*>PyMem_Calloc(REMEMBERED, sizeof(uint64_t))
            view.answers = <uint8_t*>PyMem_Malloc(REMEMBERED)
            if view.keys == NULL or view.answers == NULL:
                raise MemoryError
            memset(view.answers, NOTHING, REMEMBERED)
            view.relevant = self.net.analysis.relevant(view.task)
            key = self.word & view.relevant
            at = ((key * <uint64_t>0x9E3779B97F4A7C15) >> 56) & (REMEMBERED - 1)
        view.keys[at], view.answers[at] = key, <uint8_t>answer
        return answer

    cdef int _promote(self) except -1:
        """Go from the word to counters, with all that the caller has not been told yet."""
        cdef State fresh
        cdef uint32_t number
        refresh(self.of, self.word, &self.sight)
        allocate(self.of, &fresh)
        for number in range(self.of.place_count):
            if (self.word >> number) & 1:
                put_on(self.of, &fresh, number, 1)
        fresh.held[0] = self.word
        for number in range(self.of.task_count):
            fresh.status[number] = (self.word >> (self.of.place_count + number)) & 1
            fresh.busy += fresh.status[number]
        if self.of.task_count:
            fresh.ready[0], fresh.announced[0] = self.sight.ready, self.sight.announced
            fresh.ceased[0], fresh.came[0] = self.sight.ceased, self.sight.ready
            fresh.top[0], fresh.news[0] = self.sight.ready != 0, (self.sight.ready | self.sight.ceased) != 0
        fresh.dirty = self.sight.dirty
        self.c = fresh
        self.counted = True
        return 0

    cdef inline int _start(self, uint32_t number) except -1:
        cdef const TaskLine* line
        cdef const Region* region
        if not self.counted:
            start_word(self.of, &self.word, &self.sight, number)
            return 0
        line = &self.of.lines[number]
        take(self.of, &self.c, number)
        if not line.flags & DETACHED:
            set_status(self.of, &self.c, number, BUSY)
        if line.flags & JOIN_CANCELS:
            region = &self.of.regions[line.region]
            cancel(self.of, &self.c, region.join_conditions, region.join_tasks, number)
        return 0

    cdef int _end_round(self, uint32_t number) except -1:
        forget(self.of, &self.c, number)
        look(self.of, &self.c, number)
        self.c.dirty = True
        return 0

    cdef inline int _pass_control(self, uint32_t number, Py_ssize_t count, uint8_t status) except -1:
        """Pass control to the `count` outputs that `_choose` has read."""
        cdef uint64_t puts
        if not self.counted:
            if self._puts(number, count, &puts) and pass_word(self.of, &self.word, &self.sight, number, puts):
                return 0
            self._promote()
        self._make_sure(number, count)
        if self.c.seen_count:
            make_room(&self.of.touched, &self.of.touched_room, <size_t>count + self.of.swallowed_at_most)
        pass_control(self.of, &self.c, number, <size_t>count, status)
        return 0

    cdef inline Py_ssize_t _choose(self, uint32_t number, object chosen) except -1:
        """Read the positions into the scratch space; no Python code runs once that has begun."""
        cdef const TaskLine* line = &self.of.lines[number]
        cdef Py_ssize_t outputs = line.outputs.end - line.outputs.begin
        cdef Py_ssize_t each, position, count
        cdef tuple positions
        if type(chosen) is tuple:
            positions = <tuple>chosen
        else:
            positions = tuple(chosen)
        for item in positions:
            if not PyLong_CheckExact(item):
                positions = tuple([index(each_item) for each_item in positions])
                break
        count = len(positions)
        make_room(&self.of.chosen, &self.of.chosen_room, <size_t>count)
        for each in range(count):
            position = PyNumber_AsSsize_t(positions[each], PyExc_IndexError)
            if not 0 <= position < outputs:
                raise IndexError(f"task {number} has no output {position}: it has {outputs}")
            self.of.chosen[each] = <uint32_t>position
        return count

    cdef inline bint _puts(self, uint32_t number, Py_ssize_t count, uint64_t* puts) noexcept nogil:
        """Say whether the chosen outputs are all different conditions, and which."""
        cdef const Arc* outputs = &self.of.arcs[self.of.lines[number].outputs.begin]
        cdef uint64_t bit
        cdef Py_ssize_t each
        puts[0] = 0
        for each in range(count):
            bit = ONE << outputs[self.of.chosen[each]].place
            if puts[0] & bit:
                return False
            puts[0] |= bit
        return True

    cdef int _make_sure(self, uint32_t number, Py_ssize_t count) except -1:
        """Refuse a step after which a condition would hold more tokens than are counted, though perhaps only for a moment."""
        cdef const TaskLine* line = &self.of.lines[number]
        cdef const Arc* outputs = &self.of.arcs[line.outputs.begin]
        cdef uint64_t total = 0, most = 0, held
        cdef Py_ssize_t each, other
        cdef uint32_t place
        for each in range(count):
            total += outputs[self.of.chosen[each]].weight
            most = max(most, self.c.counts[outputs[self.of.chosen[each]].place])
        if total + most <= MOST:
            return 0
        for each in range(count):
            place = outputs[self.of.chosen[each]].place
            held = 0 if self._empties(line, place) else self.c.counts[place]
            for other in range(each + 1):
                if outputs[self.of.chosen[other]].place == place:
                    held += outputs[self.of.chosen[other]].weight
            if held > MOST:
                raise InternalError(f"condition {place} would hold more than {MOST} tokens")
        return 0

    cdef bint _empties(self, const TaskLine* line, uint32_t place) noexcept nogil:
        cdef uint32_t at
        if line.flags & CANCELS:
            for at in range(self.of.regions[line.region].conditions.begin, self.of.regions[line.region].conditions.end):
                if self.of.numbers[at] == place:
                    return True
        return False

    cdef int _check_tokens(self, list counts) except -1:
        if len(counts) != self.of.place_count:
            raise ValueError(f"tokens of {len(counts)} conditions do not fit a net of {self.of.place_count}")
        for place, count in enumerate(counts):
            if count < 0:
                raise ValueError(f"condition {place} cannot hold {count} tokens")
            if count > MOST:
                raise InternalError(f"condition {place} would hold more than {MOST} tokens")
        return 0

    cdef int _check_status(self, list states) except -1:
        if len(states) != self.of.task_count:
            raise ValueError(f"the status of {len(states)} tasks does not fit a net of {self.of.task_count}")
        for task, state in enumerate(states):
            if not IDLE <= state <= DRAINING:
                raise ValueError(f"task {task} cannot have status {state}")
        return 0

    cdef list _checked_seen(self, object seen):
        """Return slots with their masks; raise if one cannot be."""
        cdef list masks = []
        cdef int32_t slot
        for task, mask in dict(seen).items():
            mask = index(mask)
            slot = self.of.lines[self._number(task)].slot
            if slot < 0 or mask < 0 or mask.bit_length() > self.of.slots[slot].inputs:
                raise ValueError(f"task {task} cannot have seen {mask}")
            masks.append((slot, mask))
        return masks
