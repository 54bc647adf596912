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

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from knhk._case_state import CaseState
from knhk._codes import Code, End
from knhk._hot import Net
from knhk._lower import Kind, Program, TaskPlan
from knhk._net_instance import Activity, NetInstance
from knhk._tables import OR, OUTPUT
from knhk.analysis._replay_names import Label, Place, Step
from knhk.analysis._replay_positions import (
    MAX_CHOICES,
    choices_of,
    copy_of,
    discards,
    ends_of,
    first_count,
    has_room,
    is_fresh,
    is_over,
    is_plain,
    lies_under,
    live,
    may_be_none,
    put_token,
    root,
    settle,
    supply,
    take_back,
    tokens,
    weight_of,
)

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
        self._plain = tuple(is_plain(each.tables) for each in program.nets)
        self._ways = _ways(program)

    @property
    def is_cut(self) -> bool:
        """Whether an OR-split has more choices than are looked at."""
        return any(
            (1 << sum(branch.predicate is not None for branch in plan.branches)) - 1 > MAX_CHOICES
            and net.tables.table[task].split == OR
            for net in self._program.nets
            for task, plan in enumerate(net.plans)
        )

    def beginning(self) -> CaseState:
        """Return the position in which every trace begins."""
        state = CaseState(self._program, self._kernels)
        state.apply((Code.STARTED,))
        settle(state)
        return state

    # --- silent moves -------------------------------------------------------------------------------------------------

    def silent(self, state: CaseState) -> Iterator[Move]:
        """Yield what may happen without an event."""
        if is_over(root(state)):
            return
        ended = self._ended(state)
        if ended is not None:
            yield from self._end_net(state, ended)
            return
        for net in live(state):
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
        if multiple is not None and may_be_none(plan):
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
        if not has_room(plan, activity):
            return
        # One that has not begun is enough: further ones are created when that one has.
        if any(is_fresh(state.nets[number]) for number in activity.open.values()):
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
        yield from self._finish(state, net.parent, net.task, net.instance, discarded=discards(state, net))

    # --- moves that an event makes ------------------------------------------------------------------------------------

    def plays(self, state: CaseState, label: Label) -> Iterator[Move]:
        """Yield what an event can have been in this position; nothing: it is not enabled."""
        if is_over(root(state)) or self._ended(state) is not None:
            return
        for net in live(state):
            if net.plan.number == label.net and lies_under(net, label.above):
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
        if activity is None:
            silent_start = (net.plan.number, task) not in self._starts and plan.task.multiple is None
            if ready and silent_start and plan.kind is not Kind.SUBNET:
                yield from self._fire(state, net, task)
        elif plan.kind is Kind.SUBNET:
            yield from self._play_end_of_net(state, label, activity)
        else:
            yield from self._play_instance(state, net, label, activity)

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
            if more and not has_room(plan, activity, more):
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
        forced = copy_of(self._program, self._kernels, state)
        before = tokens(state)
        reached = self._reach(forced, label)
        if reached is None:
            return []
        net, put, produced = reached
        task = label.task
        plan = net.plan.plans[task]
        activity = net.activities.get(task)
        opened = False
        if activity is None or not activity.open:
            supplied = supply(net, task)
            if supplied is None:
                return []
            lent, count = supplied
            put += count
            if label.starts or plan.kind is Kind.SUBNET or plan.task.multiple is not None:
                produced += self._begin_here(forced, net, task)
                take_back(net, lent)
                opened = True
            else:
                _, base = _forced(forced, before, put, produced)
                moves: list[Move] = []
                for after, effect in self._fire(forced, net, task):
                    returned = take_back(after.nets[net.number], lent)
                    moves.append((after, base.plus(effect).plus(Effect(consumed=returned))))
                return moves
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
                put_token(child, OUTPUT)
                put += 1
            discarded = discards(state, child)
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
        net = root(state)
        put = produced = 0
        for task, k in way:
            activity = net.activities.get(task)
            if activity is None or not activity.open:
                supplied = supply(net, task)
                if supplied is None:
                    return None
                put += supplied[1]
                produced += self._begin_here(state, net, task)
                take_back(net, supplied[0])
                activity = net.activities.get(task)
            if activity is None or not activity.open or (k and k not in activity.open):
                return None
            net = state.nets[activity.open[k or min(activity.open)]]
        return net, put, produced

    # --- records ------------------------------------------------------------------------------------------------------

    def _begin_here(self, state: CaseState, net: NetInstance, task: int) -> int:
        """Start a task, its inputs being there, in this very state; returns the tokens produced."""
        plan = net.plan.plans[task]
        count = first_count(plan)
        chosen = choices_of(net, task)[0] if net.plan.tables.table[task].detached else None
        state.apply((Code.BEGUN, net.number, task, count, None, "", chosen))
        settle(state)
        return self._opened(plan, max(1, count)) + weight_of(net, task, chosen or ())

    def _opened(self, plan: TaskPlan, count: int) -> int:
        return count if plan.kind is Kind.SUBNET else 0

    def _begin(self, state: CaseState, net: NetInstance, task: int) -> Iterator[Move]:
        plan = net.plan.plans[task]
        count = first_count(plan)
        choices: Sequence[tuple[int, ...] | None] = [None]
        if net.plan.tables.table[task].detached:
            choices = choices_of(net, task)
        for chosen in choices:
            produced = self._opened(plan, max(1, count)) + weight_of(net, task, chosen or ())
            yield self._moved(state, [(Code.BEGUN, net.number, task, count, None, "", chosen)], produced)

    def _fire(self, state: CaseState, net: NetInstance, task: int) -> Iterator[Move]:
        for chosen in choices_of(net, task):
            yield self._moved(state, [(Code.FIRED, net.number, task, chosen)], weight_of(net, task, chosen))

    def _add(self, state: CaseState, net: NetInstance, task: int, count: int) -> Move:
        record = (Code.INSTANCE_ADDED, net.number, task, None, "")
        return self._moved(state, [record] * count, self._opened(net.plan.plans[task], count))

    def _finish(self, state: CaseState, net: NetInstance, task: int, k: int, *, discarded: int = 0) -> Iterator[Move]:
        for end in ends_of(net.plan.plans[task], net.activities[task]):
            passes = end in (End.COMPLETES, End.PASSES_ON)
            for chosen in choices_of(net, task) if passes else [None]:
                record = (Code.FINISHED, net.number, task, k, None, int(end), chosen)
                after, effect = self._moved(state, [record], weight_of(net, task, chosen or ()))
                yield after, effect._replace(discarded=discarded)

    def _moved(self, state: CaseState, records: Sequence[tuple[Any, ...]], produced: int) -> Move:
        """Apply records to a copy; what is gone of the tokens was consumed."""
        after = copy_of(self._program, self._kernels, state)
        for record in records:
            after.apply(record)
        settle(after)
        return after, Effect(produced, tokens(state) + produced - tokens(after))


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


def _forced(state: CaseState, before: int, put: int, produced: int) -> Move:
    missing = max(1, put)
    return state, Effect(produced, before + missing + produced - tokens(state), missing)
