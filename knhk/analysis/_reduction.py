"""A structural test for soundness: does the net reduce to nothing?

For nets of AND- and XOR-joins and -splits alone: no OR, no partial join, no cancellation, no read arc, no weight, no draining or
detached task, explicit termination, all choices free; and either no move comes before another, or no two tasks take from one
condition.  Such a net is an ordinary Petri net: a task that needs all its inputs is
a transition, an XOR-join a transition for each input into a place *running*, an XOR-split a transition for each output.  With a
transition from ``end`` back to ``start`` it is live and safe iff the net is sound and 1-safe (van der Aalst 1997).

Six rules keep liveness, safeness and boundedness in both directions (Murata 1989, "Petri nets: properties, analysis and
applications", section V.A): fusion of series places, of series transitions, of parallel places, of parallel transitions, and
elimination of self-loop transitions; the sixth, self-loop places, meets only the start place, which must stay.
If what remains is one place with the token and at most self-loops, the net is sound, each task can start, and no condition ever
holds two tokens.  Otherwise nothing is said: the caller looks at the states.

Two things in which tasks differ from transitions do not matter then.  An XOR-join takes from its *first* marked input, and a
busy task does not start again; but if two inputs were marked, or one beside *running*, the Petri net could put two tokens on
*running*, and it is safe.
Nor does it matter that urgent moves come first, if no two tasks take from one condition.  Take a run to the end.  What is urgent
at its beginning occurs in it, or its tokens would be left, and nobody else could have taken them: it can be moved to the front.
"""

from __future__ import annotations

from collections.abc import Callable

from knhk._tables import AND, INPUT, OR, OUTPUT, PARTIAL, XOR
from knhk.analysis._relation import Relation

_LOOK_AT_CLOCK = 256


def reduces_to_nothing(relation: Relation, expired: Callable[[], bool]) -> bool:
    """
    Whether the net is sound and 1-safe by structure alone; False says nothing.

    Args:
        relation: the net and its choices.
        expired: whether to give up.
    """
    if not _is_plain(relation):
        return False
    net = _petri_net(relation)
    turns = 0
    while net.todo:
        turns += 1
        if turns % _LOOK_AT_CLOCK == 0 and expired():
            return False
        net.reduce(net.todo.popitem()[0])
    return len(net.places) == 1 and INPUT in net.places and bool(net.transitions)


def _is_plain(relation: Relation) -> bool:
    tables = relation.tables
    if tables.implicit or relation.open_splits:
        return False
    if not relation.even and any(len(each) > 1 for each in tables.consumers):
        return False
    for entry, choices in zip(tables.table, relation.choices, strict=True):
        if entry.join in (OR, PARTIAL) or entry.split == OR or not entry.outputs:
            return False
        if entry.reads or entry.cancels_conditions or entry.cancels_tasks or entry.detached or entry.continues:
            return False
        if any(weight > 1 for _, weight in (*entry.inputs, *entry.outputs)):
            return False
        if entry.split == XOR and len(choices) < len(entry.outputs):
            return False
    return True


class _PetriNet:
    """A Petri net under reduction; transitions and places are numbers."""

    def __init__(self) -> None:
        self.places: dict[int, tuple[set[int], set[int]]] = {}
        """By place, the transitions that put there and those that take from there."""
        self.transitions: dict[int, tuple[set[int], set[int]]] = {}
        """By transition, the places that it takes from and those that it puts on."""
        self.todo: dict[
            tuple[str, int], None
        ] = {}  # a dict, for its order: the same net is always reduced the same way

    def add(self, inputs: set[int], outputs: set[int]) -> None:
        """Add a transition."""
        number = len(self.transitions)
        self.transitions[number] = (inputs, outputs)
        self.todo[("transition", number)] = None
        for place in inputs:
            self._place(place)[1].add(number)
        for place in outputs:
            self._place(place)[0].add(number)

    def _place(self, number: int) -> tuple[set[int], set[int]]:
        self.todo[("place", number)] = None
        return self.places.setdefault(number, (set(), set()))

    def reduce(self, element: tuple[str, int]) -> None:
        """Apply the first rule that fits around an element."""
        kind, number = element
        if kind == "place" and number in self.places:
            _ = self._series_transitions(number) or self._parallel_places(number)
        elif kind == "transition" and number in self.transitions:
            _ = self._self_loop(number) or self._series_places(number) or self._parallel_transitions(number)

    def _series_places(self, number: int) -> bool:
        """One place to one place, which alone it may leave by this transition: one place."""
        inputs, outputs = self.transitions[number]
        if len(inputs) != 1 or len(outputs) != 1:
            return False
        before, after = *inputs, *outputs
        sources = self.places[before][0]
        # Without a source the transition is not live, and what remains of the net might be.
        if before == after or self.places[before][1] != {number} or not sources or sources & self.places[after][0]:
            return False
        if before == INPUT:
            # The start place keeps its name: it is the one that must remain, with the token.
            return self._merge_into_start(number, after)
        self._drop_transition(number)
        for transition in list(self.places[before][0]):
            self._unlink_output(transition, before)
            self._link_output(transition, after)
        del self.places[before]
        self._touch(after)
        return True

    def _merge_into_start(self, number: int, after: int) -> bool:
        self._drop_transition(number)
        for transition in list(self.places[after][0]):
            self._unlink_output(transition, after)
            self._link_output(transition, INPUT)
        for transition in list(self.places[after][1]):
            self.transitions[transition][0].discard(after)
            self.transitions[transition][0].add(INPUT)
            self.places[INPUT][1].add(transition)
        del self.places[after]
        self._touch(INPUT)
        return True

    def _series_transitions(self, number: int) -> bool:
        """An unmarked place from one transition to another that needs nothing else: one transition."""
        producers, consumers = self.places[number]
        if number == INPUT or len(producers) != 1 or len(consumers) != 1:
            return False
        before, after = *producers, *consumers
        outputs = self.transitions[after][1]
        if before == after or self.transitions[after][0] != {number} or outputs & self.transitions[before][1]:
            return False
        self._unlink_output(before, number)
        del self.places[number]
        for place in list(outputs):
            self._unlink_output(after, place)
            self._link_output(before, place)
        del self.transitions[after]
        self._touch_transition(before)
        return True

    def _parallel_places(self, number: int) -> bool:
        """Two unmarked places with the same transitions around: one place."""
        producers, consumers = self.places[number]
        if number == INPUT or not producers:
            return False
        for other in list(self.transitions[next(iter(producers))][1]):
            if other not in (number, INPUT) and self.places[other] == (producers, consumers):
                for transition in producers:
                    self.transitions[transition][1].discard(other)
                    self.todo[("transition", transition)] = None
                for transition in consumers:
                    self.transitions[transition][0].discard(other)
                    self.todo[("transition", transition)] = None
                del self.places[other]
                self._touch(number)
                return True
        return False

    def _parallel_transitions(self, number: int) -> bool:
        """Two transitions with the same places around: one transition."""
        inputs, outputs = self.transitions[number]
        for other in list(self.places[next(iter(inputs))][1]):
            if other != number and self.transitions[other] == (inputs, outputs):
                self._drop_transition(other)
                return True
        return False

    def _self_loop(self, number: int) -> bool:
        """A transition that changes nothing: none, unless it is the last one of its place."""
        inputs, outputs = self.transitions[number]
        if inputs != outputs or len(inputs) != 1 or len(self.places[next(iter(inputs))][1]) == 1:
            return False
        self._drop_transition(number)
        return True

    def _drop_transition(self, number: int) -> None:
        inputs, outputs = self.transitions.pop(number)
        for place in inputs:
            self.places[place][1].discard(number)
        for place in outputs:
            self.places[place][0].discard(number)
        for place in inputs | outputs:
            self._touch(place)

    def _unlink_output(self, transition: int, place: int) -> None:
        self.transitions[transition][1].discard(place)
        self.places[place][0].discard(transition)

    def _link_output(self, transition: int, place: int) -> None:
        self.transitions[transition][1].add(place)
        self.places[place][0].add(transition)

    def _touch(self, place: int) -> None:
        """Look again at a place and all that is beside it."""
        self.todo[("place", place)] = None
        for transition in self.places[place][0] | self.places[place][1]:
            self._touch_transition(transition)

    def _touch_transition(self, number: int) -> None:
        self.todo[("transition", number)] = None
        inputs, outputs = self.transitions[number]
        self.todo.update(dict.fromkeys(("place", place) for place in inputs | outputs))


def _petri_net(relation: Relation) -> _PetriNet:
    net = _PetriNet()
    tables = relation.tables
    running = len(tables.conditions)
    for entry in tables.table:
        inputs = {place for place, _ in entry.inputs}
        puts = [{place for place, _ in entry.outputs}]
        if entry.split == XOR and len(entry.outputs) > 1:
            puts = [{place} for place, _ in entry.outputs]
        takes = [inputs] if entry.join == AND or len(inputs) == 1 else [{place} for place in sorted(inputs)]
        if len(takes) > 1 or len(puts) > 1:
            for take in takes:
                net.add(take, {running})
            for put in puts:
                net.add({running}, put)
            running += 1
        else:
            net.add(takes[0], puts[0])
    net.add({OUTPUT}, {INPUT})
    return net
