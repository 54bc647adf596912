"""The token game as a replay plays it: what may happen silently, what an event makes happen, and what must be forced.

The rules are those of a running case: a position is a `CaseState`, and every move is one of its journal records, applied.
What a case decides from data, time and people, a replay leaves open:

- predicates of splits: every choice that some data allow (one output of an XOR-split; of an OR-split any of those with a
  predicate, or the default alone);
- the number of instances, where an expression, a list or dynamic creation gives it: an instance is created when an event
  needs it, within the stated bounds, and ``until`` may say either;
- timers and triggers: at any time.

Moves that leave nothing in the log are silent.
A task's start matters to nobody in a *plain* net (no OR-join, no partial join, no cancellation, no XOR-join whose inputs
another task looks at): there, whoever started early could as well have started just before completing, since the token that
he leaves lying enables others and takes nothing from them.
In such a net a task starts and completes in one move; elsewhere its start is a silent move of its own.

What has ended is over at once: no move is possible in a net whose output condition is marked, nor below it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from knhk._case_state import Activity, CaseState, Code, End, NetInstance
from knhk._hot import Net
from knhk._kernel import IDLE
from knhk._lower import Kind, Program, TaskPlan
from knhk._tables import AND, OR, OUTPUT, PARTIAL, XOR, Tables
from knhk.analysis._replay_names import Label, Place, Step
from knhk.spec import Creation, Remaining

_MAX_ADDED: Final = 1_000
"""How many instances one event may bring into being."""


class Effect(NamedTuple):
    """
    What a move did to the tokens.

    Args:
        produced, consumed, missing, remaining: as in token-based replay; a cancelled or swallowed token is consumed.
        discarded: of the consumed, those that lay in a net when it ended.
    """

    produced: int = 0
    consumed: int = 0
    missing: int = 0
    remaining: int = 0
    discarded: int = 0

    def plus(self, other: Effect) -> Effect:
        """Return what both did."""
        return Effect(
            self.produced + other.produced,
            self.consumed + other.consumed,
            self.missing + other.missing,
            self.remaining + other.remaining,
            self.discarded + other.discarded,
        )


NOTHING: Final = Effect()
STRANGE: Final = Effect(produced=1, consumed=1, missing=1, remaining=1)
"""An event that the specification has no place for: as if a task of its own fired, unconnected to the rest."""

Move = tuple[CaseState, Effect]


class Game:
    """
    The moves of one specification, for one set of names in the log.

    Args:
        observed: the tasks whose completion the log tells.
        observed_starts: the tasks whose start it tells.
    """

    def __init__(self, program: Program, *, observed: frozenset[Place], observed_starts: frozenset[Place]) -> None:
        self._program = program
        self._kernels = tuple(Net(each.tables) for each in program.nets)
        self._observed = observed
        self._starts = observed_starts
        self._plain = tuple(_is_plain(each.tables) for each in program.nets)
        self._ways = _ways(program)

    def beginning(self) -> CaseState:
        """Return the position in which every trace begins."""
        state = CaseState(self._program, self._kernels)
        state.apply((Code.STARTED,))
        _settle(state)
        return state

    # --- silent moves -------------------------------------------------------------------------------------------------

    def silent(self, state: CaseState) -> Iterator[Move]:
        """Yield what may happen without an event."""
        if is_over(_root(state)):
            return
        ended = self._ended(state)
        if ended is not None:
            yield from self._end_net(state, ended)
            return
        for net in _live(state):
            for task in net.marking.ready():
                yield from self._silent_start(state, net, task)
            for task, activity in net.activities.items():
                yield from self._silent_progress(state, net, task, activity)

    def _silent_start(self, state: CaseState, net: NetInstance, task: int) -> Iterator[Move]:
        plan = net.plan.plans[task]
        place = (net.plan.number, task)
        multiple = plan.task.multiple
        seen = place in self._observed
        if plan.kind is Kind.ROUTING:
            if not seen:
                yield from self._fire(state, net, task)
            return
        if multiple is not None and _may_be_none(plan):
            yield from self._fire(state, net, task)
            if plan.count == 0:
                return
        if place in self._starts:
            return
        if (
            plan.kind is Kind.SUBNET
            or (multiple is not None and (seen or multiple.detached))
            or not self._plain[net.plan.number]
        ):
            yield from self._begin(state, net, task)
        elif not seen:
            yield from self._fire(state, net, task)

    def _silent_progress(self, state: CaseState, net: NetInstance, task: int, activity: Activity) -> Iterator[Move]:
        plan = net.plan.plans[task]
        if not activity.open:
            return
        if plan.kind is not Kind.SUBNET:
            if (net.plan.number, task) not in self._observed:
                yield from self._finish(state, net, task, min(activity.open))
            return
        if not _has_room(plan, activity):
            return
        # One that has not begun is enough: further ones are created when that one has.
        if any(_is_fresh(state.nets[number]) for number in activity.open.values()):
            return
        yield self._add(state, net, task, 1)

    def _ended(self, state: CaseState) -> NetInstance | None:
        """Return a net that has ended and whose composite task ends with it, unobserved."""
        for net in state.nets.values():
            parent = net.parent
            if parent is not None and (parent.plan.number, net.task) not in self._observed and is_over(net):
                return net
        return None

    def _end_net(self, state: CaseState, net: NetInstance) -> Iterator[Move]:
        assert net.parent is not None
        yield from self._finish(state, net.parent, net.task, net.instance, discarded=_rest(state, net))

    # --- moves that an event makes ------------------------------------------------------------------------------------

    def plays(self, state: CaseState, label: Label) -> Iterator[Move]:
        """Yield what an event can have been in this position; nothing: it is not enabled."""
        if is_over(_root(state)) or self._ended(state) is not None:
            return
        for net in _live(state):
            if net.plan.number == label.net and _lies_under(net, label.above):
                if label.starts:
                    yield from self._play_start(state, net, label)
                else:
                    yield from self._play_completion(state, net, label)

    def _play_start(self, state: CaseState, net: NetInstance, label: Label) -> Iterator[Move]:
        task = label.task
        plan = net.plan.plans[task]
        activity = net.activities.get(task)
        if plan.task.multiple is not None and activity is not None and activity.open:
            # The instances of one activation start together (rule 6): the first start told of all of them.
            yield state, NOTHING
        if not net.marking.is_ready(task):
            return
        if plan.kind is Kind.ROUTING:
            yield state, NOTHING
        elif plan.count != 0 or plan.task.multiple is None:
            yield from self._begin(state, net, task)

    def _play_completion(self, state: CaseState, net: NetInstance, label: Label) -> Iterator[Move]:
        task = label.task
        plan = net.plan.plans[task]
        ready = net.marking.is_ready(task)
        if plan.kind is Kind.ROUTING:
            if ready:
                yield from self._fire(state, net, task)
            return
        activity = net.activities.get(task)
        if activity is not None:
            if plan.kind is Kind.SUBNET:
                yield from self._play_end_of_net(state, label, activity)
            else:
                yield from self._play_instance(state, net, label, activity)
        elif ready and plan.kind is not Kind.SUBNET and plan.task.multiple is None:
            if (net.plan.number, task) not in self._starts:
                yield from self._fire(state, net, task)

    def _play_end_of_net(self, state: CaseState, label: Label, activity: Activity) -> Iterator[Move]:
        for k, number in activity.open.items():
            child = state.nets[number]
            if label.instance in (0, k) and is_over(child):
                yield from self._end_net(state, child)

    def _play_instance(self, state: CaseState, net: NetInstance, label: Label, activity: Activity) -> Iterator[Move]:
        """Finish the instance that is named, or the first; where their number is open, there may be one more."""
        task = label.task
        plan = net.plan.plans[task]
        k = 0 if plan.task.multiple is None else label.instance
        short = 0
        if k and k not in activity.open:
            short = k - activity.created
        elif not activity.open:
            short = 1
        if short < 0 or short > _MAX_ADDED or (k and k not in activity.open and short == 0):
            return
        for extra in (0, 1):
            more = short + extra
            if more and not _has_room(plan, activity, more):
                return
            moved, effect = self._add(state, net, task, more) if more else (state, NOTHING)
            here = moved.nets[net.number]
            finished = k or min(here.activities[task].open)
            for after, then in self._finish(moved, here, task, finished):
                yield after, effect.plus(then)

    # --- forcing ------------------------------------------------------------------------------------------------------

    def force(self, state: CaseState, label: Label) -> list[Move]:
        """
        Return what follows when the event happens although it is not enabled: the tokens it lacks are put there.

        At least one token is counted as missing, also where an OR-join or an ended net was all that stood in the way.
        Empty: it cannot be forced, since the task is busy with another activation.
        """
        forced = _copy(self._program, self._kernels, state)
        before = _total(state)
        reached = self._reach(forced, label)
        if reached is None:
            return []
        net, put, produced = reached
        task = label.task
        plan = net.plan.plans[task]
        activity = net.activities.get(task)
        opened = False
        if activity is None or not activity.open:
            supplied = _supply(net, task)
            if supplied is None:
                return []
            lent, count = supplied
            put += count
            if label.starts or plan.kind is Kind.SUBNET or plan.task.multiple is not None:
                produced += self._begin_here(forced, net, task)
                _take_back(net, lent)
                opened = True
            else:
                _, base = _forced(forced, before, put, produced)
                return [
                    (_without(after, net.number, lent), base.plus(effect).plus(Effect(consumed=len(lent))))
                    for after, effect in self._fire(forced, net, task)
                ]
        if label.starts:
            return [_forced(forced, before, put, produced)] if opened else []
        return self._force_completion(forced, net, label, before=before, put=put, produced=produced)

    def _force_completion(
        self, state: CaseState, net: NetInstance, label: Label, *, before: int, put: int, produced: int
    ) -> list[Move]:
        """Complete a task that is open now, its net's end included where it is a composite one."""
        activity = net.activities.get(label.task)
        if activity is None or not activity.open:
            return []
        k = label.instance if label.instance in activity.open else min(activity.open)
        discarded = 0
        if net.plan.plans[label.task].kind is Kind.SUBNET:
            child = state.nets[activity.open[k]]
            if not is_over(child) and not child.plan.tables.implicit:
                _put(child, OUTPUT)
                put += 1
            discarded = _rest(state, child)
        _, so_far = _forced(state, before, put, produced)
        return [
            (after, so_far.plus(effect))
            for after, effect in self._finish(state, net, label.task, k, discarded=discarded)
        ]

    def _reach(self, state: CaseState, label: Label) -> tuple[NetInstance, int, int] | None:
        """Return the net in which a label's task is, with the tokens put and produced to begin what is above it."""
        way = label.above
        if way is None:
            found = next((net for net in state.nets.values() if net.plan.number == label.net), None)
            if found is not None:
                return found, 0, 0
            way = self._ways.get(label.net)
            if way is None:
                return None
        net = _root(state)
        put = produced = 0
        for task, k in way:
            activity = net.activities.get(task)
            if activity is None or not activity.open:
                supplied = _supply(net, task)
                if supplied is None:
                    return None
                put += supplied[1]
                produced += self._begin_here(state, net, task)
                _take_back(net, supplied[0])
                activity = net.activities.get(task)
            if activity is None or not activity.open or (k and k not in activity.open):
                return None
            net = state.nets[activity.open[k or min(activity.open)]]
        return net, put, produced

    # --- records ------------------------------------------------------------------------------------------------------

    def _begin_here(self, state: CaseState, net: NetInstance, task: int) -> int:
        """Start a task, its inputs being there, in this very state; returns the tokens produced."""
        plan = net.plan.plans[task]
        count = _first_count(plan)
        chosen = _choices(net, task)[0] if net.plan.tables.table[task].detached else None
        state.apply((Code.BEGUN, net.number, task, count, None, "", chosen))
        _settle(state)
        return self._opened(plan, max(1, count)) + _weight(net, task, chosen or ())

    def _opened(self, plan: TaskPlan, count: int) -> int:
        return count if plan.kind is Kind.SUBNET else 0

    def _begin(self, state: CaseState, net: NetInstance, task: int) -> Iterator[Move]:
        plan = net.plan.plans[task]
        count = _first_count(plan)
        choices: Sequence[tuple[int, ...] | None] = [None]
        if net.plan.tables.table[task].detached:
            choices = _choices(net, task)
        for chosen in choices:
            produced = self._opened(plan, max(1, count)) + _weight(net, task, chosen or ())
            yield self._moved(state, [(Code.BEGUN, net.number, task, count, None, "", chosen)], produced)

    def _fire(self, state: CaseState, net: NetInstance, task: int) -> Iterator[Move]:
        for chosen in _choices(net, task):
            yield self._moved(state, [(Code.FIRED, net.number, task, chosen)], _weight(net, task, chosen))

    def _add(self, state: CaseState, net: NetInstance, task: int, count: int) -> Move:
        record = (Code.INSTANCE_ADDED, net.number, task, None, "")
        return self._moved(state, [record] * count, self._opened(net.plan.plans[task], count))

    def _finish(self, state: CaseState, net: NetInstance, task: int, k: int, *, discarded: int = 0) -> Iterator[Move]:
        for end in _ends(net.plan.plans[task], net.activities[task]):
            passes = end in (End.COMPLETES, End.PASSES_ON)
            for chosen in _choices(net, task) if passes else [None]:
                record = (Code.FINISHED, net.number, task, k, None, int(end), chosen)
                after, effect = self._moved(state, [record], _weight(net, task, chosen or ()))
                yield after, effect._replace(discarded=discarded)

    def _moved(self, state: CaseState, records: Sequence[tuple[Any, ...]], produced: int) -> Move:
        """Apply records to a copy; what is gone of the tokens was consumed."""
        after = _copy(self._program, self._kernels, state)
        for record in records:
            after.apply(record)
        _settle(after)
        return after, Effect(produced, _total(state) + produced - _total(after))


# --- positions --------------------------------------------------------------------------------------------------------


def key(state: CaseState) -> tuple[Any, ...]:
    """Return what a position is, for telling whether two are the same."""
    return _key(state, _root(state))


def _key(state: CaseState, net: NetInstance) -> tuple[Any, ...]:
    marking = net.marking
    activities = []
    for task, activity in sorted(net.activities.items()):
        inner = net.plan.plans[task].kind is Kind.SUBNET
        opened = tuple((k, _key(state, state.nets[n]) if inner else ()) for k, n in sorted(activity.open.items()))
        completed = 0 if net.plan.tables.table[task].detached else activity.completed
        activities.append((task, activity.created, completed, activity.passed, opened))
    seen = tuple(sorted(marking.seen.items()))
    return net.plan.number, tuple(marking.tokens), tuple(marking.status), seen, tuple(activities)


def is_over(net: NetInstance) -> bool:
    """Whether a net has ended (rule 8)."""
    if net.plan.tables.implicit and any(activity.open for activity in net.activities.values()):
        return False
    return net.plan.empty or net.marking.has_ended()


def root(state: CaseState) -> NetInstance:
    """Return the net that the case runs."""
    return state.nets[0]


_root = root


def tokens(state: CaseState) -> int:
    """Return how many tokens lie in all nets together."""
    return sum(sum(net.marking.tokens) for net in state.nets.values())


_total = tokens


def unfinished(state: CaseState) -> list[tuple[NetInstance, int]]:
    """Return the tasks (as net and number) that have started and not completed, once for each open instance."""
    return [
        (net, task)
        for net in state.nets.values()
        for task, activity in net.activities.items()
        if net.plan.plans[task].kind is not Kind.SUBNET
        for _ in activity.open
    ]


def _live(state: CaseState) -> Iterator[NetInstance]:
    """Yield the nets that have not ended, nor lie in one that has."""
    over: set[int] = set()
    for net in state.nets.values():
        if (net.parent is not None and net.parent.number in over) or is_over(net):
            over.add(net.number)
        else:
            yield net


def _lies_under(net: NetInstance, above: tuple[Step, ...] | None) -> bool:
    if above is None:
        return True
    for task, k in reversed(above):
        if net.parent is None or net.task != task or (k and k != net.instance):
            return False
        net = net.parent
    return net.parent is None


def _rest(state: CaseState, net: NetInstance) -> int:
    """Return the tokens that a net's end discards: all in it and below it, but for those that its end is."""
    count = 0
    below = {net.number}
    for each in state.nets.values():
        if each is net or (each.parent is not None and each.parent.number in below):
            below.add(each.number)
            count += sum(each.marking.tokens)
    return 0 if net.plan.tables.implicit or net.plan.empty else count - 1


def _is_fresh(net: NetInstance) -> bool:
    marking = net.marking
    return marking.tokens[0] == 1 and sum(marking.tokens) == 1 and not net.activities


def _copy(program: Program, kernels: Sequence[Net], state: CaseState) -> CaseState:
    twin = CaseState(program, kernels)
    twin.phase = state.phase
    twin.next_net = state.next_net
    twin.next_item = state.next_item
    for number, net in state.nets.items():
        old = net.marking
        marking = kernels[net.plan.number].marking()
        marking.restore(old.tokens, old.status, old.seen)
        parent = None if net.parent is None else twin.nets[net.parent.number]
        made = twin.nets[number] = NetInstance(number, net.plan, marking, parent, net.task, net.instance)
        for task, activity in net.activities.items():
            copied = made.activities[task] = Activity()
            copied.open = dict(activity.open)
            copied.created = activity.created
            copied.completed = activity.completed
            copied.passed = activity.passed
    return twin


def _settle(state: CaseState) -> None:
    for number in state.touched:
        net = state.nets.get(number)
        if net is not None:
            net.marking.settle()
            net.marking.flips.clear()
    state.touched.clear()
    state.moved.clear()
    state.items.clear()
    state.work.clear()


# --- what a task may do -----------------------------------------------------------------------------------------------


def _choices(net: NetInstance, task: int) -> list[tuple[int, ...]]:
    """Return the sets of outputs that some data choose (rule 3)."""
    plan = net.plan.plans[task]
    if not plan.branches:
        return [plan.every_output]
    if net.plan.tables.table[task].split == XOR:
        return [(branch.position,) for branch in plan.branches]
    free = [branch.position for branch in plan.branches if branch.predicate is not None]
    subsets = [each for size in range(1, len(free) + 1) for each in itertools.combinations(free, size)]
    return subsets + [(branch.position,) for branch in plan.branches if branch.predicate is None]


def _weight(net: NetInstance, task: int, chosen: Sequence[int]) -> int:
    outputs = net.plan.tables.table[task].outputs
    return sum(outputs[position][1] for position in chosen)


def _ends(plan: TaskPlan, activity: Activity) -> list[End]:
    """Return what the end of an instance may do to its task (rule 6); ``until`` may say either."""
    multiple = plan.task.multiple
    if multiple is None:
        return [End.COMPLETES]
    if multiple.detached:
        return [End.DETACHED]
    remaining = len(activity.open) - 1
    if activity.passed:
        return [End.NOTHING if remaining else End.RELEASES]
    if not remaining:
        return [End.COMPLETES]
    passes = End.PASSES_ON if multiple.remaining is Remaining.CONTINUE else End.COMPLETES
    if multiple.threshold is not None and activity.completed + 1 >= multiple.threshold:
        return [passes]
    return [End.NOTHING] if plan.until is None else [End.NOTHING, passes]


def _may_be_none(plan: TaskPlan) -> bool:
    if isinstance(plan.count, int):
        return plan.count == 0
    return plan.task.multiple is None or not plan.task.multiple.minimum


def _first_count(plan: TaskPlan) -> int:
    """Return how many instances start: as many as are stated, or as few as are allowed."""
    if plan.task.multiple is None:
        return 0
    return plan.count if isinstance(plan.count, int) else max(1, plan.task.multiple.minimum or 0)


def _has_room(plan: TaskPlan, activity: Activity, more: int = 1) -> bool:
    """Whether so many instances may exist beyond those that were created."""
    multiple = plan.task.multiple
    if multiple is None or (isinstance(plan.count, int) and multiple.creation is not Creation.DYNAMIC):
        return False
    return multiple.maximum is None or activity.created + more <= multiple.maximum


def _is_plain(tables: Tables) -> bool:
    """Whether it makes no difference in this net when a task starts, as long as it completes when it does."""
    for number, entry in enumerate(tables.table):
        if entry.join in (OR, PARTIAL) or entry.cancels_conditions or entry.cancels_tasks:
            return False
        alone = all(tables.consumers[condition] == (number,) for condition, _ in entry.inputs)
        if entry.join == XOR and len(entry.inputs) > 1 and not alone:
            return False
    return True


def _ways(program: Program) -> dict[int, tuple[Step, ...]]:
    """Return the shortest chain of composite tasks from the root to each net."""
    ways: dict[int, tuple[Step, ...]] = {0: ()}
    agenda = [0]
    for number in agenda:
        for task, plan in enumerate(program.nets[number].plans):
            if plan.subnet >= 0 and plan.subnet not in ways:
                ways[plan.subnet] = (*ways[number], (task, 0))
                agenda.append(plan.subnet)
    return ways


# --- putting what is missing ------------------------------------------------------------------------------------------


def _supply(net: NetInstance, task: int) -> tuple[list[int], int] | None:
    """
    Put the tokens that the task lacks to start.

    Returns:
        The conditions that were lent a token only to be read, and how many tokens were put in all; None: the task is busy.
    """
    entry = net.plan.tables.table[task]
    marking = net.marking
    if marking.status[task] != IDLE:
        return None
    held, status, seen = list(marking.tokens), list(marking.status), dict(marking.seen)
    seen.pop(task, None)
    lacks = [max(0, weight - held[condition]) for condition, weight in entry.inputs]
    needed = {AND: len(lacks), PARTIAL: entry.required}.get(entry.join, 1)
    put = 0
    for position in sorted(range(len(lacks)), key=lacks.__getitem__)[:needed]:
        held[entry.inputs[position][0]] += lacks[position]
        put += lacks[position]
    lent = [condition for condition in entry.reads if not held[condition]]
    for condition in lent:
        held[condition] += 1
    marking.restore(held, status, seen)
    return lent, put + len(lent)


def _put(net: NetInstance, condition: int) -> None:
    marking = net.marking
    held = list(marking.tokens)
    held[condition] += 1
    marking.restore(held, list(marking.status), dict(marking.seen))


def _take_back(net: NetInstance, lent: Sequence[int]) -> None:
    """Remove the tokens that were lent; one that is gone was cancelled."""
    if lent:
        marking = net.marking
        held = list(marking.tokens)
        for condition in lent:
            held[condition] = max(0, held[condition] - 1)
        marking.restore(held, list(marking.status), dict(marking.seen))


def _without(state: CaseState, number: int, lent: Sequence[int]) -> CaseState:
    _take_back(state.nets[number], lent)
    return state


def _forced(state: CaseState, before: int, put: int, produced: int) -> Move:
    missing = max(1, put)
    return state, Effect(produced, before + missing + produced - _total(state), missing)
