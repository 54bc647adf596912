"""The two searches of the OR-join by themselves: what they leave out, and the steps that they look at."""

from __future__ import annotations

import random
from typing import Any

import pytest

from knhk import _orjoin_search
from knhk._orjoin import ENABLED, WAITING
from knhk._orjoin_search import Forward
from tests.orjoin_nets import Net, net, verdict
from tests.orjoin_oracle import BUSY, DRAINING, Game, random_game, random_tables, successors

# --- the exclusions ---------------------------------------------------------------------------------------------------


def company(have: list[int], *rules: _orjoin_search.Rule) -> dict[str, str]:
    """By atom that may ever hold, named by a letter, with which others it may hold together; with itself: it may hold twice."""
    search = _orjoin_search.Backward(_orjoin_search.Monotone(len(have), rules, 2), have, 1_000)
    search._close()
    assert search._exclude()
    letters = "abcdefgh"[: len(have)]
    return {
        letter: "".join(other for n, other in enumerate(letters) if search._rows[atom] >> n & 1)
        for atom, letter in enumerate(letters)
        if search._ever >> atom & 1
    }


def move(*taken: int, to: tuple[int, ...] = (), **rest: Any) -> _orjoin_search.Rule:
    """A transition that takes one of each and puts one of each."""
    return _orjoin_search.Rule(uses=tuple((a, 1, 1) for a in taken), gives=tuple((a, 1) for a in to), **rest)


def test_what_holds_together_now() -> None:
    """What is there now holds together, twice what is there twice; what is not there holds with nothing (X)."""
    assert {"a": "c", "c": "ac"} == company([1, 0, 2])


def test_a_choice_excludes() -> None:
    """The outcomes of one choice exclude each other and what was taken for them, and keep the company of that (X)."""
    assert {"a": "d", "b": "d", "c": "d", "d": "abc"} == company([1, 0, 0, 1], move(0, to=(1,)), move(0, to=(2,)))
    assert {"a": "d", "b": "cd", "c": "bd", "d": "abc"} == company([1, 0, 0, 1], move(0, to=(1, 2)))


def test_what_needs_both_of_two_that_exclude_each_other_never_fires() -> None:
    """A transition fires only if its premises can hold in pairs, and twice what it needs twice (X)."""
    split = [move(0, to=(1,)), move(0, to=(2,))]

    assert "d" not in company([1, 0, 0, 0], *split, move(1, 2, to=(3,)))
    assert "d" in company([2, 0, 0, 0], *split, move(1, 2, to=(3,)))
    for count, expected in ((1, False), (2, True)):
        double = _orjoin_search.Rule(uses=((0, 2, 2),), gives=((1, 1),))
        assert expected == ("b" in company([count, 0], double))


def test_what_is_given_twice_may_hold_twice() -> None:
    """Two at once, or one beside one that stays, are two; one for one is one (X)."""
    twice = _orjoin_search.Rule(uses=((0, 1, 1),), gives=((1, 2),))

    assert {"a": "", "b": "b"} == company([1, 0], twice)
    assert {"a": "b", "b": "ab"} == company([1, 1], move(0, to=(1,)))
    assert {"a": "", "b": ""} == company([1, 0], move(0, to=(1,)), move(1, to=(0,)))


def test_what_is_only_needed_stays() -> None:
    """What a transition reads, or needs to be so, keeps company with what it gives; what it ends or empties does not (X)."""
    reading = _orjoin_search.Rule(uses=((0, 1, 0),), gives=((1, 1),))
    emptying = move(0, to=(1,), edits=((2, _orjoin_search.ZERO, 1),))
    capping = move(0, to=(1,), edits=((2, _orjoin_search.CAP, 1),))

    assert {"a": "b", "b": "ab"} == company([1, 0], reading)
    assert {"a": "b", "b": "ab"} == company([1, 0], move(before=(0,), to=(1,)))
    assert {"a": "", "b": ""} == company([1, 0], _orjoin_search.Rule(before=(0,), breaks=(0,), after=(1,)))
    assert {"a": "c", "b": "", "c": "a"} == company([1, 0, 1], emptying)
    assert {"a": "c", "b": "c", "c": "ab"} == company([1, 0, 1], capping)


def test_some_of_many_must_hold_beside_the_premises() -> None:
    """Of what a transition needs some of, enough must be able to hold together with each of its premises (X)."""
    choice = [move(0, to=(1,)), move(0, to=(2,))]

    def partial(least: int) -> _orjoin_search.Rule:
        return _orjoin_search.Rule(uses=((1, 1, 1),), least=least, among=((2, 1, 1), (3, 1, 1)), gives=((4, 1),))

    assert "e" in company([1, 0, 0, 1, 0], *choice, partial(1))
    assert "e" not in company([1, 0, 0, 1, 0], *choice, partial(2))
    assert "e" in company([2, 0, 0, 1, 0], *choice, partial(2))


def test_exclusions_are_a_fixpoint() -> None:
    """New company is passed on along chains and round loops until nothing is new (X)."""
    chain = [move(n, to=(n + 1,)) for n in range(4)]

    assert {"a": "f", "b": "f", "c": "f", "d": "f", "e": "f", "f": "abcde"} == company([1, 0, 0, 0, 0, 1], *chain)
    late = [move(0, to=(1,)), move(1, to=(2,)), move(2, to=(0,)), move(3, to=(4,)), move(4, 2, to=(5, 2))]
    assert {"a": "def", "b": "def", "c": "def", "d": "abc", "e": "abc", "f": "abc"} == company(
        [1, 0, 0, 1, 0, 0], *late
    )


def test_exclusions_beyond_the_budget_are_not_used() -> None:
    """Exclusions that are not all known would exclude too much: the search says that the budget was not enough (X)."""
    search = _orjoin_search.Backward(_orjoin_search.Monotone(2, [move(0, to=(1,))], 1), [1, 0], 0)
    search._close()
    search._work = 1

    assert False is search._exclude()


def test_what_is_read_may_be_one_of_the_many() -> None:
    """A transition that reads one of those of which it needs some may fire (X)."""
    rule = _orjoin_search.Rule(uses=((1, 1, 0),), least=1, among=((1, 1, 1),), gives=((2, 1),))

    assert "c" in company([0, 1, 0], rule)


def test_what_a_join_has_seen_survives_when_its_input_is_emptied() -> None:
    """Asked for one of what it has seen, the step back over the emptying asks for the weight of the arc, no more."""
    rule = _orjoin_search.Rule(edits=((0, _orjoin_search.CAP, 2),), gives=((1, 1),))
    system = _orjoin_search.Monotone(2, [rule], 2)
    search = _orjoin_search.Backward(system, [0, 0], 10)

    assert [system.pack([(0, 2)])] == list(search._step_back(system.packed[0], system.pack([(0, 1), (1, 1)])))


# --- the closure ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", ["m x x1 z", "m b x z", "m b x x1 z"])
def test_what_can_come_in_two_ways_is_met_once(tokens: str) -> None:
    """A condition that is marked, or that several tasks can mark, is one premise of a partial join that reads it."""
    merge = net(
        A="x -> b",
        B="x1 -> b",
        Z="z -> z1",
        Y="z1 -> z2",
        C="z2 -> c",
        P={"flow": "c d -> q", "join": 1, "reads": "b"},
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, tokens) == WAITING


# --- the translation --------------------------------------------------------------------------------------------------


def test_what_a_fired_join_has_seen_is_not_there_to_be_read() -> None:
    """A task that reads an input of a partial join finds what lies there, not what the join has seen of it."""
    merge = net(
        A={"flow": "a -> q", "reads": "c"}, P={"flow": "c d -> p", "join": 1}, J={"flow": "m q -> o", "join": "or"}
    )

    assert verdict(merge, "m a", seen={"P": "c"}) == ENABLED
    assert verdict(merge, "m a c", seen={"P": "c"}) == WAITING


def test_what_a_start_aborts_may_run_again_at_the_completion() -> None:
    """A cancelling partial join aborts tasks when it starts, and not once more when it completes."""
    merge = net(
        T={"flow": "a b -> x", "join": 1, "join_cancels": "U", "cancels": "u1"},
        U="u -> u1",
        Q="x u1 -> q",
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, "m", running="T U") == WAITING


def test_a_completion_ends_no_other_task() -> None:
    """A task that resets a partial join when it starts is idle after its own completion, not after anyone's."""
    merge = net(
        P={"flow": "a b -> p", "join": 1},
        T={"flow": "t s -> x", "join": 1, "join_cancels": "P", "cancels": "w"},
        K="k -> a",
        Q="p w -> q",
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, "m t k w", running="T", seen={"P": "a"}) == ENABLED
    assert verdict(merge, "m t k w", seen={"P": "a"}) == WAITING


# --- the concrete search ----------------------------------------------------------------------------------------------


def steps(game: Game, join: int) -> set[_orjoin_search.State]:
    """What the concrete search takes for the next states, when it plays the whole net."""
    forward = Forward(game.tables, join, set(range(len(game.tokens))), set(range(len(game.status))))
    return set(forward._successors(game.freeze()))


def rules(game: Game, join: int) -> set[_orjoin_search.State]:
    """What the rules of the token game make of the state, but for completions that leave a task draining (D)."""
    return {
        later.freeze()
        for later in successors(game, join)
        if (BUSY, DRAINING) not in zip(game.status, later.status, strict=True)
    }


def disagreements(of: Net, tokens: str, **state: Any) -> list[_orjoin_search.State]:
    """Walk through all that can be reached, at most 2,000 states, and list those with other steps than the rules'."""
    join = of.tasks.index("J")
    first = of.state(tokens, **state)
    known, queue, found = {first.freeze()}, [first], []
    for game in queue:
        if steps(game, join) != rules(game, join):
            found.append(game.freeze())
        for later in successors(game, join):
            if later.freeze() not in known and len(known) < 2_000:
                known.add(later.freeze())
                queue.append(later)
    return found


@pytest.mark.parametrize("split", ["and", "xor", "or"])
def test_steps_of_splits(split: str) -> None:
    """In the concrete search an AND-split puts on all its outputs, an XOR-split on one, an OR-split on some."""
    merge = net(A={"flow": "a -> b c*2 d", "split": split}, J={"flow": "b c -> o", "join": "or"})

    assert [] == disagreements(merge, "a")


@pytest.mark.parametrize("join", ["and", "xor", "or"])
def test_steps_of_joins(join: str) -> None:
    """In the concrete search an AND-join takes from all its inputs, an XOR-join and another OR-join from one."""
    merge = net(A={"flow": "a b*2 -> c", "join": join, "reads": "r"}, R="c -> r", J={"flow": "c r -> o", "join": "or"})

    assert [] == disagreements(merge, "a b*3 r")
    assert [] == disagreements(merge, "a*2 b*2")
    assert [] == disagreements(merge, "a b r")


def test_steps_of_draining_tasks() -> None:
    """In the concrete search a draining task may become idle at any time, and only then start again."""
    merge = net(
        A={"flow": "a -> b", "continues": True},
        P={"flow": "b c -> d", "join": 1, "continues": True},
        J={"flow": "b d -> o", "join": "or"},
    )

    assert [] == disagreements(merge, "a", draining="A P", seen={"P": "c"})
    assert [] == disagreements(merge, "a*2 c", running="A")


@pytest.mark.parametrize("required", [1, 2, 3])
def test_steps_of_a_round(required: int) -> None:
    """In the concrete search a partial join swallows what comes late, by weight, and starts anew when all has come."""
    merge = net(
        X="x -> a",
        Y="y -> b b",
        Z="z -> c",
        P={"flow": "a b*2 c -> d", "join": required},
        J={"flow": "d e -> o", "join": "or"},
    )

    assert [] == disagreements(merge, "x*2 y*2 z*2")
    assert [] == disagreements(merge, "x y z", running="P", seen={"P": "a c"})


def test_steps_of_joins_that_share_an_input() -> None:
    """In the concrete search two partial joins that wait for the same condition swallow one token each."""
    merge = net(
        A="x -> c*2",
        P={"flow": "c d -> q", "join": 1},
        R={"flow": "c e -> r", "join": 1},
        J={"flow": "q r -> o", "join": "or"},
    )

    assert [] == disagreements(merge, "x*2 d e", seen={"P": "d", "R": "e"})


def test_steps_of_cancellations() -> None:
    """In the concrete search a completion empties conditions, ends tasks and resets rounds before it puts."""
    merge = net(
        A={"flow": "a -> b", "cancels": "b c B P A"},
        B={"flow": "b -> c", "continues": True},
        P={"flow": "c d -> e", "join": 1},
        J={"flow": "c e -> o", "join": "or"},
    )

    assert [] == disagreements(merge, "a b*2 d", running="A B", seen={"P": "c"})
    assert [] == disagreements(merge, "a*2 c", draining="B", running="A", seen={"P": "d"})


def test_steps_of_cancelling_joins() -> None:
    """In the concrete search a cancelling partial join empties, ends and resets when it starts, and remembers nothing."""
    merge = net(
        D={"flow": "a b -> c", "join": 1, "join_cancels": "c B P", "cancels": "e"},
        B="b -> c e",
        P={"flow": "c d -> e", "join": 1},
        J={"flow": "c e -> o", "join": "or"},
    )

    assert [] == disagreements(merge, "a b*2", running="B P", seen={"P": "d"})


def test_steps_of_detached_tasks() -> None:
    """In the concrete search a detached task passes control in the step that starts it."""
    merge = net(
        A={"flow": "a b -> c d", "join": "xor", "split": "or", "detached": True, "cancels": "d B"},
        B={"flow": "c -> b", "detached": True, "reads": "d"},
        P={"flow": "c d -> e", "join": 1, "detached": True},
        J={"flow": "d e -> o", "join": "or"},
    )

    assert [] == disagreements(merge, "a*2 b")


def test_steps_in_random_states() -> None:
    """In the concrete search the steps from 400 random states of small nets are those of the rules."""
    rng = random.Random(11)
    for _ in range(400):
        tables, join = random_tables(rng, features=0.4, partial=0.4)
        game = random_game(rng, tables, join)

        assert rules(game, join) == steps(game, join)


@pytest.mark.parametrize(
    ("split", "expected"),
    [("and", ["b c"]), ("xor", ["", "b", "c"]), ("or", ["", "b", "c", "b c"])],
)
def test_what_is_put_outside_the_part_that_is_played(split: str, expected: list[str]) -> None:
    """Where a split can choose an output outside, it may put nothing inside; an AND-split puts all that is inside."""
    merge = net(A={"flow": "a -> b c d", "split": split}, J={"flow": "b c -> o", "join": "or"})
    inside = {merge.conditions.index(name) for name in "abc"}
    forward = Forward(merge.tables, merge.tasks.index("J"), inside, {0, 1})

    found = [" ".join(merge.conditions[condition] for condition, _ in given) for given in forward._choices(0)]

    assert expected == found
