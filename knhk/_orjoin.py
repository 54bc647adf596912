"""When is an OR-join enabled?  The one place where the semantics of the engine is an algorithm.

Definition (rule 2, WCP-38; Wynn, Edmond, van der Aalst & ter Hofstede 2005, "Achieving a general, formal and
decidable approach to the OR-join in workflow using reset nets").  Let J be an OR-join and s the state of its net.
An input is marked when its condition holds at least the weight of its arc.
J is enabled iff some input is marked and there is no unmarked input q such that from s, without ever starting J, a
state can be reached that marks all inputs marked in s, and q.  In that search

- a task is started (takes) and completed (cancels, then puts) at two moments; in between it runs, once at a time;
- XOR-joins and *other OR-joins* take from any one marked input, whichever suits; splits put as suits;
- predicates, numbers of instances, timers, triggers and subnets are left out: what runs may complete;
- the output condition is a place like any other.

Whether such a state can be reached is a question of *coverability*: decidable, since the system can be made monotone
(well-structured transition systems: Finkel & Schnoebelen 2001), though not in any reasonable time.
So `OrJoinAnalysis` answers `UNDECIDED` when a fixed amount of work was not enough, and never guesses.

It goes by steps, each for what the steps before have left open:

1. *Upstream*.  An unmarked q cannot come if nothing is there from which a path leads to q, not through J: no token, no
   running task.  (What puts a token somewhere has taken one upstream of it.)  If no q can come, J is enabled.
2. *Escort*.  J waits if a single token can walk to some q by itself: from a marked condition or a running task, by
   tasks that need that one token only, read nothing, and neither take from an input of J nor empty one.  If tasks on
   the way run, the walk begins with the last of them, by completing it; those behind it are idle, or drain and can be.
   No way leads over a condition that feeds a non-cancelling partial join: it might swallow the token.  And there is no
   escort at all where J's own inputs feed one.
3. *Memory*, by the part of the state that matters for J (R).
4. *Backward search* (`Backward`): what must hold now so that the target is covered later?  An element asks for tokens
   on conditions and for some tasks to run, and stands for all states that hold as much.  Stepping back over every
   transition that achieves something asked for, and dropping elements that ask for no less than a known one, comes to
   an end (Dickson), with all states from which the target can be covered.  Each step is the textbook one: what a
   transition empties and then puts, it may owe wholly to itself (YAWL keeps such a token in the predecessor).
   *Closure*: what cannot hold even if nothing is ever lost is not asked for, nor more than there is of what none puts.
   (X) *Exclusions*: two things that cannot hold together are not asked for together.  Least fixpoint over pairs: if the
   premises of a transition can hold pairwise, it may fire, beside all that can hold together with each of them and
   that it does not take, empty or end; what is there twice is a pair with itself.
5. *Forward search* (`Forward`) over concrete states, where step 4 only has a relaxation (P).

Why step 4 is right.  Order states by s <= s' when s' has as many tokens everywhere, runs all tasks that s runs, and
each partial join has in s' either seen nothing, or fired as in s and seen as much.

(S) Whatever s does, s' can do so that s <= s' holds again.  Taking, emptying, putting and aborting keep an order of
    tokens.  If s starts a task that s' runs already, s' does nothing: it keeps the tokens that s took.  Hence *idle
    need not be asked for*.  The exception is a start that resets a partial join, which s' must not miss: for such tasks
    idle is asked for, and s <= s' means that both run them or neither does.
(D) Draining is idle: it only forbids to start, may end at any time, and nothing asks for it.
(O) An OR-split puts on all its outputs, which covers what any part of them does (S).  An XOR-split is a transition for
    each output.
(R) Tasks from which no path leads to an input of J are left out: without their moves there are never fewer tokens or
    running tasks (S).  Kept besides: partial joins that swallow from a kept condition, and the tasks that reset those,
    or that abort one that does so at its start (the exception in S).
(F) A task is *one* transition, start and completion at once, in two cases.  (a) Its completion cancels nothing
    relevant but itself, and nobody else empties its outputs: completing at once is as good as later.  (b) It reads
    nothing and cancels nothing at its start, and nobody else empties its inputs or takes them without being asked to (a
    partial join): starting just before completing is as good as earlier.  (A task that is aborted in between was
    started for nothing.)  For the task that runs now its completion is a transition of its own.
(P) Non-cancelling partial joins are not monotone as they stand: of more tokens, more are taken and swallowed.  They
    become so when tokens and memory are counted together: v(c) = the tokens on c, plus the weight of the arc if c has
    been seen in this round; and a flag says whether the join has fired.  As it takes and swallows whatever it can, c
    has been seen iff the flag is up and v(c) >= weight.  So firing raises the flag and changes no v.  The end of a
    round takes the weights and lowers the flag, whenever it likes (what is possible before is possible after).
    Emptying c leaves the weight if seen.  Resetting the join takes the weight where seen.  Others find v(c) - weight if
    seen.
    For a given flag all these are monotone in v, if the weight is 1, or if nobody else looks at c and nobody resets the
    join; and if no other such join swallows from c.  Such joins are *flagged*.
    For the others step 4 has a relaxation: they take any `required` inputs, remember and swallow nothing, which leaves
    more than the truth.  If even that covers nothing, J is enabled; if not, step 5 searches the concrete
    states of what is kept and all that changes it.
    Cancelling partial joins need no such care: they empty all their inputs, like any cancellation set.

The state must be settled: a fired join has swallowed what it can, a detached task is never busy.
Every task has an input, no task has two arcs from one condition, a cancelling partial join cancels its own inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress, product
from operator import itemgetter
from typing import Final

import attrs

from knhk._orjoin_paths import Producers, aborted, bits_of, emptied, escorts, influenced, relevant, upstream
from knhk._orjoin_search import (
    CAP,
    COVERED,
    DROP,
    EXHAUSTED,
    ZERO,
    Decide,
    Forward,
    Monotone,
    Rule,
    Search,
    Use,
    backward,
    swallows,
)
from knhk._tables import AND, OR, PARTIAL, XOR, Arc, Tables, TaskTable
from knhk.errors import InternalError

ENABLED: Final = 1
WAITING: Final = 0
UNDECIDED: Final = 2

DEFAULT_BUDGET: Final = 8_000
"""Units of work for one decision; a unit is roughly one element looked at."""

# The kinds of atoms: what an element of the backward search may ask for.
_TOKENS: Final = 0  # tokens on a condition, and those that a flagged partial join remembers from it (P)
_BUSY: Final = 1  # the task runs
_IDLE: Final = 2  # the task does not run; asked for only where (S) fails
_UNFIRED: Final = 3  # the flagged partial join has seen nothing in this round
_FIRED: Final = 4  # it has fired and swallows

_FUSED_VARIANTS: Final = 64  # a task with more ways through it keeps start and completion apart: a sum, not a product
_FLAGS_MET: Final = 5  # a task that meets more flagged joins would need more than 2 ** 5 variants: they stay unflagged
_REMEMBERED: Final = 1_024  # answers kept for each OR-join; forgetting costs time only


class OrJoinAnalysis:
    """
    Decides, for one net, whether its OR-joins are enabled; shared by all cases of the net.

    Args:
        tables: the net.
        budget: units of work for one decision.  Work is counted, not timed: the answer depends on the arguments only.
        searching: makes the search in a monotone system (step 4): the reference, or what does the same.
        deciding: makes what does steps 1 to 4 for a join, where no partial join remembers (`knhk._hot.orjoin`).
    """

    __slots__ = (
        "_budget",
        "_condition_bits",
        "_deciding",
        "_producers",
        "_searching",
        "_tables",
        "_task_bits",
        "_views",
    )

    def __init__(
        self,
        tables: Tables,
        *,
        budget: int = DEFAULT_BUDGET,
        searching: Callable[[Monotone], Search] = backward,
        deciding: Callable[..., Decide | None] | None = None,
    ) -> None:
        self._tables = tables
        self._budget = budget
        self._searching = searching
        self._deciding = deciding
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
            seen: by non-cancelling partial join in the middle of a round, the bit mask of inputs that have come.

        Returns:
            `ENABLED`, `WAITING`, or `UNDECIDED` when the budget was not enough.
        """
        view = self._view(join)
        if view.decide is not None:
            return view.decide(marking, status)
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
        region = self._region(view)
        key = region.key(marking, status, seen)
        answer = region.answers.get(key)
        if answer is None:
            answer = self._search(region, marked, suspects, marking, status, seen)
            if len(region.answers) >= _REMEMBERED:
                region.answers.clear()
            region.answers[key] = answer
        return answer

    def tiers(self, join: int) -> list[tuple[Arc, int, int]]:
        """Return, for each input arc of an OR-join, the bits of steps 1 and 2: conditions, and above them running tasks."""
        view = self._view(join)
        return list(zip(view.inputs, view.upstream, view.escorts, strict=True))

    def relevant(self, join: int) -> int:
        """Return the bits, as in `tiers`, on which the answer depends for a net in which no partial join swallows."""
        view = self._view(join)
        return self._region(view).relevant

    def _view(self, join: int) -> _View:
        view = self._views.get(join)
        if view is None:
            view = self._views[join] = _View(self._tables, self._producers, join)
        return view

    def _region(self, view: _View) -> _Region:
        if view.region is None:
            region = view.explore(self._tables, self._producers, self._searching)
            if self._deciding is not None and not region.partials:
                size, atoms = (len(self._tables.conditions), len(self._tables.table)), region.translation.atoms()
                tiers = self.tiers(view.join)
                view.decide = self._deciding(region.search, tiers, atoms, size, self._budget, _REMEMBERED)
            return region
        return view.region

    def _held(self, marking: Sequence[int], status: Sequence[int]) -> int:
        """Return the bits of the marked conditions, and above them those of the running tasks."""
        running = [each == 1 for each in status] if 2 in status else status
        return sum(compress(self._condition_bits, marking)) + sum(compress(self._task_bits, running))

    def _search(
        self,
        region: _Region,
        marked: Sequence[Arc],
        suspects: Sequence[Arc],
        marking: Sequence[int],
        status: Sequence[int],
        seen: Mapping[int, int],
    ) -> int:
        translation = region.translation
        have = translation.state(marking, status, seen)
        targets, common = translation.targets(marked, suspects), translation.common(marked)
        outcome, _ = region.search(have, targets, common, self._budget)
        if outcome != EXHAUSTED and not translation.exact:
            goals = [[*marked, suspect] for suspect in suspects]
            outcome = region.forward.run(goals, self._budget, marking, status, seen)
        if outcome == EXHAUSTED:
            return ENABLED
        return WAITING if outcome == COVERED else UNDECIDED


_Key = tuple[object, object, tuple[int, ...]]


class _View:
    """
    The net as seen from one OR-join: all that does not depend on the state.

    Attributes:
        inputs: the arcs of the join.
        upstream: by input position, the bits of what it can be reached from (step 1).
        escorts: by input position, the bits of that from where a single token suffices (step 2).
        region: what steps 3 to 5 need; made when first needed.
        decide: what decides by itself, if there is such a thing; made with the region.
    """

    __slots__ = ("decide", "escorts", "inputs", "join", "region", "upstream")

    def __init__(self, tables: Tables, producers: Producers, join: int) -> None:
        if tables.table[join].join != OR:
            raise InternalError(f"task {join} has no OR-join: only OR-joins are analysed")
        self.join = join
        self.inputs = tables.table[join].inputs
        self.upstream = [upstream(tables, producers, join, condition) for condition, _ in self.inputs]
        self.escorts = [escorts(tables, producers, join, arc) for arc in self.inputs]
        self.region: _Region | None = None
        self.decide: Decide | None = None

    def explore(
        self, tables: Tables, producers: Producers, searching: Callable[[Monotone], Search] = backward
    ) -> _Region:
        """Make the region."""
        self.region = _Region(tables, producers, self.join, searching)
        return self.region


class _Region:
    """
    The part of the net that is searched for one OR-join.

    Attributes:
        translation: the monotone system.
        search: the search in it.
        forward: the search for where the system is not exact.
        answers: what was found, by what matters of the state.
        partials: the partial joins that remember.
        relevant: the bits of the conditions and tasks that matter.
    """

    __slots__ = ("_status", "_tokens", "answers", "forward", "partials", "relevant", "search", "translation")

    def __init__(
        self, tables: Tables, producers: Producers, join: int, searching: Callable[[Monotone], Search]
    ) -> None:
        conditions, tasks = relevant(tables, producers, join)
        self.translation = _Translation(tables, join, conditions, tasks)
        self.search = searching(self.translation.system)
        if not self.translation.exact:
            conditions, tasks = influenced(tables, join, conditions, tasks)
        self.forward = Forward(tables, join, conditions, tasks)
        self._tokens = itemgetter(*sorted(conditions))
        self._status = itemgetter(*sorted(tasks | {join}))
        self.partials = [t for t in sorted(tasks) if swallows(tables.table[t])]
        self.relevant = bits_of(conditions, tasks | {join}, len(tables.conditions))
        self.answers: dict[_Key, int] = {}

    def key(self, marking: Sequence[int], status: Sequence[int], seen: Mapping[int, int]) -> _Key:
        """Return what matters of the state."""
        return self._tokens(marking), self._status(status), tuple([seen.get(t, 0) for t in self.partials])


class _Translation:
    """
    The part of a net that matters for one OR-join, as a monotone system.

    Args:
        tables: the net.
        join: the OR-join.
        conditions, tasks: the relevant ones, from `_relevant`.

    Attributes:
        system: the result.
        exact: whether it is the net's own, not just a relaxation of it: every partial join is flagged (P).
    """

    def __init__(self, tables: Tables, join: int, conditions: set[int], tasks: set[int]) -> None:
        self._join = join
        self._table = tables.table
        self._tasks = tasks
        self._number: dict[tuple[int, int], int] = {(_TOKENS, c): atom for atom, c in enumerate(sorted(conditions))}
        partial = {t for t in tasks if swallows(tables.table[t])}
        self._flagged = self._choose_flagged(tables, partial)
        self.exact = self._flagged == partial
        self._memory = {
            condition: (t, position, weight)
            for t in sorted(self._flagged)
            for position, (condition, weight) in enumerate(tables.table[t].inputs)
        }
        # (S) fails for these when they stay apart: their start may wake up a flagged join.
        self._special = {t for t in tasks if not self._flagged.isdisjoint(tables.table[t].join_cancels_tasks)}
        self._emptiers = self._find_emptiers()
        rules = [rule for t in sorted(tasks) for rule in self._rules_of(t) if rule.gives or rule.after]
        rules += [self._reset_rule(t) for t in sorted(self._flagged)]
        heaviest = max(weight for task in self._table for _, weight in task.inputs + task.outputs)
        self.system = Monotone(len(self._number), rules, heaviest)
        self._conditions = sorted(conditions)
        self._remembered = [(self._number[_TOKENS, c], *what) for c, what in self._memory.items()]
        self._control_atoms = [each for each in self._number if each[0] != _TOKENS]

    # -- which partial joins can be carried exactly (P) --

    def _choose_flagged(self, tables: Tables, partial: set[int]) -> set[int]:
        flagged = {t for t in partial if self._can_be_flagged(tables, t)}
        crowded: set[int] = set()
        for number in self._tasks | {self._join}:
            task = self._table[number]
            near = {*(condition for condition, _ in task.inputs), *task.reads, *emptied(task)}
            met = {t for condition in near for t, _ in tables.swallowers[condition]}.union(aborted(task)) & flagged
            if len(met) > _FLAGS_MET:
                crowded |= met
        return flagged - crowded

    def _can_be_flagged(self, tables: Tables, number: int) -> bool:
        cancelled = any(number in aborted(self._table[t]) for t in self._tasks)
        for condition, weight in self._table[number].inputs:
            observers = [t for t in tables.consumers[condition] if t != number and t in self._tasks | {self._join}]
            if len(tables.swallowers[condition]) > 1 or (weight > 1 and (cancelled or observers)):
                return False
        return True

    # -- which tasks are one transition instead of two (F) --

    def _find_emptiers(self) -> dict[int, set[int]]:
        emptiers: dict[int, set[int]] = {}
        for t in self._tasks:
            forgotten = [self._table[other].inputs for other in self._flagged.intersection(aborted(self._table[t]))]
            for condition in (*emptied(self._table[t]), *(c for arcs in forgotten for c, _ in arcs)):
                emptiers.setdefault(condition, set()).add(t)
        return emptiers

    def _fuses(self, number: int) -> bool:
        task = self._table[number]
        ways_in = 1 if task.join in (AND, PARTIAL) else len(task.inputs)
        ways_out = len(task.outputs) if task.split == XOR else 1
        if task.detached or ways_in * ways_out > _FUSED_VARIANTS:
            return task.detached
        kept = [condition for condition in task.cancels_conditions if (_TOKENS, condition) in self._number]
        harmless = not kept and self._tasks.isdisjoint({*task.cancels_tasks} - {number})
        if harmless and not any(self._emptied_by_others(number, condition) for condition, _ in task.outputs):
            return True
        return (
            not task.reads
            and not task.join_cancels
            and all(
                not self._emptied_by_others(number, condition) and self._memory.get(condition, (number,))[0] == number
                for condition, _ in task.inputs
            )
        )

    def _emptied_by_others(self, number: int, condition: int) -> bool:
        return not self._emptiers.get(condition, set()) <= {number}

    # -- the transitions --

    def _atom(self, kind: int, number: int) -> int:
        return self._number.setdefault((kind, number), len(self._number))

    def _rules_of(self, number: int) -> Iterator[Rule]:
        if number == self._join:
            yield from self._variants(number, starts=False, completes=True)
        elif self._fuses(number):
            yield from self._variants(number, starts=True, completes=True)
            if not self._table[number].detached:
                yield from self._variants(number, starts=False, completes=True)
        else:
            yield from self._variants(number, starts=True, completes=False)
            yield from self._variants(number, starts=False, completes=True)

    def _variants(self, number: int, *, starts: bool, completes: bool) -> Iterator[Rule]:
        task = self._table[number]
        met: set[int] = set()
        if starts:
            near = (*(condition for condition, _ in task.inputs), *task.reads, *task.join_cancels_conditions)
            met |= self._met(near, task.join_cancels_tasks)
        if completes:
            met |= self._met(task.cancels_conditions, task.cancels_tasks)
        if starts and number in self._flagged:
            met.add(number)
        for values in product((False, True), repeat=len(met)):
            fired = dict(zip(sorted(met), values, strict=True))
            if starts and fired.get(number):
                continue  # a partial join starts only when it has seen nothing
            yield from self._variants_in(number, fired, starts=starts, completes=completes)

    def _variants_in(self, number: int, fired: dict[int, bool], *, starts: bool, completes: bool) -> Iterator[Rule]:
        """Yield the transitions of this task where the flags of the joins that it meets are `fired` beforehand."""
        task = self._table[number]
        takes = list(self._takes(number, fired)) if starts else [Rule()]
        gives = list(self._gives(task)) if completes else [()]
        flags = dict(fired)
        edits: list[Use] = []
        if starts:
            flags.update({number: True} if number in self._flagged else {})
            edits += self._edits(task.join_cancels_conditions, task.join_cancels_tasks, flags)
        if completes:
            edits += self._edits(task.cancels_conditions, task.cancels_tasks, flags)
        before, after, breaks = self._control(number, starts=starts, completes=completes)
        for t, was in fired.items():
            before.append(self._atom(_FIRED if was else _UNFIRED, t))
            breaks.append(self._atom(_UNFIRED if flags[t] else _FIRED, t))
            if flags[t] != was:
                after.append(self._atom(_FIRED if flags[t] else _UNFIRED, t))
        rest = Rule(edits=tuple(edits), before=tuple(before), after=tuple(after), breaks=tuple(breaks))
        for take, give in product(takes, gives):
            yield attrs.evolve(rest, uses=take.uses, least=take.least, among=take.among, gives=give)

    def _control(self, number: int, *, starts: bool, completes: bool) -> tuple[list[int], list[int], list[int]]:
        """List what a transition of this task does to the tasks: what it needs, what it makes so, what it ends."""
        task = self._table[number]
        before: list[int] = []
        after: list[int] = []
        aborted = {*(task.join_cancels_tasks if starts else ()), *(task.cancels_tasks if completes else ())}
        ended = (aborted & self._tasks) - {number}
        if completes:
            ended.add(number)
        else:
            after.append(self._atom(_BUSY, number))
        if not starts:
            before.append(self._atom(_BUSY, number))
        elif number in self._special and not completes:
            before.append(self._atom(_IDLE, number))
        breaks = [self._atom(_BUSY, t) for t in sorted(ended)]
        after += [self._atom(_IDLE, t) for t in sorted(ended & self._special)]
        return before, after, breaks

    def _met(self, conditions: Iterable[int], tasks: Iterable[int]) -> set[int]:
        """Find the flagged joins whose flag matters to who touches these conditions and aborts these tasks."""
        return {self._memory[each][0] for each in conditions if each in self._memory}.union(self._flagged & {*tasks})

    def _need(self, condition: int, count: int, fired: Mapping[int, bool]) -> int:
        """Say how many there must be for `count` to be on the condition, besides what a fired join has seen."""
        join, _, weight = self._memory.get(condition, (-1, 0, 0))
        return count + weight if fired.get(join) else count

    def _takes(self, number: int, fired: Mapping[int, bool]) -> Iterator[Rule]:
        """Yield the ways to start: the first half of a rule, each."""
        task = self._table[number]
        reads = {self._atom(_TOKENS, condition): self._need(condition, 1, fired) for condition in task.reads}
        uses = [
            (self._atom(_TOKENS, condition), self._need(condition, weight, fired), weight)
            for condition, weight in task.inputs
        ]
        if task.join == AND:
            yield Rule(uses=_merge(uses, reads))
        elif task.join == PARTIAL:
            # Flagged: its tokens change hands, from the condition to its memory, and none is lost (P).
            # Cancelling: it takes what it empties anyway. Otherwise: the relaxation takes as little as it can.
            kept = number in self._flagged or task.join_cancels
            among = tuple((atom, need, 0 if kept else weight) for atom, need, weight in uses)
            yield Rule(uses=_merge([], reads), least=task.required, among=among)
        else:
            for use in uses:
                yield Rule(uses=_merge([use], reads))

    def _gives(self, task: TaskTable) -> Iterator[tuple[Arc, ...]]:
        """Yield the ways to complete (O)."""
        counts: Counter[int] = Counter()
        for condition, weight in task.outputs:
            if (_TOKENS, condition) in self._number:
                counts[self._atom(_TOKENS, condition)] += weight
        if task.split == XOR and counts:
            yield from ((arc,) for arc in counts.items())
        else:
            yield tuple(counts.items())

    def _edits(self, conditions: Iterable[int], tasks: Iterable[int], flags: dict[int, bool]) -> Iterator[Use]:
        """Yield what a cancellation does to the tokens, and lower the flags of the joins that it resets."""
        emptied = {condition for condition in conditions if (_TOKENS, condition) in self._number}
        for t in sorted(self._flagged & {*tasks}):
            if flags[t]:
                flags[t] = False
                for condition, _ in self._table[t].inputs:
                    if condition not in emptied:
                        yield self._atom(_TOKENS, condition), DROP, 1
        for condition in sorted(emptied):
            join, _, weight = self._memory.get(condition, (-1, 0, 0))
            yield self._atom(_TOKENS, condition), CAP if flags.get(join) else ZERO, weight

    def _reset_rule(self, number: int) -> Rule:
        """Return the end of a flagged join's round: each input has delivered once."""
        unfired, fired = self._atom(_UNFIRED, number), self._atom(_FIRED, number)
        uses = tuple((self._atom(_TOKENS, c), weight, weight) for c, weight in self._table[number].inputs)
        return Rule(uses=uses, before=(fired,), after=(unfired,), breaks=(fired,))

    # -- questions --

    def state(self, marking: Sequence[int], status: Sequence[int], seen: Mapping[int, int]) -> list[int]:
        """Return how often each atom holds in this state."""
        have = [marking[condition] for condition in self._conditions]
        for atom, join, position, weight in self._remembered:
            if seen.get(join, 0) >> position & 1:
                have[atom] += weight
        for kind, number in self._control_atoms:
            if kind in (_BUSY, _IDLE):
                have.append(int((status[number] == 1) == (kind == _BUSY)))
            else:
                have.append(int((seen.get(number, 0) != 0) == (kind == _FIRED)))
        return have

    def atoms(self) -> list[tuple[int, int]]:
        """List the atoms: of which kind each is, and the number of the condition or task that it is about."""
        return list(self._number)

    def common(self, marked: Sequence[Arc]) -> list[Arc]:
        """List what every target asks for: all that is marked, where no flags matter."""
        return [] if self._memory else [(self._number[_TOKENS, c], weight) for c, weight in marked]

    def targets(self, marked: Sequence[Arc], suspects: Sequence[Arc]) -> Iterator[list[Arc]]:
        """Yield what asks, besides what is common, for all that is marked and one of the suspects, by their weights."""
        for suspect in suspects:
            if self._memory:
                yield from self._targets_by_flags((*marked, suspect))
            else:
                yield [(self._number[_TOKENS, suspect[0]], suspect[1])]

    def _targets_by_flags(self, conditions: Sequence[Arc]) -> Iterator[list[Arc]]:
        met = sorted(self._met((condition for condition, _ in conditions), ()))
        for values in product((False, True), repeat=len(met)):
            fired = dict(zip(met, values, strict=True))
            asked = [(self._number[_TOKENS, c], self._need(c, weight, fired)) for c, weight in conditions]
            asked += [(self._number[_FIRED if value else _UNFIRED, t], 1) for t, value in fired.items()]
            yield asked


def _merge(uses: Iterable[Use], reads: Mapping[int, int]) -> tuple[Use, ...]:
    """Unite what a task takes with what it only reads, an entry for each atom: what is taken is there to be read."""
    merged = {atom: (atom, need, 0) for atom, need in reads.items()}
    merged.update((use[0], use) for use in uses)
    return tuple(merged.values())
