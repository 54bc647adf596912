"""The two searches behind the OR-join: backward over minimal bases, and forward over concrete states.

What is searched, and why the answers are right, is told at the top of `_orjoin`; the letters (S), (P), (X) refer to it.
Nothing is remembered between two searches: the same arguments give the same answer for the same amount of work, on
every machine and whatever was asked before.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import combinations
from typing import Final

import attrs

from knhk._tables import AND, PARTIAL, XOR, Arc, Tables, TaskTable

COVERED: Final = 1
"""A target can be covered."""

EXHAUSTED: Final = 0
"""No target can be covered."""

OUT_OF_BUDGET: Final = 2
"""Neither was shown within the budget."""

# The kinds of edits: what a cancellation does to the tokens of an atom.
ZERO: Final = 0  # all are gone
CAP: Final = 1  # those on the condition are gone, what the join has seen stays: v -> weight if v >= weight else 0
DROP: Final = 2  # what the join has seen is gone, those on the condition stay: v -> max(v - 1, 0)

_EXCLUDE_AFTER: Final = 400  # units of work before the exclusions are computed: most searches end sooner
_EXCLUDE_AFTER_PER_ATOM: Final = 4  # the same for large nets, where they cost more
_CHEAP: Final = 8  # so many comparisons, or pairs of atoms, are one unit of work

Use = tuple[int, int, int]
"""An atom, how many of it must be there, how many are taken.  In an edit: the atom, the kind, the weight."""


@attrs.frozen(kw_only=True)
class Rule:
    """
    One transition of a monotone system over numbered atoms, each of which holds so many times.

    It needs `uses`, `least` of `among`, and `before`; takes; then does the `edits` in order; then gives.

    Args:
        uses: what it needs and takes.
        least, among: how many of these uses it needs, any ones (partial joins).
        edits: what its cancellations do.
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
        emptied = {atom for atom, kind, _ in rule.edits if kind == ZERO} - given
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


class Monotone:
    """
    A monotone system made ready for searching.

    Args:
        atoms: how many there are.
        rules: the transitions.
        heaviest: the greatest number in a rule.

    Attributes:
        width: the bits of one count in a packed element; the topmost of them stays 0.
        achieved, needed: by rule, what `Rule.achieved` and `Rule.needed` list.
        premises, least: by rule, how many atoms it needs, and how many of those of which it needs some.
        achievers: by atom, the rules that achieve it.
        needers: by atom, the rules that need it.
        helped: by atom, the rules that have it among those of which they need some.
    """

    def __init__(self, atoms: int, rules: Sequence[Rule], heaviest: int) -> None:
        self.atoms = atoms
        self.rules = rules
        # A step asks for a few times the heaviest more of an atom: that never runs over into the next one.
        self.width = heaviest.bit_length() + 10
        self.achieved = [rule.achieved() for rule in rules]
        self.needed = [rule.needed() for rule in rules]
        self.premises = [len(each) for each in self.needed]
        self.least = [rule.least for rule in rules]
        self.achievers: list[list[int]] = [[] for _ in range(atoms)]
        self.needers: list[list[int]] = [[] for _ in range(atoms)]
        self.helped: list[list[int]] = [[] for _ in range(atoms)]
        for number, rule in enumerate(rules):
            for atom in self.achieved[number]:
                self.achievers[atom].append(number)
            for atom in self.needed[number]:
                self.needers[atom].append(number)
            for atom, _, _ in rule.among:
                self.helped[atom].append(number)

    @cached_property
    def packed(self) -> list[PackedRule]:
        """The rules, packed."""
        return [PackedRule.pack(rule, self.width) for rule in self.rules]

    @cached_property
    def guard(self) -> int:
        """The topmost bit of each count of a packed element."""
        return self.pack((atom, 1 << self.width - 1) for atom in range(self.atoms))

    def pack(self, asked: Iterable[Arc]) -> int:
        """Return the element that asks for these atoms, so many times each."""
        return sum(count << atom * self.width for atom, count in asked)


Search = Callable[[Sequence[int], Iterable[Sequence[Arc]], Sequence[Arc], int], tuple[int, int]]
"""
Asks whether a state covers, now or later, one of some targets; returns the outcome, and the units of work that it took.

It is given how often each atom holds, the targets, each without what all of them ask for, what all of them ask for, and
how many units of work may be done.
"""

Decide = Callable[[Sequence[int], Sequence[int]], int]
"""Decides one OR-join for a marking and the status of the tasks, as `OrJoinAnalysis.decide` does."""


def backward(system: Monotone) -> Search:
    """Return the search in this system, the reference."""

    def search(
        have: Sequence[int], targets: Iterable[Sequence[Arc]], common: Sequence[Arc], budget: int
    ) -> tuple[int, int]:
        begun = Backward(system, have, budget)
        return begun.run(targets, common), begun.work

    return search


def patience(atoms: int) -> int:
    """Return after how many units of work the exclusions are computed."""
    return max(_EXCLUDE_AFTER, _EXCLUDE_AFTER_PER_ATOM * atoms)


_Entry = tuple[int, int, int, int, int, Iterator[int]]
"""An element's cost and age, the element, its size, the bits of its atoms, and its predecessors not yet looked at."""


class Backward:
    """
    One backward search: can any of these elements be covered from this state?

    An element asks for atoms, so many times each, and stands for all states that hold as much.
    It is packed into one number, a count beside the other, so that two are compared by one subtraction.

    Args:
        system: the monotone system.
        have: how often each atom holds now.
        budget: units of work.
    """

    def __init__(self, system: Monotone, have: Sequence[int], budget: int) -> None:
        self._system = system
        self._have = have
        self._budget = budget
        self._work = 0
        self._compared = 0
        self._overflow = False
        self._possible = [False] * len(system.rules)
        self._order: list[int] = []  # the possible rules, by price
        self._price = [0] * system.atoms  # of one more of the atom; 0: there can never be more
        self._level = [0] * system.atoms  # how many steps it takes in the closure
        self._ever = 0
        self._rows: list[int] = []  # by atom, what may hold together with it (X); empty until computed
        self._known: set[int] = set()
        self._sizes: dict[int, list[int]] = {}
        self._heap: list[_Entry] = []
        self._patience = patience(system.atoms)
        self._guard = system.guard
        self._field = (1 << system.width) - 1

    @property
    def work(self) -> int:
        """The units of work that were done so far."""
        return self._work

    def run(self, targets: Iterable[Sequence[Arc]], common: Sequence[Arc] = ()) -> int:
        """
        Return `COVERED`, `EXHAUSTED` or `OUT_OF_BUDGET`.

        Args:
            targets: what each of the elements asks for besides what is common.
            common: what all of them ask for; saves looking at that in each.
        """
        self._close()
        nothing: _Entry = (0, 0, 0, 0, 0, iter(()))
        shared = self._system.pack(common)
        measured = self._measure(shared, nothing)
        near = nothing if measured is None else (measured[0], 0, shared, measured[1], measured[2], iter(()))
        if any(self._offer(shared + self._system.pack(target), near) == 0 for target in targets):
            return COVERED
        while self._heap and self._work <= self._budget:
            if self._work <= self._patience or self._rows:
                if self._advance(heapq.heappop(self._heap)):
                    return COVERED
            elif self._exclude():
                self._heap = [entry for entry in self._heap if self._measure(entry[2], nothing)]
                heapq.heapify(self._heap)
        return OUT_OF_BUDGET if self._heap or self._overflow else EXHAUSTED

    def _advance(self, entry: _Entry) -> bool:
        """
        Step back from one element; say whether the state covers what was found.

        An element waits with its other predecessors as soon as one looks nearer to the state than itself.
        """
        for earlier in entry[5]:
            cost = self._offer(earlier, entry)
            if cost == 0:
                return True
            if 0 < cost < entry[0] or self._work > self._budget:
                heapq.heappush(self._heap, entry)
                return False
        return False

    def _offer(self, element: int, later: _Entry) -> int:
        """
        Take up an element from which one step leads to `later`; return its cost, 0 if the state covers it.

        It is not taken up if it is impossible, or asks for no less than one that is known: then return -1.
        """
        self._work += 1 + self._compared // _CHEAP
        self._compared %= _CHEAP
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
                self._compared += 1 + len(elements)
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
        width, packed, level, have = self._system.width, self._system.packed, self._level, self._have
        asked: list[tuple[int, int]] = []
        rest = element
        while rest:
            atom = ((rest & -rest).bit_length() - 1) // width
            count = rest >> atom * width & self._field
            rest ^= count << atom * width
            asked.append((level[atom] if count > have[atom] else 0, atom))
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
                if kind == ZERO or (kind == CAP and count > weight):
                    return
                element += (weight if kind == DROP else weight - count) << shift
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

        The price of an atom is what its premises cost together, and one more (Knuth 1977).
        """
        system = self._system
        missing, lacking = system.premises.copy(), system.least.copy()
        price = [1] * len(system.rules)
        level = [1] * len(system.rules)
        met = [count > 0 for count in self._have]
        queue = [(0, atom) for atom, count in enumerate(self._have) if count]
        while queue:
            cost, atom = heapq.heappop(queue)
            self._ever |= 1 << atom
            higher = 1 + self._level[atom]
            helped = [number for number in system.helped[atom] if lacking[number]]
            for count, numbers in ((missing, system.needers[atom]), (lacking, helped)):
                for number in numbers:
                    count[number] -= 1
                    price[number] += cost
                    if level[number] < higher:  # noqa: PLR1730 - half the time of max()
                        level[number] = higher
                    if missing[number] or lacking[number]:
                        continue
                    self._possible[number] = True
                    self._order.append(number)
                    for each in system.achieved[number]:
                        if not self._price[each]:
                            self._price[each], self._level[each] = price[number], level[number]
                        if not met[each]:
                            met[each] = True
                            heapq.heappush(queue, (price[number], each))
        self._work += len(self._order) // _CHEAP

    def _exclude(self) -> bool:
        """
        Find which two atoms may ever hold together (X); return whether the budget was enough.

        The rows are symmetrical; an atom in its own row may hold twice.
        """
        have = self._have
        held = self._ever = sum(1 << atom for atom, count in enumerate(have) if count)
        self._rows = [held if count > 1 else held & ~(1 << atom) if count else 0 for atom, count in enumerate(have)]
        stamps = [0] * len(have)
        done = [-1] * len(self._system.rules)
        now, changed = 0, True
        while changed:
            changed = False
            for number in self._order:
                rule = self._system.rules[number]
                latest = max((stamps[atom] for atom in self._system.needed[number]), default=now)
                if done[number] >= latest:
                    continue
                if self._work > self._budget:
                    return False
                now += 1
                done[number] = now
                self._work += 1
                for atom in self._pair_up(rule):
                    stamps[atom] = now + 1
                    changed = True
        return True

    def _pair_up(self, rule: Rule) -> list[int]:
        """Let the rule fire beside all that may hold together with each premise; list the atoms with new company."""
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
        for atom in (*rule.breaks, *(atom for atom, kind, _ in rule.edits if kind == ZERO)):
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
                self._work += fresh.bit_count() // _CHEAP
                changed.append(atom)
            while fresh:
                other = fresh.bit_length() - 1
                fresh ^= 1 << other
                rows[other] |= bit
                changed.append(other)
        return changed


def swallows(task: TaskTable) -> bool:
    """Say whether this is a non-cancelling partial join, which remembers and swallows."""
    return task.join == PARTIAL and not task.join_cancels


State = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""The marking, by task the status, by task what it has seen."""


class Forward:
    """
    A forward search over concrete states, straight from the rules.

    Args:
        tables: the net.
        join: the OR-join, which is never started.
        conditions, tasks: the part of the net to play in: nothing outside changes anything inside, or lets it happen.
    """

    def __init__(self, tables: Tables, join: int, conditions: set[int], tasks: set[int]) -> None:
        self._swallowers = tables.swallowers
        self._table = tables.table
        self._join = join
        self._conditions = conditions
        self._tasks = tasks

    def run(
        self,
        goals: Sequence[Sequence[Arc]],
        budget: int,
        marking: Sequence[int],
        status: Sequence[int],
        seen: Mapping[int, int],
    ) -> int:
        """
        Look for a state that marks all conditions of one of the goals.

        Args:
            goals: lists of arcs.
            budget: how many steps may be looked at.
            marking, status, seen: the state to begin with.

        Returns:
            `COVERED`, `EXHAUSTED` or `OUT_OF_BUDGET`.
        """
        first: State = (
            tuple(count if condition in self._conditions else 0 for condition, count in enumerate(marking)),
            tuple(each if t in self._tasks else 0 for t, each in enumerate(status)),
            tuple(seen.get(t, 0) if t in self._tasks else 0 for t in range(len(status))),
        )
        known = {first}
        queue = [first]
        work = 0
        for state in queue:
            for later in self._successors(state):
                work += 1
                if later in known:
                    continue
                if any(all(later[0][c] >= weight for c, weight in goal) for goal in goals):
                    return COVERED
                if work > budget:
                    return OUT_OF_BUDGET
                known.add(later)
                queue.append(later)
        return EXHAUSTED

    def _successors(self, state: State) -> Iterator[State]:
        for number in sorted(self._tasks):
            if state[1][number] == 0 and number != self._join:
                yield from self._starts(state, number)
            elif state[1][number] == 1:
                for given in self._choices(number):
                    yield self._completed(state, number, given)
            elif state[1][number] == 2:
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
            for given in self._choices(number):
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
            for t, position in self._swallowers[condition]:
                inputs = self._table[t].inputs
                needed = inputs[position][1]
                if seen[t] and not seen[t] >> position & 1 and marking[condition] >= needed:
                    marking[condition] -= needed
                    seen[t] |= 1 << position
                    if seen[t] == (1 << len(inputs)) - 1:
                        seen[t] = 0
        return tuple(marking), tuple(status), tuple(seen)

    def _choices(self, number: int) -> Iterator[Sequence[Arc]]:
        """Yield what a completion may put inside; nothing, if it has the choice to put it elsewhere."""
        task = self._table[number]
        outputs = [arc for arc in task.outputs if arc[0] in self._conditions]
        if task.split == AND:
            yield outputs
            return
        if len(outputs) < len(task.outputs):
            yield ()
        for count in range(1, 2 if task.split == XOR else 1 + len(outputs)):
            yield from combinations(outputs, count)


def _cancel(
    marking: list[int], status: list[int], seen: list[int], conditions: Iterable[int], tasks: Iterable[int]
) -> None:
    for condition in conditions:
        marking[condition] = 0
    for task in tasks:
        status[task] = 0
        seen[task] = 0
