# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, binding=False
"""A case's automatic work, without the driver in between.

`knhk.case` drives a case one command at a time: each result of a handler is a command of its own, which is recorded, applied
and looked at from all sides.  Most of that is for what most tasks do not have.  `Express` does the same for the tasks that
are *plain*: routing tasks and handlers, once each, that cancel nothing, in a net without timers and triggers.  It plays on the
case's own marking and writes the very records that the driver would have written, so that what it leaves undone (items that
are begun, offers, the end of the case) follows from them; whatever else comes up, it stops and leaves to the driver.

It is never in the way of others: it holds the case's lock while it moves the case, and gives it back while a handler runs.
Who comes in between calls `land`, through its owner, and finds the case as if the driver had brought it there.
"""

import json

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from knhk._hot.kernel cimport Marking, Net
from knhk._hot.layout cimport CANCELS, DETACHED, IDLE, JOIN_CANCELS, ONE, OR, lowest
from knhk._hot.plain cimport DEEPEST, Foreign, put_tree
from knhk._hot.text cimport Text, put, put_integer, put_one
from knhk._hot.words cimport fire_noting, pass_word, refresh

from knhk.errors import LimitExceeded

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(object o)
    bytes PyBytes_FromStringAndSize(const char* text, Py_ssize_t size)
    ctypedef struct PyTypeObject:
        object (*tp_new)(type cls, tuple args, void* named)

cdef enum:  # the kinds and outcomes below, as numbers in C
    WAITING_ = 0
    ROUTING_ = 1
    DRIVEN_ = 3
    OVER = 1
    STOP = 2
    NO = 4

WAITING = 0
"""A task that does not start by itself."""
ROUTING = 1
HANDLER = 2
DRIVEN = 3
"""A task that starts by itself, but does more than this module knows."""

WAITS = 0
"""Nothing is left to do here; the driver looks at what others wait for."""
ENDED = 1
"""The net has ended."""
STOPPED = 2
"""Something came up for the driver; it goes on from here."""
FAILED = 3
"""The handler of `Express.job` raised `Express.error`."""
REFUSED = 4
"""What follows from the result of `Express.job` cannot be: the records are as they were before it."""
OVERTAKEN = 5
"""Somebody landed the case while the handler of `Express.job` ran; its result is for the driver."""

cdef class ExpressNet:
    """
    What there is to know of a net's tasks, each a tuple by task.

    Args:
        net: the compiled kernel's net.
        kinds: `WAITING`, `ROUTING`, `HANDLER` or `DRIVEN`; tasks that cancel are driven in any case.
        names: of the tasks.
        handlers: the names of the handlers, or None.
        replayable: whether a handler's result may share the commit of what follows.
        outputs: the positions of all outputs.
        branches: None where all outputs get a token, else pairs of a predicate over the case data (None: the default)
            and a position, in the order in which they are looked at.
        first_only: whether the first predicate that holds is enough.

    Attributes:
        useful: whether any task can go by express.
    """

    cdef readonly Net net
    cdef readonly bint useful
    cdef tuple names, handlers, replayable, outputs, branches, first_only
    cdef uint8_t* kinds
    cdef uint64_t automatic  # the tasks among the first 64 that start by themselves

    def __init__(self, Net net, *, kinds, names, handlers, replayable, outputs, branches, first_only):
        cdef uint32_t task
        self.net = net
        self.kinds = <uint8_t*>PyMem_Calloc(net.c.task_count + 1, 1)
        if self.kinds == NULL:
            raise MemoryError
        self.names, self.handlers, self.replayable = tuple(names), tuple(handlers), tuple(replayable)
        self.outputs, self.branches, self.first_only = tuple(outputs), tuple(branches), tuple(first_only)
        for task in range(net.c.task_count):
            self.kinds[task] = kinds[task]
            if kinds[task] == WAITING:
                continue
            if net.c.lines[task].flags & (DETACHED | JOIN_CANCELS | CANCELS):
                self.kinds[task] = DRIVEN_
            if task < 64:
                self.automatic |= ONE << task
            self.useful = self.useful or self.kinds[task] == HANDLER

    def __dealloc__(self):
        PyMem_Free(self.kinds)

    def handles(self, task):
        """Whether this is a plain task with a handler."""
        return 0 <= task < self.net.c.task_count and self.kinds[task] == HANDLER

    def replays(self, task):
        """Whether a task's handler may share the commit of what follows."""
        return bool(self.replayable[task])


cdef class WorkFields:
    """The fields of `knhk.work.handlers.Work`, which are set in C where an express hands out work."""

    cdef readonly str case_id
    cdef readonly str task
    cdef readonly object attempt
    cdef readonly object item
    cdef readonly object index
    cdef public object _number
    cdef public object _source
    cdef public object _data

    def __init__(self, case_id, task, number, attempt, source, item=None, index=None):
        self.case_id, self.task, self._number, self.attempt = case_id, task, number, attempt
        self._source, self.item, self.index = source, item, index


cdef struct Ring:  # of different tasks, so that there is room for all
    uint32_t* at
    uint32_t head
    uint32_t count
    uint32_t room


cdef inline void push(Ring* ring, uint32_t task) noexcept nogil:
    cdef uint32_t at = ring.head + ring.count
    ring.at[at if at < ring.room else at - ring.room] = task
    ring.count += 1


cdef inline uint32_t pop(Ring* ring) noexcept nogil:
    cdef uint32_t task = ring.at[ring.head]
    ring.head = ring.head + 1 if ring.head + 1 < ring.room else 0
    ring.count -= 1
    return task


cdef class Terms:
    """
    What all runs on an engine have in common.

    Args:
        functions: the plain functions by handler name.
        work: the class of what a handler is given, which extends `WorkFields`.
        now: tells the time.
        ticks: of `now` in a millisecond.
        copy: returns a certain copy of a handler's result, or raises ValueError.
        forgetful: whether the store forgets with the process, so that no handler need wait for a commit.
        steps: how many tasks may start by themselves between two handlers.
        room: how many records may be written before the driver commits them.
    """

    cdef dict functions
    cdef object now, copy
    cdef type work
    cdef bint forgetful
    cdef int64_t steps, ticks
    cdef Py_ssize_t room

    def __init__(self, *, functions, work, now, ticks, copy, forgetful, steps, room):
        self.functions, self.work, self.now, self.ticks, self.copy = functions, work, now, ticks, copy
        self.forgetful, self.steps, self.room = forgetful, steps, room

    cdef inline int64_t milliseconds(self) except? -1:
        cdef int64_t at = self.now()
        return at // self.ticks


cdef class Express:
    """
    One run of a case's plain automatic work.

    What it records it writes as the text that the journal keeps; nobody needs a record before somebody else has the case.

    Args:
        of: its net.
        terms: of its engine.
        marking: of the case's root net.
        log: the case's records; `flush` appends what this has recorded.
        data: the case's data; results are merged into it.
        next_item: the number of the next work item.
        case_id: for the handlers.
        number: of the root net instance.
        lock: the case's, which the caller holds.

    Attributes:
        landed: whether the case is the driver's again.
        length: how many records the case has, those included that are text.
        next_item: as it is now.
        cuts: pairs of a number of records and the time at which there were so many.
        job: (task, item number, attempt, work) of the handler that runs or ran last.
        output, error: what came of it.
        mark: how many records there were before what came of it.
    """

    cdef ExpressNet of
    cdef Terms terms
    cdef Marking marking
    cdef list log
    cdef dict data
    cdef object case_id, acquire, release
    cdef Py_ssize_t room
    cdef int64_t number
    cdef void* block
    cdef Ring agenda  # ready tasks that have to be started, each once
    cdef Ring handlers  # that are begun, by task
    cdef uint8_t* queued  # by task, whether it is on the agenda
    cdef int64_t* items  # by task
    cdef int64_t* attempts  # by task
    cdef int64_t at
    cdef Text text  # the records that `log` does not have yet, with a comma behind each
    cdef public bint landed
    cdef readonly Py_ssize_t length
    cdef readonly int64_t next_item
    cdef readonly list cuts
    cdef readonly object job
    cdef readonly object output
    cdef readonly object error
    cdef readonly Py_ssize_t mark

    def __init__(
        self,
        ExpressNet of,
        Terms terms,
        Marking marking,
        list log,
        dict data,
        int64_t next_item,
        case_id,
        int64_t number,
        lock,
    ):
        cdef uint32_t count = of.net.c.task_count
        self.of, self.terms, self.marking, self.log, self.data = of, terms, marking, log, data
        self.next_item, self.case_id, self.number = next_item, case_id, number
        self.acquire, self.release = lock.acquire, lock.release
        self.length = self.mark = len(log)
        self.room = self.length + terms.room
        self.cuts = []
        self.at = terms.milliseconds()
        self.block = PyMem_Calloc(count + 1, 2 * sizeof(int64_t) + 2 * sizeof(uint32_t) + 1)
        if self.block == NULL:
            raise MemoryError
        self.items = <int64_t*>self.block
        self.attempts = self.items + count
        self.agenda.at = <uint32_t*>(self.attempts + count)
        self.handlers.at = self.agenda.at + count
        self.queued = <uint8_t*>(self.handlers.at + count)
        self.agenda.room = self.handlers.room = count

    def __dealloc__(self):
        PyMem_Free(self.block)
        PyMem_Free(self.text.at)

    def note(self, bytes record):
        """Record what the driver would have recorded, as JSON."""
        put(&self.text, record, len(record))
        self._close()

    def written(self):
        """Return the records that are text, as JSON without the brackets around them."""
        return PyBytes_FromStringAndSize(self.text.at, max(self.text.length - 1, 0))

    def flush(self):
        """Make the records that are text such as everybody has them."""
        if self.text.length:
            self.log += map(tuple, json.loads(b"[" + self.written() + b"]"))
            self.text.length = 0

    @property
    def handler(self):
        """The name of the handler of `job`."""
        return self.of.handlers[self.job[0]]

    def begin(self, task, number, attempt):
        """Take over a handler's item that was begun before, and has made so many attempts; the caller does so in order."""
        if not self.of.handles(task):
            raise IndexError(f"task {task} is no plain task with a handler")
        self._queue(task, number, attempt)

    def begun(self):
        """Return (task, item number, attempts) of each handler that is begun and not finished, in order."""
        cdef uint32_t each, task
        cdef list begun = []
        for each in range(self.handlers.count):
            task = self.handlers.at[(self.handlers.head + each) % self.handlers.room]
            begun.append((task, self.items[task], self.attempts[task]))
        return begun

    def left(self):
        """Return the tasks that became ready and were not started, in order: the driver starts with them."""
        cdef uint32_t each
        return [self.agenda.at[(self.agenda.head + each) % self.agenda.room] for each in range(self.agenda.count)]

    def go(self):
        """Do what can be done; the caller holds the lock before and after, and nothing holds it while a handler runs."""
        cdef int outcome = self._drain()
        while outcome < 0:
            if self.handlers.count == 0:
                return WAITS
            outcome = self._handle()
            if outcome < 0:
                outcome = self._drain()
        return outcome

    cdef inline int _close(self) except -1:
        """A record is written."""
        self.length += 1
        return put_one(&self.text, 44)

    cdef int _write(self, const char* code, Py_ssize_t width, int64_t first, uint32_t second) except -1:
        """Begin a record: its code, and two numbers."""
        put(&self.text, code, width)
        put_integer(&self.text, first)
        put_one(&self.text, 44)
        return put_integer(&self.text, second)

    cdef int _write_positions(self, tuple chosen) except -1:
        """End a record: the chosen outputs."""
        cdef bint behind = False
        put(&self.text, b",[", 2)
        for position in chosen:
            if behind:
                put_one(&self.text, 44)
            behind = True
            put_integer(&self.text, position)
        put(&self.text, b"]]", 2)
        return self._close()

    cdef int _write_data(self, object data) except -1:
        """Go on with a record: JSON data."""
        cdef Py_ssize_t begun = self.text.length
        cdef bytes written
        try:
            put_tree(&self.text, data, DEEPEST)
        except Foreign:
            self.text.length = begun
            written = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
            put(&self.text, written, len(written))
        return 0

    cdef inline int _queue(self, uint32_t task, int64_t number, int64_t attempts) except -1:
        self.items[task], self.attempts[task] = number, attempts
        push(&self.handlers, task)
        return 0

    cdef inline void _note(self, uint32_t task) noexcept nogil:
        """A task that starts by itself became ready."""
        if not self.queued[task]:
            self.queued[task] = 1
            push(&self.agenda, task)

    cdef inline bint _notice(self) noexcept:
        """
        Put the tasks that start by themselves on the agenda as they become ready; whether there was news of others.

        Of those the driver is told later; what was offered may have to be taken back.
        """
        cdef Marking m = self.marking
        cdef uint64_t came, automatic = self.of.automatic
        cdef bint others
        if m.counted:
            return self._notice_counted()
        refresh(m.of, m.word, &m.sight)
        came = m.sight.ready & (~m.sight.announced | m.sight.ceased)
        others = ((came | m.sight.ceased) & ~automatic) != 0
        m.sight.announced = (m.sight.ready & automatic) | (m.sight.announced & ~automatic)
        m.sight.ceased &= ~automatic
        came &= automatic
        while came:
            self._note(<uint32_t>lowest(came))
            came &= came - 1
        return others

    cdef bint _notice_counted(self) noexcept:
        cdef Marking m = self.marking
        cdef uint32_t top, at, task
        cdef uint64_t tops, news, bit
        cdef bint others = False
        for top in range(m.of.top_words):
            tops = m.c.news[top]
            while tops:
                at = (top << 6) + <uint32_t>lowest(tops)
                news = m.c.came[at] | m.c.ceased[at]
                while news:
                    bit = news & (0 - news)
                    news ^= bit
                    task = (at << 6) + <uint32_t>lowest(bit)
                    if self.of.kinds[task] == WAITING_:
                        others = others or (m.c.ceased[at] | (m.c.ready[at] & ~m.c.announced[at])) & bit != 0
                        continue
                    if m.c.ready[at] & bit and (m.c.ceased[at] | ~m.c.announced[at]) & bit:
                        self._note(task)
                    m.c.came[at] &= ~bit
                    m.c.ceased[at] &= ~bit
                    m.c.announced[at] = (m.c.announced[at] & ~bit) | (m.c.ready[at] & bit)
                if m.c.came[at] == 0 and m.c.ceased[at] == 0:
                    m.c.news[top] &= ~(tops & (0 - tops))
                tops &= tops - 1
        return others

    cdef int _drain(self) except? -2:
        """Fire routing tasks and begin handlers until nothing on the agenda is ready; -1, or what came of it."""
        cdef Marking m = self.marking
        cdef uint32_t task
        cdef int64_t steps = 0
        cdef bint stop = self.length > self.room
        while True:
            if not m.of.implicit and (m.c.counts[1] != 0 if m.counted else m.word & 2 != 0):
                return OVER
            stop = self._notice() or stop
            if self.agenda.count == 0:
                if m.of.or_count and m.settle():
                    continue
                break
            task = self.agenda.at[self.agenda.head]
            if m.of.or_count and m.of.lines[task].join == OR and m.settle():
                # First what that has changed is looked at, then this one again.
                continue
            if self.of.kinds[task] == DRIVEN_ and m.is_ready_now(task):
                return STOP
            pop(&self.agenda)
            self.queued[task] = 0
            if not m.is_ready_now(task):
                continue
            steps += 1
            if steps > self.terms.steps:
                return NO
            if self.of.kinds[task] == ROUTING_:
                if self._fire(task) == NO:
                    return NO
            else:
                m._start(task)
                self._write(b"[4,", 3, self.number, task)  # BEGUN: no instance, no reason, nobody, no data
                put(&self.text, b',0,null,"",null]', 16)
                self._close()
                self._queue(task, self.next_item, 0)
                self.next_item += 1
        return STOP if stop else -1

    cdef int _fire(self, uint32_t task) except? -2:
        cdef Marking m = self.marking
        cdef tuple chosen = self._choose(task)
        if chosen is None:
            return NO
        self._write(b"[3,", 3, self.number, task)  # FIRED
        self._write_positions(chosen)
        if not m.counted and self.of.branches[task] is None:
            if fire_noting(m.of, &m.word, &m.sight, task, m.of.words[task].outputs):
                return -1
        m._start(task)
        return self._pass(task, chosen)

    cdef inline int _pass(self, uint32_t task, tuple chosen) except? -2:
        """Put on the chosen outputs."""
        cdef Marking m = self.marking
        if not m.counted and self.of.branches[task] is None:
            if pass_word(m.of, &m.word, &m.sight, task, m.of.words[task].outputs):
                return -1
        m._pass_control(task, m._choose(task, chosen), IDLE)
        return -1

    cdef tuple _choose(self, uint32_t task):
        """Decide which outputs get a token, as `Case._choose`; None where that fails, for the driver to say why."""
        cdef object branches = self.of.branches[task]
        cdef bint first_only
        cdef list chosen
        if branches is None:
            return <tuple>self.of.outputs[task]
        first_only = self.of.first_only[task]
        chosen = []
        try:
            for test, position in <tuple>branches:
                if test is None:
                    if not chosen:
                        chosen.append(position)
                elif test(self.data):
                    chosen.append(position)
                if first_only and chosen:
                    break
        except ValueError:
            return None
        return tuple(chosen) if chosen else None

    cdef int _handle(self) except? -2:
        """Run the next handler and record its result; -1, or what came of it."""
        cdef ExpressNet of = self.of
        cdef uint32_t task = self.handlers.at[self.handlers.head]
        cdef int64_t attempt = self.attempts[task] + 1
        cdef int64_t at
        cdef tuple chosen
        cdef object number = self.items[task]
        cdef WorkFields work
        cdef object function = self.terms.functions.get(of.handlers[task])
        if function is None or not (self.terms.forgetful or of.replayable[task]):
            return STOP
        put(&self.text, b"[17,", 4)  # ITEM
        put_integer(&self.text, self.items[task])
        put(&self.text, b',"started","",', 14)
        put_integer(&self.text, attempt)
        put_one(&self.text, 93)
        self._close()
        self.attempts[task] = attempt
        work = <WorkFields>(<PyTypeObject*>self.terms.work).tp_new(self.terms.work, (), NULL)
        work.case_id, work.task, work._number, work.attempt = self.case_id, of.names[task], number, attempt
        work._source = self.data
        self.job = (task, number, attempt, work)
        self.output = self.error = None
        self.mark = self.length
        self.release()
        try:
            self.output = function(work)
        except Exception as error:
            self.error = error
        finally:
            self.acquire()
        if self.landed:
            return OVERTAKEN
        at = self.terms.milliseconds()
        if at != self.at:
            self.cuts.append((self.mark, self.at))
            self.at = at
        if self.error is not None:
            return FAILED
        if Py_REFCNT(work) > 2:
            # Somebody keeps it: its data stay those with which the handler began.
            (<object>work).data
        output = self.output
        if output is not None:
            try:
                output = self.terms.copy(output)
            except (ValueError, LimitExceeded):
                return NO
            self.data.update(output)
        chosen = self._choose(task)
        if chosen is None:
            return NO
        self._write(b"[5,", 3, self.number, task)  # FINISHED: no instance, what came of it, `knhk._codes.End.COMPLETES`
        put(&self.text, b",0,", 3)
        self._write_data(output)
        put(&self.text, b",1", 2)
        self._write_positions(chosen)
        pop(&self.handlers)
        return self._pass(task, chosen)
