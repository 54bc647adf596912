"""When is an OR-join enabled?  The one place where the semantics of the engine is an algorithm.

Definition (rule 2, WCP-38; Wynn, Edmond, van der Aalst & ter Hofstede 2005, "Achieving a general, formal and decidable approach to
the OR-join in workflow using reset nets").  Let J be an OR-join and s the state of its net instance.
An input is marked when its condition holds the weight of its arc.
J is enabled iff some input is marked and there is no unmarked input q such that from s, without ever starting J, a state can
be reached that marks all inputs marked in s, and q.  In that search

- a task is started (takes) and completed (cancels, then puts) at two moments, and runs in between, once at a time;
- XOR-joins and *other OR-joins* take from any one marked input, whichever suits; splits put as suits;
- predicates, instance numbers, timers, triggers and subnets are left out: what runs may complete;
- the output condition is a place like any other.

The question whether such a state can be reached is a *coverability* question, hence decidable for monotone systems (well-structured
transition systems: Finkel & Schnoebelen 2001) though not in any reasonable time: reset nets are beyond primitive recursion.
So `OrJoinAnalysis` answers `UNDECIDED` when a fixed amount of work was not enough, and never guesses.

How it is decided, each step only for what the steps before left open:

1. *Memory*, by the part of the state that matters for J.
2. *Upstream*.  An unmarked q cannot come if no condition and no running task from which a path leads to q (not through J) is
   marked: a path into q starts with what is there.  If no q can come, J is enabled.
3. *Escort*.  J waits if a single token can walk to some q by itself: from a marked condition or a running task, by tasks that need
   that one token only, read nothing, and neither take from an input of J nor empty one.  Walk: if a task on the way runs, begin with the
   last that does, by completing it; the tasks behind it are idle, or drain and can be.  Conditions that feed non-cancelling
   partial joins are no way (the token might be swallowed), nor is there an escort when an input of J is one of them.
4. *Backward search* (`_orjoin_search.Backward`): what must hold now so that the target is covered later?
   An element asks for tokens on conditions and for some tasks to run; it stands for all states that hold as much.
   Stepping back over every transition that achieves something the element asks for, and dropping elements that ask for no less than
   a known one, ends (Dickson), with all states from which the target can be covered.  It steps back the textbook way: what a
   transition empties and then puts, it may owe entirely to itself (YAWL differs: it keeps that token in the predecessor).
   *Closure*: only what can hold when nothing is ever lost is asked for, and no more of it than there is where nothing can put any.
   *Exclusions* (X): only two things that can hold together are asked for together.  Least fixpoint over pairs: a transition
   whose premises can hold pairwise may fire beside all that can hold together with each of them, and is not emptied by it.
5. *Forward search* (`_orjoin_search.Forward`) for joins that step 4 covers only by a relaxation, see (P).

Why step 4 is right.  Order states by s <= s' when s' has as many tokens everywhere, runs all tasks that s runs, and each
partial join has in s' either seen nothing, or fired as in s and seen as much.

(S) Whatever s does, s' can do so that the order holds again.  Taking, emptying, putting and aborting keep an order of tokens.  If s starts a
    task that s' runs already, s' does nothing: it has the tokens that s took.  So *idle need not be asked for*.
    The exception is a start that resets a partial join, which s' must not miss: there idle is asked for, and order means equality.
(D) Draining counts as idle: it only forbids to start, may end at any time, and nothing asks for it.
(R) Tasks from which no path leads to an input of J are left out: without them there are never fewer tokens or running tasks (S).  Kept
    besides: partial joins that swallow from a kept condition, and tasks that reset those, or abort those that reset (the exception of S).
(O) An OR-split puts on all its outputs: that covers what any subset does (S).  XOR-splits are one transition an output.
(F) A task is *one* transition, start and completion at once, if either (a) its completion cancels nothing relevant, and nobody else
    empties its outputs: then completing at once is as good as later; or (b) it reads nothing, cancels nothing at its start, and
    nobody else empties its inputs or has them swallowed: then starting just before completing is as good as earlier.  (A task that another
    one aborts meanwhile never completes: starting it was of no use.)  A task that runs now keeps its completion as a transition of its own.
(P) Non-cancelling partial joins are not monotone as they stand: more tokens, more are taken and swallowed.  They become so when tokens
    and memory are counted together: v(c) = tokens on c, plus the weight of the arc if c has been seen in this round, and a flag
    whether the join has fired.  As the join takes and swallows whatever it can, c has been seen iff the flag is up and v(c) >=
    weight.  Firing then changes the flag and no v; the end of a round takes the weights and lowers the flag (when it likes: what
    is possible before is possible after); emptying c leaves v(c) at the weight if seen; resetting the join takes the weight where
    seen; others find v(c) - weight tokens if seen.  All these are monotone in v for a given flag, if the weight is 1, or if nobody
    else looks at c and nobody resets the join; and if no other such join swallows from c.  Such joins are *flagged*.
    For others step 4 uses a relaxation: they take any `required` inputs, swallow and remember nothing, which leaves more tokens
    than truth: if even that covers nothing J is enabled; else step 5 searches the concrete states of the whole net.
    Cancelling partial joins need no such care: they empty all their inputs, like any transition with a cancellation set.

The state must be settled: a fired join has swallowed what it could, a detached task is never busy.
Every task has an input, no task has two arcs from the same condition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from operator import itemgetter
from typing import Final

from knhk._orjoin_search import COVERED, EXHAUSTED, Backward, Forward, System, swallows
from knhk._tables import AND, OR, PARTIAL, Arc, Tables, TaskTable
from knhk.errors import InternalError

ENABLED: Final = 1
WAITING: Final = 0
UNDECIDED: Final = 2

DEFAULT_BUDGET: Final = 10_000
"""Units of work for one decision; a unit is roughly one element looked at."""

_REMEMBERED: Final = 1_024  # answers kept for each OR-join; forgetting costs time only


class OrJoinAnalysis:
    """
    Decides, for one net, whether its OR-joins are enabled; shared by all cases of the net.

    Args:
        tables: the net.
        budget: units of work for one decision.  Work is counted, not timed: the answer depends on the arguments only.
    """

    __slots__ = ("_budget", "_condition_bits", "_producers", "_tables", "_task_bits", "_views")

    def __init__(self, tables: Tables, *, budget: int = DEFAULT_BUDGET) -> None:
        self._tables = tables
        self._budget = budget
        self._condition_bits = [1 << bit for bit in range(len(tables.conditions))]
        self._task_bits = [1 << len(tables.conditions) + bit for bit in range(len(tables.table))]
        self._producers: list[list[tuple[int, int]]] = [[] for _ in tables.conditions]
        for number, task in enumerate(tables.table):
            for condition, weight in task.outputs:
                self._producers[condition].append((number, weight))
        self._views: dict[int, _View] = {}

    def decide(self, join: int, marking: Sequence[int], status: Sequence[int], seen: Mapping[int, int]) -> int:
        """
        Decide whether an OR-join is enabled, apart from its own status and reads.

        Args:
            join: the number of the task with the OR-join.
            marking: by condition, how many tokens it holds.
            status: by task, 0 idle, 1 busy, 2 draining.
            seen: by non-cancelling partial join in the middle of a round, the bit mask of input positions that have come.

        Returns:
            `ENABLED`, `WAITING`, or `UNDECIDED` when the budget was not enough.
        """
        view = self._views.get(join)
        if view is None:
            view = self._views[join] = _View(self._tables, self._producers, join)
        marked = [arc for arc in view.inputs if marking[arc[0]] >= arc[1]]
        if not marked or len(marked) == len(view.inputs):
            return ENABLED if marked else WAITING
        held = self._held(marking, status)
        suspects = []
        for position, arc in enumerate(view.inputs):
            if marking[arc[0]] < arc[1] and held & view.upstream[position]:
                if held & view.escorts[position]:
                    return WAITING
                suspects.append(arc)
        if not suspects:
            return ENABLED
        search = view.search or view.prepare(self._tables, self._producers)
        key = search.key(marking, status, seen)
        answer = search.memory.get(key)
        if answer is None:
            goals = [[*marked, suspect] for suspect in suspects]
            answer = self._search(search.system, goals, marking, status, seen)
            if len(search.memory) >= _REMEMBERED:
                search.memory.clear()
            search.memory[key] = answer
        return answer

    def _held(self, marking: Sequence[int], status: Sequence[int]) -> int:
        """Return the bits of the marked conditions, and above them those of the running tasks."""
        running = [each == 1 for each in status] if 2 in status else status
        return sum(compress(self._condition_bits, marking)) + sum(compress(self._task_bits, running))

    def _search(
        self,
        system: System,
        goals: Sequence[Sequence[Arc]],
        marking: Sequence[int],
        status: Sequence[int],
        seen: Mapping[int, int],
    ) -> int:
        targets = [target for goal in goals for target in system.targets(goal)]
        outcome = Backward(system, system.state(marking, status, seen), self._budget).run(targets)
        if outcome != EXHAUSTED and not system.exact:
            outcome = Forward(self._tables, system.join, goals, self._budget).run(marking, status, seen)
        if outcome == EXHAUSTED:
            return ENABLED
        return WAITING if outcome == COVERED else UNDECIDED


_Producers = Sequence[Sequence[tuple[int, int]]]
"""By condition, the tasks that put tokens there, and how many."""

_Key = tuple[object, object, tuple[int, ...]]


class _View:
    """
    The net as seen from one OR-join: all that does not depend on the state.

    Attributes:
        inputs: the arcs of the join.
        upstream: by input position, the bits of what it can be reached from (step 2).
        escorts: by input position, the bits of that from where a single token suffices (step 3).
        search: what steps 1, 4 and 5 need; made when first needed.
    """

    __slots__ = ("escorts", "inputs", "join", "search", "upstream")

    def __init__(self, tables: Tables, producers: _Producers, join: int) -> None:
        if tables.table[join].join != OR:
            raise InternalError(f"task {join} has no OR-join: only OR-joins are analysed")
        self.join = join
        self.inputs = tables.table[join].inputs
        self.upstream = [_upstream(tables, producers, join, condition) for condition, _ in self.inputs]
        self.escorts = [_escorts(tables, producers, join, arc) for arc in self.inputs]
        self.search: _Search | None = None

    def prepare(self, tables: Tables, producers: _Producers) -> _Search:
        """Make what the searches need."""
        self.search = _Search(tables, producers, self.join)
        return self.search


class _Search:
    """
    The part of the net that is searched for one OR-join, and what was found.

    Attributes:
        system: the monotone system.
        memory: the answers by what matters of the state.
    """

    __slots__ = ("_partials", "_status", "_tokens", "memory", "system")

    def __init__(self, tables: Tables, producers: _Producers, join: int) -> None:
        conditions, tasks = _relevant(tables, producers, join)
        self.system = System(tables, join, frozenset(conditions), frozenset(tasks))
        if not self.system.exact:
            conditions, tasks = set(range(len(tables.conditions))), set(range(len(tables.table)))
        self._tokens = itemgetter(*sorted(conditions))
        self._status = itemgetter(*sorted(tasks | {join}))
        self._partials = [t for t in sorted(tasks) if swallows(tables.table[t])]
        self.memory: dict[_Key, int] = {}

    def key(self, marking: Sequence[int], status: Sequence[int], seen: Mapping[int, int]) -> _Key:
        """Return what matters of the state."""
        return self._tokens(marking), self._status(status), tuple([seen.get(t, 0) for t in self._partials])


def _bits(conditions: set[int], tasks: set[int], shift: int) -> int:
    return sum(1 << c for c in conditions) | sum(1 << shift + t for t in tasks)


def _upstream(tables: Tables, producers: _Producers, join: int, condition: int) -> int:
    conditions: set[int] = set()
    tasks: set[int] = set()
    todo = [condition]
    while todo:
        for t, _ in producers[todo.pop()]:
            if t in tasks:
                continue
            tasks.add(t)
            if t != join:
                todo += [c for c, _ in tables.table[t].inputs if c not in conditions]
                conditions.update(c for c, _ in tables.table[t].inputs)
    return _bits(conditions, tasks, len(tables.conditions))


def _escorts(tables: Tables, producers: _Producers, join: int, arc: Arc) -> int:
    inputs = {condition for condition, _ in tables.table[join].inputs}
    conditions: set[int] = set()
    tasks: set[int] = set()
    todo = [] if any(tables.swallowers[condition] for condition in inputs) else [arc]
    while todo:
        condition, needed = todo.pop()
        for t, given in producers[condition]:
            task = tables.table[t]
            if given < needed or not inputs.isdisjoint(task.cancels_conditions):
                continue
            tasks.add(t)
            if t == join or not inputs.isdisjoint(task.join_cancels_conditions):
                continue
            for c in _single_tokens(task):
                if c not in conditions and c not in inputs and not tables.swallowers[c]:
                    conditions.add(c)
                    todo.append((c, 1))
    return _bits(conditions, tasks, len(tables.conditions))


def _single_tokens(task: TaskTable) -> Iterator[int]:
    """Yield the conditions one token of which is all that the task needs to start."""
    alone = (
        len(task.inputs) == 1
        if task.join == AND
        else task.join != PARTIAL or (task.join_cancels and task.required == 1)
    )
    if alone and not task.reads:
        for condition, weight in task.inputs:
            if weight == 1:
                yield condition


def _relevant(tables: Tables, producers: _Producers, join: int) -> tuple[set[int], set[int]]:
    """Close the inputs of the join under all that can help to mark them (R)."""
    conditions = {condition for condition, _ in tables.table[join].inputs}
    tasks: set[int] = set()
    todo = list(conditions)
    while todo:
        condition = todo.pop()
        fresh = [t for t, _ in (*producers[condition], *tables.swallowers[condition]) if t not in tasks]
        while fresh:
            number = fresh.pop()
            task = tables.table[number]
            if number in tasks:
                continue
            tasks.add(number)
            if number == join:
                continue
            near = {*(c for c, _ in task.inputs), *task.reads} - conditions
            conditions |= near
            todo += sorted(near)
            if swallows(task) or task.join_cancels_tasks:
                fresh += [
                    t
                    for t, other in enumerate(tables.table)
                    if number in other.cancels_tasks + other.join_cancels_tasks
                ]
    return conditions, tasks
