"""The search of a replay: not one position but all that the events so far allow, found once and remembered.

A *belief* is the set of positions in which a case may be after the events so far, since silent moves and splits leave no
trace in a log.
An event leads from a belief to a belief: everything that silent moves reach is searched breadth first, and every position in
which the event can have happened contributes what follows it.
This is the subset construction of automata theory, made as traces need it; each step is remembered, so that a trace whose
steps others have taken costs one look-up an event.

As long as neither budget was met this is exact: a trace has missing tokens only if no run of the specification has its
events.
If an event fits in no position, the tokens that it lacks are put (as few as possible), and the belief is *deviating* from
then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from knhk._case_state import CaseState
from knhk.analysis._replay_game import NOTHING, STRANGE, Effect, Game
from knhk.analysis._replay_names import Label
from knhk.analysis._replay_positions import is_over, key, root, tokens, unfinished

_POSITIONS: Final = 30_000
"""How many running nets, in all positions together, are kept from trace to trace; beyond, all is forgotten."""

_STEPS: Final = 1_000_000
"""How many steps, and positions that they looked at, are kept likewise."""

_FORCED: Final = 32
"""In how many positions of a belief it is tried to force an event; further ones are no nearer to it."""


@attrs.frozen(eq=False)
class Belief:
    """
    Where a case may be.

    Args:
        positions: by number, the nearest first; as many tokens were missing on the way to each.
        deviates: whether an event had to be forced on the way.
        cut: whether a budget was met on the way: there may be others.
    """

    positions: tuple[int, ...]
    deviates: bool
    cut: bool
    steps: dict[int, Step] = attrs.field(factory=dict)


@attrs.frozen(eq=False)
class Step:
    """
    What an event leads to.

    Args:
        belief: where the case may be then.
        origins: by position of the new belief, which position of the old belief it comes from.
        effects: by position of the new belief, what happened to the tokens since.
        fits: whether the event was enabled.
    """

    belief: Belief
    origins: tuple[int, ...]
    effects: tuple[Effect, ...]
    fits: bool


@attrs.frozen
class Ending:
    """How a trace ends: from which position of the belief, what the end does to the tokens, and what the case is then."""

    origin: int
    effect: Effect
    state: CaseState
    ended: bool


class Search:
    """
    The beliefs of one game.

    Args:
        budget: how many running nets, in all its positions together, a search for one event may look at.
        width: how many positions a belief may have.
    """

    def __init__(self, game: Game, labels: Sequence[Label | None], *, budget: int, width: int) -> None:
        self._game = game
        self._labels = labels
        self._budget = budget
        self._width = width
        self._forget()

    def _forget(self) -> None:
        self._states: list[CaseState] = []
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._silent: dict[int, tuple[tuple[int, Effect], ...]] = {}
        self._beliefs: dict[tuple[tuple[int, ...], bool, bool], Belief] = {}
        self._closures: dict[Belief, tuple[list[tuple[int, int, Effect]], bool]] = {}
        self._endings: dict[Belief, Ending] = {}
        self._nets = 0
        self._taken = 0
        first = self._number(self._game.beginning())
        self._first = self._belief((first,), deviates=False, cut=self._game.is_cut)

    def first(self) -> Belief:
        """Return where every case begins."""
        if self._nets > _POSITIONS or self._taken > _STEPS:
            self._forget()
        return self._first

    def step(self, belief: Belief, event: int) -> Step:
        """Return what an event, by the number of its label, leads to."""
        step = belief.steps.get(event)
        if step is None:
            self._taken += 1
            step = belief.steps[event] = self._step(belief, event)
        return step

    # --- inside -------------------------------------------------------------------------------------------------------

    def _number(self, state: CaseState) -> int:
        number = self._numbers.setdefault(key(state), len(self._states))
        if number == len(self._states):
            self._states.append(state)
            self._nets += len(state.nets)
        return number

    def _belief(self, positions: tuple[int, ...], *, deviates: bool, cut: bool) -> Belief:
        name = (positions, deviates, cut)
        belief = self._beliefs.get(name)
        if belief is None:
            belief = self._beliefs[name] = Belief(positions, deviates, cut)
        return belief

    def _after(self, position: int) -> tuple[tuple[int, Effect], ...]:
        """Return the positions one silent move away."""
        after = self._silent.get(position)
        if after is None:
            moves = self._game.silent(self._states[position])
            found: dict[int, Effect] = {}
            for state, effect in moves:
                found.setdefault(self._number(state), effect)
            found.pop(position, None)
            after = self._silent[position] = tuple(found.items())
        return after

    def _closure(self, belief: Belief) -> tuple[list[tuple[int, int, Effect]], bool]:
        """Return what silent moves reach as (position, origin, effect), breadth first, and whether the budget was met."""
        closure = self._closures.get(belief)
        if closure is None:
            closure = self._closures[belief] = self._reach(belief)
            self._taken += len(closure[0])
        return closure

    def _reach(self, belief: Belief) -> tuple[list[tuple[int, int, Effect]], bool]:
        reached = [(position, origin, NOTHING) for origin, position in enumerate(belief.positions)]
        known = {position for position, _, _ in reached}
        spent = 0
        for position, origin, effect in reached:
            for after, then in self._after(position):
                if after not in known:
                    # What a position costs are its nets: composite tasks that contain themselves nest without end.
                    spent += len(self._states[after].nets)
                    if spent > self._budget:
                        return reached, True
                    known.add(after)
                    reached.append((after, origin, effect.plus(then)))
        return reached, False

    def _step(self, belief: Belief, event: int) -> Step:
        label = self._labels[event]
        if label is None:
            return self._strange(belief)
        reached, met = self._closure(belief)
        found: list[tuple[int, int, Effect]] = []
        for position, origin, effect in reached:
            for state, then in self._game.plays(self._states[position], label):
                found.append((self._number(state), origin, effect.plus(then)))
        if found:
            return self._arrived(belief, found, fits=True, cut=met)
        cheapest: int | None = None
        # The nearest positions are asked first; it is the fewest missing tokens that count.
        for position, origin, effect in reached[:_FORCED]:
            for state, then in self._game.force(self._states[position], label):
                cost = then.missing
                if cheapest is None or cost < cheapest:
                    cheapest, found = cost, []
                if cost == cheapest:
                    found.append((self._number(state), origin, effect.plus(then)))
        if not found:
            return self._strange(belief)
        return self._arrived(belief, found, fits=False, cut=met)

    def _arrived(self, belief: Belief, found: Sequence[tuple[int, int, Effect]], *, fits: bool, cut: bool) -> Step:
        """Put together what was found: the shortest way to each position."""
        first: dict[int, tuple[int, Effect]] = {}
        for position, origin, effect in found:
            first.setdefault(position, (origin, effect))
        kept = list(first.items())[: self._width]
        cut = cut or belief.cut or len(first) > self._width
        after = self._belief(tuple(first)[: self._width], deviates=belief.deviates or not fits, cut=cut)
        effects = tuple(_told(effect, deviates=belief.deviates) for _, (_, effect) in kept)
        return Step(after, tuple(origin for _, (origin, _) in kept), effects, fits)

    def _strange(self, belief: Belief) -> Step:
        after = self._belief(belief.positions, deviates=True, cut=belief.cut)
        count = len(belief.positions)
        return Step(after, tuple(range(count)), (STRANGE,) * count, fits=False)

    def end(self, belief: Belief) -> Ending:
        """Return how a trace ends best: with its net ended, else with the fewest tokens missing and remaining."""
        ending = self._endings.get(belief)
        if ending is None:
            ending = self._endings[belief] = self._end(belief)
        return ending

    def _end(self, belief: Belief) -> Ending:
        reached, _ = self._closure(belief)
        best: Ending | None = None
        least = 0
        for position, origin, effect in reached:
            state = self._states[position]
            ended = is_over(root(state))
            final = _end(state, ended=ended, deviates=belief.deviates)
            cost = final.missing + final.remaining
            if best is None or cost < least:
                least = cost
                best = Ending(origin, _told(effect, deviates=belief.deviates).plus(final), state, ended)
                if cost == 0:
                    break
        assert best is not None
        return best


def _told(effect: Effect, *, deviates: bool) -> Effect:
    """Count what an ended net discarded: in a run of the specification that is its end (rule 8), elsewhere it remains."""
    if not effect.discarded:
        return effect
    if not deviates:
        return effect._replace(discarded=0)
    return Effect(
        effect.produced,
        effect.consumed - effect.discarded,
        effect.missing,
        effect.remaining + effect.discarded,
    )


def _end(state: CaseState, *, ended: bool, deviates: bool) -> Effect:
    """Take the end's token, or miss it; what lies elsewhere remains, unless a run of the specification ended there."""
    net = root(state)
    held = tokens(state)
    if ended and not deviates:
        return Effect(consumed=held)
    busy = len(unfinished(state))
    if net.plan.tables.implicit:
        sunk = sum(count for sink, count in zip(net.plan.tables.sinks, net.marking.tokens, strict=True) if sink)
        return Effect(produced=busy, consumed=sunk, remaining=held - sunk + busy)
    if ended:
        return Effect(produced=busy, consumed=1, remaining=held - 1 + busy)
    return Effect(produced=busy, consumed=1, missing=1, remaining=held + busy)
