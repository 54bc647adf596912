"""The two searches behind the OR-join: backward over minimal bases, and forward over concrete states.

What is searched, and why the answers are right, is told at the top of `_orjoin`; the letters (S), (F), (P), ... refer to it.
This file knows no structural short cuts and remembers nothing between two questions: the same arguments give the same
answer for the same amount of work, on every machine and whatever was asked before.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Final

import attrs

from knhk._tables import AND, PARTIAL, XOR, Arc, Tables, TaskTable

COVERED: Final = 1
"""A target can be covered."""

EXHAUSTED: Final = 0
"""No target can be covered."""

OUT_OF_BUDGET: Final = 2
"""Neither was shown within the budget."""

# The kinds of atoms: what an element of the backward search may ask for.
_TOKENS: Final = 0  # tokens on a condition, and those that a flagged partial join remembers from it (P)
_BUSY: Final = 1  # the task runs
_IDLE: Final = 2  # the task does not run; asked for only where (S) fails
_UNFIRED: Final = 3  # the flagged partial join has seen nothing in this round
_FIRED: Final = 4  # it has fired and swallows

# The kinds of edits: what a cancellation does to the tokens of an atom.
_ZERO: Final = 0  # all are gone
_CAP: Final = 1  # those on the condition are gone, what the join has seen stays: v -> weight if v >= weight else 0
_DROP: Final = 2  # what the join has seen is gone, those on the condition stay: v -> max(v - 1, 0)

_FUSED_VARIANTS: Final = 64  # a task with more ways through it keeps start and completion apart: a sum, not a product
_FLAGS_MET: Final = 5  # a task that meets more flagged joins would need more than 2 ** 5 variants: they stay unflagged
_MUTEX_AFTER: Final = 400  # units of work before the mutual exclusions are computed: most searches end sooner
_MUTEX_PER_ATOM: Final = 4  # the same for large nets, where they cost more
_COMPARISONS: Final = 8  # so many comparisons of two elements are one unit of work

Use = tuple[int, int, int]
"""An atom, how many of it must be there, how many are taken."""


@attrs.frozen(kw_only=True)
class Rule:
    """
    One transition of the monotone system.

    It needs `uses`, `least` of `among`, and `before`; takes; then does the `edits` in order; then gives.

    Args:
        uses: what it needs and takes.
        least, among: how many of these uses it needs, any ones (partial joins).
        edits: (atom, kind, weight).
        gives: what it puts.
        before: control atoms that must hold.
        after: control atoms that hold afterwards and need not hold before.
        breaks: control atoms that do not hold afterwards.
    """

    uses: tuple[Use, ...] = ()
    least: int = 0
    among: tuple[Use, ...] = ()
    edits: tuple[Use, ...] = ()
    gives: tuple[Arc, ...] = ()
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    breaks: tuple[int, ...] = ()

    def achieved(self) -> list[int]:
        """List the atoms for which a search may step back over this rule."""
        return [*self.after, *(atom for atom, _ in self.gives)]

    def needed(self) -> list[int]:
        """List the atoms without any of which this rule is impossible."""
        return [*self.before, *(atom for atom, _, _ in self.uses)]


@attrs.frozen(kw_only=True)
class PackedRule:
    """
    A rule for stepping back over packed elements: atoms as shifts, control atoms as masks.

    Args:
        forbidden: bits of which an element must have none, else the rule cannot have led to it.
        cleared: bits that the rule makes so: the predecessor need not have them.
        required: bits that the predecessor must have.
        gives, edits, uses, least, among: as in `Rule`; the edits in reverse.
    """

    forbidden: int
    cleared: int
    required: int
    gives: tuple[Arc, ...]
    edits: tuple[Use, ...]
    uses: tuple[Use, ...]
    least: int
    among: tuple[Use, ...]

    @classmethod
    def pack(cls, rule: Rule, width: int) -> PackedRule:
        """Return the rule for elements with `width` bits a count."""
        field = (1 << width) - 1
        given = {atom for atom, _ in rule.gives}
        emptied = {atom for atom, kind, _ in rule.edits if kind == _ZERO} - given
        return cls(
            forbidden=sum(field << atom * width for atom in emptied.union(rule.breaks)),
            cleared=sum(1 << atom * width for atom in rule.after),
            required=sum(1 << atom * width for atom in rule.before),
            gives=tuple((atom * width, count) for atom, count in rule.gives),
            edits=tuple((atom * width, kind, weight) for atom, kind, weight in reversed(rule.edits)),
            uses=tuple((atom * width, need, taken) for atom, need, taken in rule.uses),
            least=rule.least,
            among=tuple((atom * width, need, taken) for atom, need, taken in rule.among),
        )


def swallows(task: TaskTable) -> bool:
    """Say whether this is a non-cancelling partial join, which remembers and swallows."""
    return task.join == PARTIAL and not task.join_cancels


class System:
    """
    The part of a net that matters for one OR-join, as a monotone system.

    Args:
        tables: the net.
        join: the OR-join.
        conditions, tasks: the relevant ones, closed as `_orjoin` says.

    Attributes:
        join: the OR-join.
        exact: whether the system is the net's own, not just a relaxation of it (every partial join is flagged).
        atoms: the number of atoms.
        rules: the transitions; `achievers` finds them by what they achieve.
        width: bits of one count, the topmost of which stays 0 in a packed element.
    """

    def __init__(self, tables: Tables, join: int, conditions: frozenset[int], tasks: frozenset[int]) -> None:
        self.join = join
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
        self.rules = [rule for t in sorted(tasks) for rule in self._rules_of(t) if rule.gives or rule.after]
        self.rules += [self._reset_rule(t) for t in sorted(self._flagged)]
        self.atoms = len(self._number)
        self.achievers: list[list[int]] = [[] for _ in range(self.atoms)]
        for number, rule in enumerate(self.rules):
            for atom in rule.achieved():
                self.achievers[atom].append(number)
        heaviest = max(weight for task in self._table for _, weight in task.inputs + task.outputs)
        self.width = heaviest.bit_length() + 6
        self.packed = [PackedRule.pack(rule, self.width) for rule in self.rules]
        self.needers: list[list[int]] = [[] for _ in range(self.atoms)]
        self.helped: list[list[int]] = [[] for _ in range(self.atoms)]
        for number, rule in enumerate(self.rules):
            for atom in rule.needed():
                self.needers[atom].append(number)
            for atom, _, _ in rule.among:
                self.helped[atom].append(number)

    # -- which partial joins can be carried exactly (P) --

    def _choose_flagged(self, tables: Tables, partial: set[int]) -> set[int]:
        flagged = {t for t in partial if self._can_be_flagged(tables, t)}
        crowded: set[int] = set()
        for number in self._tasks | {self.join}:
            task = self._table[number]
            near = {*(condition for condition, _ in task.inputs), *task.reads, *_emptied(task)}
            met = {t for condition in near for t, _ in tables.swallowers[condition]}.union(_aborted(task)) & flagged
            if len(met) > _FLAGS_MET:
                crowded |= met
        return flagged - crowded

    def _can_be_flagged(self, tables: Tables, number: int) -> bool:
        cancelled = any(number in _aborted(self._table[t]) for t in self._tasks)
        for condition, weight in self._table[number].inputs:
            observers = [t for t in tables.consumers[condition] if t != number and t in self._tasks | {self.join}]
            if len(tables.swallowers[condition]) > 1 or (weight > 1 and (cancelled or observers)):
                return False
        return True

    # -- which tasks are one transition instead of two (F) --

    def _find_emptiers(self) -> dict[int, set[int]]:
        emptiers: dict[int, set[int]] = {}
        for t in self._tasks:
            forgotten = [self._table[other].inputs for other in self._flagged.intersection(_aborted(self._table[t]))]
            for condition in (*_emptied(self._table[t]), *(c for arcs in forgotten for c, _ in arcs)):
                emptiers.setdefault(condition, set()).add(t)
        return emptiers

    def _fuses(self, number: int) -> bool:
        task = self._table[number]
        ways_in = 1 if task.join in (AND, PARTIAL) else len(task.inputs)
        ways_out = len(task.outputs) if task.split == XOR else 1
        if task.detached or ways_in * ways_out > _FUSED_VARIANTS:
            return task.detached
        harmless = (
            not any((_TOKENS, condition) in self._number for condition in task.cancels_conditions)
            and self._tasks.isdisjoint({*task.cancels_tasks} - {number})
            and not (number in self._flagged and number in task.cancels_tasks)
        )
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
        if number == self.join:
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
        """Find the flagged joins whose flag makes a difference to who touches these conditions and aborts these tasks."""
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
        """Yield the ways to complete: an OR-split gives to all its outputs, which covers whatever a part of them does."""
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
                        yield self._atom(_TOKENS, condition), _DROP, 1
        for condition in sorted(emptied):
            join, _, weight = self._memory.get(condition, (-1, 0, 0))
            yield self._atom(_TOKENS, condition), _CAP if flags.get(join) else _ZERO, weight

    def _reset_rule(self, number: int) -> Rule:
        """Return the end of a flagged join's round: each input has delivered once."""
        unfired, fired = self._atom(_UNFIRED, number), self._atom(_FIRED, number)
        uses = tuple((self._atom(_TOKENS, c), weight, weight) for c, weight in self._table[number].inputs)
        return Rule(uses=uses, before=(fired,), after=(unfired,), breaks=(fired,))

    # -- questions --

    def state(self, marking: Sequence[int], status: Sequence[int], seen: Mapping[int, int]) -> list[int]:
        """Return how often each atom holds in this state."""
        have = [0] * self.atoms
        for (kind, number), atom in self._number.items():
            if kind == _TOKENS:
                join, position, weight = self._memory.get(number, (-1, 0, 0))
                have[atom] = marking[number] + (weight if seen.get(join, 0) >> position & 1 else 0)
            elif kind in (_BUSY, _IDLE):
                have[atom] = int((status[number] == 1) == (kind == _BUSY))
            else:
                have[atom] = int((seen.get(number, 0) != 0) == (kind == _FIRED))
        return have

    def targets(self, conditions: Sequence[Arc]) -> Iterator[int]:
        """Yield the packed elements that ask for all these conditions to be marked, by these weights."""
        met = sorted(self._met((condition for condition, _ in conditions), ()))
        for values in product((False, True), repeat=len(met)):
            fired = dict(zip(met, values, strict=True))
            element = 0
            for condition, weight in conditions:
                element |= self._need(condition, weight, fired) << self._number[_TOKENS, condition] * self.width
            for t, value in fired.items():
                element |= 1 << self._number[_FIRED if value else _UNFIRED, t] * self.width
            yield element


def _emptied(task: TaskTable) -> tuple[int, ...]:
    return task.cancels_conditions + task.join_cancels_conditions


def _aborted(task: TaskTable) -> tuple[int, ...]:
    return task.cancels_tasks + task.join_cancels_tasks


def _merge(uses: Iterable[Use], reads: Mapping[int, int]) -> tuple[Use, ...]:
    """Unite what a task takes with what it only reads, an entry for each atom."""
    merged = {atom: (atom, need, 0) for atom, need in reads.items()}
    for atom, need, taken in uses:
        merged[atom] = (atom, max(need, merged.get(atom, (0, 0, 0))[1]), taken)
    return tuple(merged.values())


_Entry = tuple[int, int, int, int, int, Iterator[int]]
"""An element's cost and age, the element, its size, the bits of its atoms, and its predecessors not yet looked at."""


class Backward:
    """
    One backward search: can any of these elements be covered from this state?

    Args:
        system: the monotone system.
        have: the state, from `System.state`.
        budget: units of work.
    """

    def __init__(self, system: System, have: list[int], budget: int) -> None:
        self._system = system
        self._have = have
        self._budget = budget
        self._work = 0
        self._overflow = False
        self._possible = [False] * len(system.rules)
        self._order: list[int] = []
        self._price: list[int] = [0] * system.atoms  # of one more of it; 0: there can never be more
        self._levels: list[int] = [0] * system.atoms  # how many steps it takes at least, in the closure
        self._rows: list[int] = []  # by atom, what may hold together with it; empty until computed
        self._ever = 0
        self._known: set[int] = set()
        self._sizes: dict[int, list[int]] = {}
        self._heap: list[_Entry] = []
        self._patience = max(_MUTEX_AFTER, _MUTEX_PER_ATOM * system.atoms)
        self._guard = sum(1 << atom * system.width + system.width - 1 for atom in range(system.atoms))
        self._field = (1 << system.width) - 1

    def run(self, targets: Iterable[int]) -> int:
        """Return `COVERED`, `EXHAUSTED` or `OUT_OF_BUDGET`."""
        self._close()
        nothing: _Entry = (0, 0, 0, 0, 0, iter(()))
        if any(self._offer(target, nothing) == 0 for target in targets):
            return COVERED
        while self._heap:
            if self._work > self._budget:
                return OUT_OF_BUDGET
            if self._work > self._patience and not self._rows:
                self._exclude()
                self._heap = [entry for entry in self._heap if self._measure(entry[2], nothing)]
                heapq.heapify(self._heap)
                continue
            # Towards what looks nearest: an element waits with its other predecessors as soon as one looks nearer than itself.
            entry = heapq.heappop(self._heap)
            for earlier in entry[5]:
                cost = self._offer(earlier, entry)
                if cost == 0:
                    return COVERED
                if 0 < cost < entry[0]:
                    heapq.heappush(self._heap, entry)
                    break
        return OUT_OF_BUDGET if self._overflow else EXHAUSTED

    def _offer(self, element: int, later: _Entry) -> int:
        """
        Take up an element from which one step leads to `later`; return its cost, 0 if the state covers it.

        It is not taken up if it is impossible, or asks for no less than one that is known: then return -1.
        """
        self._work += 1
        if element in self._known:
            return -1
        self._known.add(element)
        if element & self._guard:  # more than a count can hold: it is dropped, and with it the right to say "never"
            self._overflow = True
            return -1
        measured = self._measure(element, later)
        if measured is None:
            return -1
        cost, size, held = measured
        raised, guard = element | self._guard, self._guard
        for other, elements in self._sizes.items():
            if other < size:
                self._work += len(elements) // _COMPARISONS
                for each in elements:
                    if (raised - each) & guard == guard:
                        return -1
        self._sizes.setdefault(size, []).append(element)
        heapq.heappush(self._heap, (cost, -self._work, element, size, held, self._steps_to(element)))
        return cost

    def _steps_to(self, element: int) -> Iterator[int]:
        """
        Yield the predecessors, over the possible rules that achieve something asked for; the others only ask for more.

        What comes late comes first, so that two needs that one early transition satisfies meet before it.
        """
        width, packed, levels, have = self._system.width, self._system.packed, self._levels, self._have
        asked: list[tuple[int, int]] = []
        rest = element
        while rest:
            atom = ((rest & -rest).bit_length() - 1) // width
            count = rest >> atom * width & self._field
            rest ^= count << atom * width
            asked.append((levels[atom] if count > have[atom] else 0, atom))
        done: set[int] = set()
        for _, atom in sorted(asked, reverse=True):
            for number in self._system.achievers[atom]:
                if self._possible[number] and number not in done:
                    done.add(number)
                    yield from self._step_back(packed[number], element)

    def _measure(self, element: int, later: _Entry) -> tuple[int, int, int] | None:
        """
        Return an estimate of the way to the element (0: the state covers it), its size, and the bits of its atoms.

        Only what differs from the known element is looked at.
        Returns None when the closure or the exclusions show that the element is impossible.
        """
        width, field, have, price, rows = self._system.width, self._field, self._have, self._price, self._rows
        cost, _, known, size, held, _ = later
        fresh: list[int] = []
        differ = element ^ known
        while differ:
            atom = ((differ & -differ).bit_length() - 1) // width
            shift = atom * width
            differ &= ~(field << shift)
            count, before = element >> shift & field, known >> shift & field
            size += count - before
            cost += (max(0, count - have[atom]) - max(0, before - have[atom])) * price[atom]
            if count:
                held |= 1 << atom
                fresh.append(atom)
                if (count > have[atom] and not price[atom]) or (rows and count > 1 and not rows[atom] >> atom & 1):
                    return None
            else:
                held &= ~(1 << atom)
        if rows and any(held & ~(rows[atom] | 1 << atom) for atom in fresh):
            return None
        return cost, size, held

    def _step_back(self, rule: PackedRule, element: int) -> Iterator[int]:
        """Yield the minimal elements from which this rule leads to what covers the element."""
        if element & rule.forbidden:
            return
        field = self._field
        element &= ~rule.cleared
        for shift, count in rule.gives:
            element -= min(element >> shift & field, count) << shift
        for shift, kind, weight in rule.edits:
            count = element >> shift & field
            if count:
                if kind == _ZERO or (kind == _CAP and count > weight):
                    return
                element += (weight if kind == _DROP else weight - count) << shift
        element |= rule.required
        lacking = [use for use in rule.among if use[2] or element >> use[0] & field < use[1]]
        chosen_many = rule.least - len(rule.among) + len(lacking)
        lacking = [use for use in lacking if self._ever >> use[0] // self._system.width & 1]
        for chosen in combinations(lacking, max(0, chosen_many)):
            earlier = element
            for shift, need, taken in chosen + rule.uses:  # in this order: what is read may be what is taken
                earlier = self._raise(earlier, shift, need, taken)
            yield earlier

    def _raise(self, element: int, shift: int, need: int, taken: int) -> int:
        """Ask for what is taken in addition, and for what is needed at least."""
        count = element >> shift & self._field
        return element + (max(taken, need - count) << shift)

    # -- what the search may leave out --

    def _close(self) -> None:
        """
        Find what can ever hold and which rules can ever fire when nothing is lost, cheapest first.

        The price of an atom is that of its premises added up, and one more (Knuth 1977; the additive heuristic of planning).
        """
        system = self._system
        missing = [len(rule.needed()) for rule in system.rules]
        lacking = [rule.least for rule in system.rules]
        price = [1] * len(system.rules)
        known = [count > 0 for count in self._have]
        queue = [(0, atom) for atom, count in enumerate(self._have) if count]
        while queue:
            cost, atom = heapq.heappop(queue)
            self._ever |= 1 << atom
            touched = system.needers[atom] + [number for number in system.helped[atom] if lacking[number]]
            for place, number in enumerate(touched):
                if place < len(system.needers[atom]):
                    missing[number] -= 1
                else:
                    lacking[number] -= 1
                price[number] += cost
                if missing[number] or lacking[number]:
                    continue
                self._possible[number] = True
                self._order.append(number)
                for each in system.rules[number].achieved():
                    self._levels[each] = self._levels[each] or 1 + max(
                        self._levels[it] for it in system.rules[number].needed()
                    )
                    self._price[each] = min(self._price[each] or price[number], price[number])
                    if not known[each]:
                        known[each] = True
                        heapq.heappush(queue, (price[number], each))
        self._work += len(self._order) // _COMPARISONS

    def _exclude(self) -> None:
        """Find which two atoms may ever hold together: the rows are symmetrical, an atom in its own row may hold twice (X)."""
        have = self._have
        held = sum(1 << atom for atom, count in enumerate(have) if count)
        twice = sum(1 << atom for atom, count in enumerate(have) if count > 1)
        self._rows = [held & ~(1 << atom) | twice & 1 << atom if count else 0 for atom, count in enumerate(have)]
        self._ever = held
        stamps = [0] * len(have)
        done: dict[int, int] = {}
        now, changed = 0, True
        while changed:
            changed = False
            for number in self._order:
                rule = self._system.rules[number]
                latest = max([stamps[atom] for atom in rule.needed()] or [now])
                if done.get(number, -1) >= latest:
                    continue
                if self._work > self._budget:
                    return  # `run` gives up next, so nobody looks at unfinished rows
                now += 1
                done[number] = now
                self._work += 1
                for atom in self._pair_up(rule):
                    stamps[atom] = now + 1
                    changed = True

    def _pair_up(self, rule: Rule) -> list[int]:
        """Let the rule fire next to every atom that may hold together with all its premises; list the atoms with new company."""
        rows = self._rows
        premises = [(atom, 1, 0) for atom in rule.before] + list(rule.uses)
        asked = sum(1 << atom for atom, _, _ in premises)
        beside = kept = self._ever
        for atom, need, taken in premises:
            if asked & ~(rows[atom] | 1 << atom) or (need > 1 and not rows[atom] >> atom & 1):
                return []
            beside &= rows[atom] | 1 << atom
            kept &= rows[atom] if taken else rows[atom] | 1 << atom
        if asked & ~self._ever or sum(beside >> atom & 1 for atom, _, _ in rule.among) < rule.least:
            return []
        for atom in (*rule.breaks, *(atom for atom, kind, _ in rule.edits if kind == _ZERO)):
            kept &= ~(1 << atom)
        given = sum(1 << atom for atom in rule.achieved())
        twice = sum(1 << atom for atom, count in rule.gives if count > 1 or kept >> atom & 1)
        changed: list[int] = []
        for atom in rule.achieved():
            bit = 1 << atom
            fresh = ((kept | given) & ~bit | twice & bit) & ~rows[atom]
            if fresh or not self._ever & bit:
                self._ever |= bit
                rows[atom] |= fresh
                self._work += fresh.bit_count() // _COMPARISONS
                changed.append(atom)
            while fresh:
                other = fresh.bit_length() - 1
                fresh ^= 1 << other
                rows[other] |= bit
                changed.append(other)
        return changed


State = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""The marking, by task the status, by task what it has seen."""


class Forward:
    """
    One forward search over the concrete states of the whole net, straight from the rules; for joins that (P) does not cover.

    Args:
        tables: the net.
        join: the OR-join, which is never started.
        goals: what is looked for: any of these lists of arcs all marked.
        budget: how many states may be met.
    """

    def __init__(self, tables: Tables, join: int, goals: Sequence[Sequence[Arc]], budget: int) -> None:
        self._tables = tables
        self._table = tables.table
        self.join = join
        self._goals = goals
        self._budget = budget

    def run(self, marking: Sequence[int], status: Sequence[int], seen: Mapping[int, int]) -> int:
        """Return `COVERED`, `EXHAUSTED` or `OUT_OF_BUDGET`."""
        tasks = range(len(self._table))
        first: State = (tuple(marking), tuple(status), tuple(seen.get(t, 0) for t in tasks))
        met = {first}
        queue = [first]
        for state in queue:
            for later in self._successors(state):
                if later in met:
                    continue
                if any(all(later[0][c] >= weight for c, weight in goal) for goal in self._goals):
                    return COVERED
                met.add(later)
                queue.append(later)
                if len(met) > self._budget:
                    return OUT_OF_BUDGET
        return EXHAUSTED

    def _successors(self, state: State) -> Iterator[State]:
        for number, task in enumerate(self._table):
            if state[1][number] == 0 and number != self.join:
                yield from self._starts(state, number)
            elif state[1][number] == 1:
                for given in self._choices(task):
                    yield self._completed(state, number, given)
            elif state[1][number]:
                status = list(state[1])
                status[number] = 0
                yield state[0], tuple(status), state[2]

    def _starts(self, state: State, number: int) -> Iterator[State]:
        task = self._table[number]
        marked = [position for position, (c, weight) in enumerate(task.inputs) if state[0][c] >= weight]
        if not marked or not all(state[0][condition] for condition in task.reads):
            return
        if task.join == AND:
            taken = [marked] if len(marked) == len(task.inputs) else []
        elif task.join == PARTIAL:
            taken = [marked] if len(marked) >= task.required and not state[2][number] else []
        else:
            taken = [[position] for position in marked]
        for positions in taken:
            started = self._started(state, number, positions)
            if not task.detached:
                yield started
                continue
            for given in self._choices(task):
                yield self._completed(started, number, given)

    def _started(self, state: State, number: int, positions: Sequence[int]) -> State:
        task = self._table[number]
        marking, status, seen = list(state[0]), list(state[1]), list(state[2])
        for position in positions:
            condition, weight = task.inputs[position]
            marking[condition] -= weight
        if swallows(task) and len(positions) < len(task.inputs):
            seen[number] = sum(1 << position for position in positions)
        _cancel(marking, status, seen, task.join_cancels_conditions, task.join_cancels_tasks)
        status[number] = 1
        return tuple(marking), tuple(status), tuple(seen)

    def _completed(self, state: State, number: int, given: Sequence[Arc]) -> State:
        # Draining instead would add nothing (D).
        task = self._table[number]
        marking, status, seen = list(state[0]), list(state[1]), list(state[2])
        _cancel(marking, status, seen, task.cancels_conditions, task.cancels_tasks)
        status[number] = 0
        for condition, weight in given:
            marking[condition] += weight
            for t, position in self._tables.swallowers[condition]:
                inputs = self._table[t].inputs
                needed = inputs[position][1]
                if seen[t] and not seen[t] >> position & 1 and marking[condition] >= needed:
                    marking[condition] -= needed
                    seen[t] |= 1 << position
                    if seen[t] == (1 << len(inputs)) - 1:
                        seen[t] = 0
        return tuple(marking), tuple(status), tuple(seen)

    def _choices(self, task: TaskTable) -> Iterator[Sequence[Arc]]:
        if task.split == AND:
            yield task.outputs
        else:
            for count in range(1, 2 if task.split == XOR else 1 + len(task.outputs)):
                yield from combinations(task.outputs, count)


def _cancel(
    marking: list[int], status: list[int], seen: list[int], conditions: Iterable[int], tasks: Iterable[int]
) -> None:
    for condition in conditions:
        marking[condition] = 0
    for task in tasks:
        status[task] = 0
        seen[task] = 0
