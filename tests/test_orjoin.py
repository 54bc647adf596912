"""OR-join enablement: named cases, and random nets against brute force (`tests.orjoin_oracle`)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knhk import _orjoin, _orjoin_search
from knhk._orjoin import ENABLED, UNDECIDED, WAITING, OrJoinAnalysis
from knhk._tables import AND, OR, PARTIAL, XOR, Tables, TaskTable, build_tables
from knhk.errors import InternalError
from tests.orjoin_nets import Net, net, verdict
from tests.orjoin_oracle import BUSY, DRAINING, SEARCHES, Game, compare, oracle, random_game, random_tables

DECISIONS = Path(__file__).parent / "data" / "orjoin_decisions.json"

# --- rule 2 and WCP-7, 37, 38 -----------------------------------------------------------------------------------------


def test_no_input_marked() -> None:
    """A join without a marked input waits, whatever may come."""
    merge = net(A="i -> a b", J={"flow": "a b -> o", "join": "or"})

    assert verdict(merge, "i") == WAITING
    assert verdict(merge, "") == WAITING


def test_all_inputs_marked() -> None:
    """A join with all inputs marked is enabled, and weights count."""
    merge = net(A="i -> a b", J={"flow": "a b*2 -> o", "join": "or"})

    assert verdict(merge, "a b*2") == ENABLED
    assert verdict(merge, "a b i") == WAITING
    assert verdict(merge, "a b") == ENABLED


@pytest.mark.parametrize("chosen", ["x", "y", "z", "x y", "x z", "y z", "x y z"])
def test_structured_merge(chosen: str) -> None:
    """The merge after a multi-choice waits for the branches that were activated, and only those (WCP-7)."""
    merge = net(
        S={"flow": "i -> x y z", "split": "or"},
        X="x -> x1",
        Y="y -> y1",
        Z="z -> z1",
        J={"flow": "x1 y1 z1 -> o", "join": "or"},
    )
    first, *others = chosen.split()

    assert verdict(merge, " ".join([first + "1", *others])) == (WAITING if others else ENABLED)
    assert verdict(merge, first + "1", running=" ".join(each.upper() for each in others)) == (
        WAITING if others else ENABLED
    )
    assert verdict(merge, " ".join(each + "1" for each in chosen.split())) == ENABLED


def test_loop_upstream() -> None:
    """The merge waits for a token that goes round a loop, as it may still leave it (WCP-38)."""
    merge = net(
        A={"flow": "a -> b", "split": "xor"},
        B={"flow": "b -> a c", "split": "xor"},
        J={"flow": "c d -> o", "join": "or"},
    )

    assert verdict(merge, "a d") == WAITING
    assert verdict(merge, "b d") == WAITING
    assert verdict(merge, "d") == ENABLED


def test_loop_through_the_join() -> None:
    """The merge does not wait for what could only come by way of itself; its own completion may still bring it."""
    merge = net(J={"flow": "a b -> c", "join": "or"}, C={"flow": "c -> o b", "split": "xor"})

    assert verdict(merge, "a") == ENABLED
    assert verdict(merge, "a", running="J") == WAITING


def test_cancelled_branch() -> None:
    """The merge does not wait for work that was cancelled."""
    merge = net(
        A="a -> a1", B="b -> b1", C={"flow": "c -> o", "cancels": "b B"}, J={"flow": "a1 b1 -> o", "join": "or"}
    )

    assert verdict(merge, "a1 b c") == WAITING
    assert verdict(merge, "a1 c", running="B") == WAITING
    assert verdict(merge, "a1") == ENABLED


def test_vicious_circle() -> None:
    """Of two merges in each other's past both wait, since each takes the other for an XOR-join."""
    circle = net(
        J={"flow": "a y -> x1", "join": "or"},
        X={"flow": "x1 -> x o", "split": "and"},
        K={"flow": "b x -> y1", "join": "or"},
        Y={"flow": "y1 -> y o", "split": "and"},
    )

    assert verdict(circle, "a b") == WAITING
    assert verdict(circle, "a b", join="K") == WAITING
    assert verdict(circle, "a") == ENABLED


def test_deadlocked_and_join_upstream() -> None:
    """The merge does not wait for an AND-join that lacks a token for good."""
    merge = net(A="a -> a1", B="b -> b1", C="a1 b1 -> c", J={"flow": "c d -> o", "join": "or"})

    assert verdict(merge, "a d") == ENABLED
    assert verdict(merge, "a b d") == WAITING


def test_exclusive_branches_into_an_and_join() -> None:
    """The merge sees that an AND-join of two branches of one choice can never fire."""
    merge = net(S={"flow": "s -> a b", "split": "xor"}, C="a b -> c", J={"flow": "c d -> o", "join": "or"})

    assert verdict(merge, "s d") == ENABLED
    assert verdict(merge, "s*2 d") == WAITING


def test_stealing() -> None:
    """The merge does not wait for a token that could only come by taking one of its own."""
    merge = net(T="a t -> b", J={"flow": "a b -> o", "join": "or"})

    assert verdict(merge, "a t") == ENABLED
    assert verdict(merge, "a*2 t") == WAITING


def test_reset_on_the_way() -> None:
    """The merge does not wait for a token on whose way its own are lost, unless they can come again."""
    lossy = {"flow": "t -> b", "cancels": "a"}
    assert verdict(net(T=lossy, J={"flow": "a b -> o", "join": "or"}), "a t") == ENABLED
    assert verdict(net(T=lossy, A="i -> a", J={"flow": "a b -> o", "join": "or"}), "a t i") == WAITING


def test_reset_of_own_output() -> None:
    """A task that empties a condition and puts a token there owes that token to nobody (YAWL's search gets this wrong)."""
    merge = net(T={"flow": "t -> a b", "cancels": "a"}, J={"flow": "a b -> o", "join": "or"})

    assert verdict(merge, "a t") == WAITING


def test_cancelling_task_between_start_and_completion() -> None:
    """A running task keeps its tokens out of reach of a cancellation of conditions."""
    merge = net(T="t -> u", Z={"flow": "z -> y", "cancels": "t u"}, Q="u y -> q", J={"flow": "m q -> o", "join": "or"})

    assert verdict(merge, "m t z") == WAITING
    assert verdict(merge, "m u z") == ENABLED
    assert verdict(merge, "m z", running="T") == WAITING


def test_started_once_at_a_time() -> None:
    """A task is started once at a time, also in an unsafe net: only one token survives inside it (YAWL counts two)."""
    unsafe = net(
        T="t -> u", Z={"flow": "z -> y", "cancels": "t u"}, Q="u*2 y -> q", J={"flow": "m q -> o", "join": "or"}
    )

    assert verdict(unsafe, "m t*3 z") == ENABLED
    assert verdict(unsafe, "m t*3 z", running="T") == ENABLED


def test_completion_that_aborts() -> None:
    """A completion that aborts another task is not moved before that one's."""
    merge = net(
        T={"flow": "t -> w", "cancels": "X"},
        X="x -> y",
        Z={"flow": "z -> v", "cancels": "t y"},
        Q="v w y -> q",
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, "m t z", running="X") == WAITING
    assert verdict(merge, "m z t") == ENABLED


def test_reading_is_not_moved() -> None:
    """A start that reads is not moved behind the loss of what it reads."""
    merge = net(
        T={"flow": "t -> w", "reads": "r"},
        Z={"flow": "z r -> v", "cancels": "w"},
        Q="v w -> q",
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, "m t z r") == WAITING
    assert verdict(merge, "m t z") == ENABLED


def test_reading() -> None:
    """A task needs a token on what it reads, and leaves it there."""
    merge = net(A={"flow": "a -> q", "reads": "r a"}, R="x -> r", J={"flow": "m q -> o", "join": "or"})

    assert verdict(merge, "m a") == ENABLED
    assert verdict(merge, "m a r") == WAITING
    assert verdict(merge, "m a x") == WAITING


def test_weights() -> None:
    """Arc weights count, in tasks and in the join itself."""
    merge = net(A="a*3 -> q", B="b -> a*2", J={"flow": "m*2 q*2 -> o", "join": "or"})

    assert verdict(merge, "m*2 q a b") == WAITING
    assert verdict(merge, "m*2 q a*2") == ENABLED
    assert verdict(merge, "m*2 a*5") == ENABLED
    assert verdict(merge, "m*2 a*6") == WAITING


def test_unbounded_net() -> None:
    """Nets with endlessly many states are decided too."""
    merge = net(
        A="a -> a b", C={"flow": "b*9 c -> q", "cancels": "m"}, D="b*9 d -> q", J={"flow": "m q -> o", "join": "or"}
    )

    assert verdict(merge, "m a c") == ENABLED
    assert verdict(merge, "m a d") == WAITING


def test_other_or_joins_and_xor_joins() -> None:
    """Other OR-joins and XOR-joins start from any marked input, not the first one."""
    for kind in ("or", "xor"):
        merge = net(T={"flow": "m a -> q", "join": kind}, J={"flow": "m q -> o", "join": "or"})
        assert verdict(merge, "m a") == WAITING
        assert verdict(merge, "m") == ENABLED


def test_draining_and_detached() -> None:
    """A draining task brings nothing but can be started again; a detached one passes control when it starts."""
    merge = net(
        A={"flow": "a -> q", "continues": True},
        B={"flow": "b c -> q", "detached": True},
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, "m", draining="A") == ENABLED
    assert verdict(merge, "m", running="A") == WAITING
    assert verdict(merge, "m a", draining="A") == WAITING
    assert verdict(merge, "m b c") == WAITING
    assert verdict(merge, "m b") == ENABLED


def test_wide_choices() -> None:
    """A task with many ways in and out is searched in two halves, with the same answer."""
    ways = " ".join(f"x{n}" for n in range(9))
    gone = " ".join(f"y{n}" for n in range(8))
    merge = net(
        W={"flow": f"{ways} -> q {gone}", "join": "xor", "split": "xor", "reads": "r"},
        J={"flow": "m q -> o", "join": "or"},
    )
    assert verdict(merge, "m r x3") == WAITING
    assert verdict(merge, "m x3") == ENABLED


# --- partial joins (P) ------------------------------------------------------------------------------------------------


def test_discriminator_upstream() -> None:
    """A merge waits for a discriminator that can still fire, not for one that only has stragglers to swallow."""
    merge = net(A="x -> a", P={"flow": "a b -> q", "join": 1}, J={"flow": "m q -> o", "join": "or"})

    assert verdict(merge, "m x") == WAITING
    assert verdict(merge, "m x", seen={"P": "b"}) == ENABLED
    assert verdict(merge, "m x*2", seen={"P": "b"}) == WAITING
    assert verdict(merge, "m x*2", seen={"P": "a"}) == ENABLED
    assert verdict(merge, "m x b*2", seen={"P": "b"}) == WAITING


def test_swallowed_token() -> None:
    """A merge does not wait for a token that a partial join will swallow on its way."""
    merge = net(
        A="x -> c", B="c -> q", P={"flow": "c d -> o", "join": 1}, D="y -> d", J={"flow": "m q -> o", "join": "or"}
    )

    assert verdict(merge, "m x") == WAITING
    assert verdict(merge, "m x", seen={"P": "d"}) == ENABLED
    assert verdict(merge, "m c", seen={"P": "c"}) == WAITING
    assert verdict(merge, "m x*2", seen={"P": "d"}) == WAITING
    assert verdict(merge, "m x y*2 d", seen={"P": "d"}) == ENABLED


def test_join_on_inputs_of_a_partial_join() -> None:
    """An input of the merge that also feeds a partial join may lose its token to it."""
    merge = net(A="x -> a", P={"flow": "a b -> o", "join": 1}, B="y -> b", J={"flow": "a c -> o", "join": "or"})

    assert verdict(merge, "c x") == WAITING
    assert verdict(merge, "c x", seen={"P": "b"}) == ENABLED
    assert verdict(merge, "c x y", seen={"P": "b"}) == ENABLED
    assert verdict(merge, "c x*2", seen={"P": "b"}) == WAITING


def test_task_that_shares_an_input_with_a_partial_join() -> None:
    """A start is not moved behind the firing of a partial join that would take its token."""
    merge = net(
        T="c -> w",
        P={"flow": "c d -> z", "join": 1},
        Z={"flow": "z -> v", "cancels": "w"},
        Q="v w -> q",
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, "m c d") == WAITING
    assert verdict(merge, "m d") == ENABLED


def test_cancelled_memory() -> None:
    """A completion is not moved before a reset of the partial join that would swallow what it puts, and forget it."""
    merge = net(
        T="t -> c",
        U={"flow": "u -> v", "cancels": "P t"},
        P={"flow": "c d e -> o", "join": 1},
        Q="c v -> q",
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, "m t u", seen={"P": "d"}) == WAITING
    assert verdict(merge, "m c u", seen={"P": "c d"}) == WAITING
    assert verdict(merge, "m u", seen={"P": "c d"}) == ENABLED


def test_reset_by_a_task_from_which_no_path_leads_here() -> None:
    """A task that only resets a partial join upstream may wake it up."""
    merge = net(
        P={"flow": "a b -> q", "join": 1}, U={"flow": "u -> v", "cancels": "P"}, J={"flow": "m q -> o", "join": "or"}
    )

    assert verdict(merge, "m a u", seen={"P": "a"}) == WAITING
    assert verdict(merge, "m a", seen={"P": "a"}) == ENABLED


def test_reset_of_itself() -> None:
    """A partial join in its own cancellation set forgets its round when it completes."""
    merge = net(P={"flow": "a b -> q", "join": 1, "cancels": "P"}, J={"flow": "m q*2 -> o", "join": "or"})

    assert verdict(merge, "m a*2") == WAITING
    assert verdict(merge, "m a*2", seen={"P": "a"}) == ENABLED
    assert verdict(merge, "m a*2", seen={"P": "a"}, running="P") == WAITING


def test_emptied_input_of_a_fired_join() -> None:
    """What a partial join has seen is not lost with the tokens on its inputs."""
    merge = net(
        P={"flow": "a b -> q", "join": 1}, Z={"flow": "z -> b", "cancels": "a"}, J={"flow": "m q -> o", "join": "or"}
    )

    assert verdict(merge, "m z a*2", seen={"P": "a"}) == ENABLED
    assert verdict(merge, "m z*2 a", seen={"P": "a"}) == WAITING
    assert verdict(merge, "m z", seen={"P": "a"}) == ENABLED


def test_start_that_wakes_a_partial_join() -> None:
    """A running task cannot be started again before it has completed, even if its start would help."""
    merge = net(
        P={"flow": "a b -> q", "join": 1},
        T={"flow": "h k -> v", "join": 1, "join_cancels": "P", "cancels": "m"},
        U={"flow": "u -> v", "cancels": "T"},
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, "m a h", seen={"P": "a"}) == WAITING
    assert verdict(merge, "m a h", seen={"P": "a"}, running="T") == ENABLED
    assert verdict(merge, "m a h u", seen={"P": "a"}, running="T") == WAITING


def test_cancelling_partial_join() -> None:
    """A cancelling partial join needs its number of inputs, and empties its region when it starts."""
    merge = net(
        P={"flow": "a b c -> q", "join": 2, "join_cancels": "n A"},
        A="x -> a",
        J={"flow": "m n q -> o", "join": "or"},
    )

    assert verdict(merge, "m a b") == WAITING
    assert verdict(merge, "m a*3") == ENABLED
    assert verdict(merge, "m n a b") == ENABLED
    assert verdict(merge, "m b", running="A") == WAITING


def test_escort_through_a_cancelling_discriminator() -> None:
    """A single token may pass a cancelling discriminator that spares the inputs of the merge."""
    merge = net(
        P={"flow": "a b -> q", "join": 1, "join_cancels": ""},
        R={"flow": "c d -> q", "join": 1, "join_cancels": "m"},
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, "m a") == WAITING
    assert verdict(merge, "m c") == ENABLED


def test_heavy_partial_join() -> None:
    """A partial join with weights is carried exactly while nobody else looks at its inputs."""
    merge = net(A="x -> a", P={"flow": "a*2 b -> q", "join": 1}, J={"flow": "m q -> o", "join": "or"})

    assert verdict(merge, "m x") == ENABLED
    assert verdict(merge, "m x*2") == WAITING
    assert verdict(merge, "m x*2", seen={"P": "b"}) == ENABLED
    assert verdict(merge, "m x*4", seen={"P": "b"}) == WAITING


def test_heavy_partial_join_that_is_reset() -> None:
    """What lies on an input of a partial join, too little to be seen, is not forgotten with its round."""
    merge = net(
        A="x -> a",
        P={"flow": "a*2 b -> q", "join": 1},
        U={"flow": "u -> v", "cancels": "P"},
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, "m x a u", seen={"P": "b"}) == WAITING
    assert verdict(merge, "m a u", seen={"P": "b"}) == ENABLED
    assert verdict(merge, "m x a", seen={"P": "b"}) == ENABLED


def test_two_partial_joins_on_one_condition() -> None:
    """Where two partial joins swallow from one condition the concrete states are searched, if the relaxation leaves it open."""
    merge = net(
        A="x -> c",
        P={"flow": "c d -> q", "join": 1},
        R={"flow": "c e -> r", "join": 1},
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, "m x", seen={"P": "d"}) == ENABLED
    assert verdict(merge, "m x", seen={"P": "d", "R": "e"}) == ENABLED
    assert verdict(merge, "m x") == WAITING
    assert verdict(merge, "m x", seen={"R": "e"}) == ENABLED
    assert verdict(merge, "m x*2", seen={"R": "e"}) == WAITING
    assert verdict(merge, "m") == ENABLED


def test_forward_search_leaves_out_what_does_not_matter() -> None:
    """Work elsewhere does not multiply the states of the forward search; work that interferes is part of it."""
    elsewhere = {
        f"T{n}{k}": {"flow": f"c{n}{k} -> c{n}{k + 1} d{n}", "split": "or"} for n in range(8) for k in range(3)
    }
    merge = net(
        A={"flow": "x -> c c00", "split": "xor"},
        P={"flow": "c d -> q", "join": 1},
        R={"flow": "c e -> r", "join": 1},
        S={"flow": "s -> r", "cancels": "R"},
        J={"flow": "m q -> o", "join": "or"},
        **elsewhere,
    )
    tokens = "m x " + " ".join(f"c{n}0" for n in range(8))

    assert verdict(merge, tokens, seen={"R": "e"}) == ENABLED
    assert verdict(merge, tokens + " s", seen={"R": "e"}) == WAITING


def test_forward_search_knows_all_rules() -> None:
    """The search over concrete states knows cancellation, choices, reads, draining and detached tasks."""
    merge = net(
        A={"flow": "x -> c y", "split": "xor", "cancels": "z B"},
        B={"flow": "y z -> c w", "split": "or", "continues": True},
        C={"flow": "w v -> c c1", "detached": True, "join": "xor", "reads": "y"},
        D={"flow": "w w1 -> c", "join": 2, "join_cancels": "B z"},
        P={"flow": "c d -> q", "join": 1},
        R={"flow": "c e -> r", "join": 1},
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, "m x", seen={"R": "e", "P": "c"}) == ENABLED
    assert verdict(merge, "m y z x w1", seen={"R": "e", "P": "c"}) == ENABLED
    assert verdict(merge, "m y v*2 w1", draining="B", seen={"R": "e"}) == WAITING
    assert verdict(merge, "m y v d", running="B", seen={"R": "e"}) == WAITING
    assert verdict(merge, "m y z*3 x d", seen={"R": "e c"}, budget=5) == UNDECIDED


def test_many_partial_joins_met_by_one_task() -> None:
    """A task that meets many partial joins does not multiply the search."""
    joins = {f"P{n}": {"flow": f"a{n} b{n} -> q", "join": 1} for n in range(7)}
    merge = net(U={"flow": "u -> v", "cancels": " ".join(joins)}, J={"flow": "m q -> o", "join": "or"}, **joins)

    assert verdict(merge, "m a3 u", seen={"P3": "a3"}) == WAITING
    assert verdict(merge, "m a3", seen={"P3": "a3"}) == ENABLED


# --- the budget, the memory, the contract -----------------------------------------------------------------------------


def and_fed(branches: int, ways: int, tokens: int) -> tuple[Net, str]:
    """An AND-join of chains of three tasks, `ways` of which share `tokens` tokens."""
    chains = {f"T{n}{k}": f"c{n}{k} -> c{n}{k + 1}" for n in range(branches) for k in range(3)}
    heads = " ".join(f"c{n}0" for n in range(ways))
    ends = " ".join(f"c{n}3" for n in range(branches))
    merge = net(
        S={"flow": f"s -> {heads}", "split": "xor"}, A=f"{ends} -> q", J={"flow": "m q -> o", "join": "or"}, **chains
    )
    return merge, f"m s*{tokens} " + " ".join(f"c{n}0" for n in range(ways, branches))


def test_exponential_case_meets_the_budget() -> None:
    """An AND-join of branches that exclude each other only three at a time is beyond the budget: undecided, not guessed."""
    merge, tokens = and_fed(8, 3, 2)

    assert verdict(merge, tokens) == UNDECIDED


def test_budget_decides_what_is_decided() -> None:
    """The same question is decided or not by the budget alone."""
    merge, tokens = and_fed(4, 3, 2)

    assert verdict(merge, tokens, budget=1_000) == UNDECIDED
    assert verdict(merge, tokens) == ENABLED


def test_pairwise_exclusion_is_cheap() -> None:
    """An AND-join of many branches two of which exclude each other is decided within the budget."""
    merge, tokens = and_fed(12, 2, 1)

    assert verdict(merge, tokens) == ENABLED


def test_wide_join_that_can_fire_is_found_at_once() -> None:
    """A search that can succeed goes straight to its goal."""
    merge, tokens = and_fed(16, 2, 2)

    assert verdict(merge, tokens, budget=200) == WAITING


def test_budget_ends_the_exclusions() -> None:
    """The budget also holds while the exclusions are computed."""
    merge, tokens = and_fed(6, 3, 2)

    assert verdict(merge, tokens, budget=420) == UNDECIDED


def test_counts_beyond_the_fields() -> None:
    """A need for more tokens than a packed count can hold leaves the answer open."""
    rules = [_orjoin_search.Rule(uses=((0, 600, 600),), gives=((1, 1),))]
    system = _orjoin_search.Monotone(2, rules, 1)

    def run(wanted: int) -> int:
        return _orjoin_search.Backward(system, [1500, 0], 100).run([[(1, wanted)]])

    assert run(1) == _orjoin_search.COVERED
    assert run(2) == _orjoin_search.OUT_OF_BUDGET


def test_heavy_weights_meet_the_budget() -> None:
    """Needs that pile up one by one are counted as work, too."""
    merge = net(X="x -> a x", A="a*512 -> b", B="b*512 -> q", J={"flow": "m q -> o", "join": "or"})

    assert verdict(merge, "m x") == UNDECIDED
    assert verdict(merge, "m x b*511 a*500") == WAITING


def test_target_covered_at_once() -> None:
    """A search whose target is there already says so."""
    search = _orjoin_search.Backward(_orjoin_search.Monotone(2, [], 1), [1, 2], 10)

    assert search.run([[(0, 1)], [(0, 2)]]) == _orjoin_search.COVERED


def test_memory_across_markings() -> None:
    """Answers are remembered by all that matters of the state, and by no less."""
    merge = net(
        A="x -> a",
        P={"flow": "a b -> q", "join": 1},
        T={"flow": "t -> t1", "cancels": "A"},
        J={"flow": "m q -> o", "join": "or"},
    )
    analysis = OrJoinAnalysis(merge.tables)
    states = [
        merge.state("m x"),
        merge.state("m x", seen={"P": "b"}),
        merge.state("m x t", seen={"P": "b"}),
        merge.state("m t", seen={"P": "a"}, running="A"),
        merge.state("m b t", seen={"P": "b"}, running="A"),
    ]
    expected = [WAITING, ENABLED, ENABLED, ENABLED, WAITING]

    number = merge.tasks.index("J")
    for _ in range(2):
        found = [analysis.decide(number, each.tokens, each.status, dict(enumerate(each.seen))) for each in states]
        assert expected == found


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full memory is emptied, and the answers stay the same."""
    monkeypatch.setattr(_orjoin, "_REMEMBERED", 1)
    merge = net(A="x y -> q", J={"flow": "m q -> o", "join": "or"})
    analysis = OrJoinAnalysis(merge.tables)
    states = [merge.state("m x y"), merge.state("m x"), merge.state("m x y")]

    assert [WAITING, ENABLED, WAITING] == [analysis.decide(1, each.tokens, each.status, {}) for each in states]


def test_only_or_joins() -> None:
    """Asking about another kind of join is a bug of the caller."""
    merge = net(A="a b -> q", J={"flow": "m q -> o", "join": "or"})

    with pytest.raises(InternalError, match="has no OR-join"):
        verdict(merge, "a", join="A")


# --- the steps one by one ---------------------------------------------------------------------------------------------


def words(of: Net, bits: int) -> set[str]:
    """The names of the conditions, and of the tasks above them, that these bits stand for."""
    return {name for position, name in enumerate((*of.conditions, *of.tasks)) if bits >> position & 1}


def tiers(of: Net) -> dict[str, tuple[set[str], set[str]]]:
    """By input of J, from where it can be reached, and from where a single token suffices."""
    found = OrJoinAnalysis(of.tables).tiers(of.tasks.index("J"))
    return {of.conditions[arc[0]]: (words(of, upstream), words(of, escorts)) for arc, upstream, escorts in found}


def test_upstream_is_all_from_which_a_path_leads_here() -> None:
    """Every condition and task on a path to the input counts, the join itself too, and nothing behind the join (step 1)."""
    merge = net(
        S="s -> a b",
        B="b -> c d",
        A="a -> c",
        C="c d -> q",
        K="k -> q",
        J={"flow": "m q -> z", "join": "or"},
        M="n -> m",
        Z="z -> q",
        X="c -> o",
    )

    found = tiers(merge)

    assert {"n", "M"} == found["m"][0]
    assert {*"abcdksz", *"SABCKZJ"} == found["q"][0]


def test_escorts_need_one_token_only() -> None:
    """A single token passes no task that needs more, reads, may lose it to a partial join, or touches the join's inputs (step 2)."""
    merge = net(
        I={"flow": "i1 -> q", "cancels": "m"},
        L={"flow": "l1 l2 -> q", "join": 1, "join_cancels": "m"},
        A="a -> q",
        B="b1 b2 -> q",
        C={"flow": "c1 c2 -> q", "join": "xor"},
        D={"flow": "d1 d2 -> q", "join": "or"},
        E={"flow": "e1 e2 -> q", "join": 1, "join_cancels": ""},
        F={"flow": "f1 f2 -> q", "join": 2, "join_cancels": ""},
        G="g*2 -> q",
        H={"flow": "h -> q", "reads": "r"},
        M={"flow": "m n -> q", "join": "xor"},
        P={"flow": "p1 p2 -> a", "join": 1},
        T="t -> p1",
        U="p1 -> q",
        V="v -> a*2",
        W="w -> a",
        J={"flow": "m q -> a", "join": "or"},
    )

    expected = {*"LABCDEFGHMPUVWJ", "a", "c1", "c2", "d1", "d2", "e1", "e2", "n", "v", "w"}
    assert expected == tiers(merge)["q"][1]
    assert set() == tiers(merge)["m"][1]


def test_escorts_bring_the_weight_of_the_input() -> None:
    """One token more is no mark where the arc of the join asks for two; where its inputs feed a partial join none is safe (step 2)."""
    merge = net(A="a -> q", B="b -> q*2", J={"flow": "m q*2 -> o", "join": "or"})
    shared = net(A="a -> q", P={"flow": "m p -> o", "join": 1}, J={"flow": "m q -> o", "join": "or"})

    assert {"b", "B"} == tiers(merge)["q"][1]
    assert set() == tiers(shared)["q"][1]


def test_relevant_is_what_can_help_to_mark_an_input() -> None:
    """What leads to an input matters, and the join itself; what only takes away does not (R)."""
    merge = net(
        A="x -> a",
        B={"flow": "a k -> q", "reads": "r"},
        Z="a -> z",
        J={"flow": "m q -> a", "join": "or"},
    )

    assert {*"xakrmq", *"ABJ"} == words(merge, OrJoinAnalysis(merge.tables).relevant(3))


def test_a_marked_input_is_not_waited_for() -> None:
    """That a further token can come to an input that is marked is no reason to wait."""
    merge = net(A="x -> a", J={"flow": "a b -> o", "join": "or"})

    assert verdict(merge, "a x") == ENABLED


def test_the_join_itself_may_complete_but_not_start() -> None:
    """In the search the join completes when it runs, and is never started."""
    merge = net(J={"flow": "a b -> c", "join": "or"}, C="c k -> b")

    assert verdict(merge, "a k", running="J") == WAITING
    assert verdict(merge, "a*2 k") == ENABLED


def test_the_concrete_search_lets_others_take_away() -> None:
    """A task from which no path leads here may take a token before a partial join swallows it together with the next."""
    tasks = {"K": "c y -> q", "A": "x -> c y", "R": {"flow": "c*2 e -> r", "join": 1}}
    join = {"flow": "m q -> o", "join": "or"}
    alone, taken = net(**tasks, J=join), net(V="v -> w", Z="c w -> z", **tasks, J=join)
    emptied = net(V="v -> w", Z={"flow": "u -> z", "cancels": "c", "reads": "w"}, **tasks, J=join)

    assert verdict(alone, "m c x", seen={"R": "e"}) == ENABLED
    assert verdict(taken, "m c x", seen={"R": "e"}) == ENABLED
    assert verdict(taken, "m c x v", seen={"R": "e"}) == WAITING
    assert verdict(emptied, "m c x u", seen={"R": "e"}) == ENABLED
    assert verdict(emptied, "m c x u v", seen={"R": "e"}) == WAITING


def test_a_detached_task_is_no_shelter() -> None:
    """A detached task passes control when it starts: no token survives a cancellation inside it."""
    merge = net(
        T={"flow": "t -> u", "detached": True},
        Z={"flow": "z -> y", "cancels": "t u"},
        Q="u y -> q",
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, "m t z") == ENABLED


def test_a_partial_join_that_resets_another_one() -> None:
    """A partial join starts whether or not the one that it resets is in the middle of its round."""
    merge = net(
        P={"flow": "a b -> q", "join": 1},
        S={"flow": "c d -> y", "join": 1, "cancels": "P"},
        K="y k -> q",
        J={"flow": "m q -> o", "join": "or"},
    )

    assert verdict(merge, "m c k", seen={"P": "a"}) == WAITING
    assert verdict(merge, "m c k") == WAITING
    assert verdict(merge, "m c", seen={"P": "a"}) == ENABLED
    assert verdict(merge, "m c a", seen={"P": "a"}) == WAITING


def test_two_arcs_to_one_condition_add_up() -> None:
    """A completion puts what all its arcs to a condition say together."""
    merge = net(A="x k -> q q", J={"flow": "m q*2 -> o", "join": "or"})

    assert verdict(merge, "m x k") == WAITING


def test_a_round_that_is_not_mentioned_has_not_begun() -> None:
    """An answer for a partial join without memory is not used for one that has seen its first input."""
    merge = net(A="x -> a", P={"flow": "a b -> q", "join": 1}, J={"flow": "m q -> o", "join": "or"})
    analysis, state, join = OrJoinAnalysis(merge.tables), merge.state("m x"), merge.tasks.index("J")

    found = [analysis.decide(join, state.tokens, state.status, seen) for seen in ({}, {1: 0b01}, {1: 0})]

    assert [WAITING, ENABLED, WAITING] == found


def test_what_no_round_mentions_has_not_come() -> None:
    """A partial join without memory has seen none of its inputs, in either search."""
    both = net(A="x -> b", P={"flow": "a b -> q", "join": 2}, J={"flow": "m q -> o", "join": "or"})
    shared = net(
        A="x -> c",
        P={"flow": "c d -> q", "join": 1},
        R={"flow": "c e -> r", "join": 1},
        J={"flow": "m q -> o", "join": "or"},
    )

    found = []
    for of in (both, shared):
        state = of.state("m x")
        found.append(OrJoinAnalysis(of.tables).decide(of.tasks.index("J"), state.tokens, state.status, {}))

    assert [ENABLED, WAITING] == found


# --- against brute force ----------------------------------------------------------------------------------------------


def decided(game: Game, join: int) -> int:
    return OrJoinAnalysis(game.tables).decide(join, game.tokens, game.status, dict(enumerate(game.seen)))


def searched(game: Game, join: int, searching: Any = _orjoin_search.backward) -> int:
    """Decide by the searches alone, without the structural steps."""
    analysis = OrJoinAnalysis(game.tables, searching=searching)
    view = _orjoin._View(game.tables, analysis._producers, join)
    marked = [(c, weight) for c, weight in view.inputs if game.tokens[c] >= weight]
    suspects = [(c, weight) for c, weight in view.inputs if game.tokens[c] < weight]
    if not marked or not suspects:
        return ENABLED if marked else WAITING
    region = view.explore(game.tables, analysis._producers, searching)
    return analysis._search(region, marked, suspects, game.tokens, game.status, dict(enumerate(game.seen)))


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.randoms(use_true_random=False), st.sampled_from((0.0, 0.2, 0.5)), st.sampled_from((0.0, 0.2, 0.6)))
def test_random_nets(rng: random.Random, features: float, partial: float) -> None:
    """On random small nets the answer is that of brute force, wherever both have one."""
    tables, join = random_tables(rng, features=features, partial=partial)
    game = random_game(rng, tables, join)

    expected = oracle(game, join)

    assert decided(game, join) in ((expected, UNDECIDED) if expected is not None else (ENABLED, WAITING, UNDECIDED))


@pytest.mark.parametrize("seed", range(4))
def test_sweep(seed: int) -> None:
    """On a fixed set of random nets the answer is that of brute force, and hardly ever left open."""
    counts = compare(1_000, seed)

    assert counts["answer 2"] < 0.01 * counts["pairs"]


def decisions() -> list[tuple[Game, int, int]]:
    """Decisions that somebody's small change to the algorithm once got wrong: the state, the join, what brute force says."""
    kept = []
    for each in json.loads(DECISIONS.read_text()):
        table = tuple(TaskTable(**{name: _tupled(value) for name, value in task.items()}) for task in each["tasks"])
        tables = build_tables(
            conditions=tuple(f"c{n}" for n in range(each["conditions"])),
            tasks=tuple(f"t{n}" for n in range(len(table))),
            table=table,
            implicit=each["implicit"],
        )
        kept.append((Game(tables, each["tokens"], each["status"], each["seen"]), each["join"], each["expected"]))
    return kept


def _tupled(value: object) -> object:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("by", ["decided", "searched", "exclusions at once"])
def test_decisions_that_were_once_wrong(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed lines of the algorithm got wrong is decided as brute force decides it, by every way to an answer."""
    if by == "exclusions at once":
        monkeypatch.setattr(_orjoin_search, "_EXCLUDE_AFTER", -1)
        monkeypatch.setattr(_orjoin_search, "_EXCLUDE_AFTER_PER_ATOM", -1)
    decide = decided if by == "decided" else searched

    for game, join, expected in decisions():
        assert expected == decide(game, join)
        assert expected == searched(game, join, SEARCHES[-1])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("change", ["nothing", "exclusions at once", "nothing fused"])
def test_searches_alone(change: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The searches need none of the structural steps, and neither exclusions nor fusion change their answers."""
    if change == "exclusions at once":
        monkeypatch.setattr(_orjoin_search, "_EXCLUDE_AFTER", -1)
        monkeypatch.setattr(_orjoin_search, "_EXCLUDE_AFTER_PER_ATOM", -1)
    if change == "nothing fused":
        monkeypatch.setattr(_orjoin, "_FUSED_VARIANTS", 0)
    rng = random.Random(seed)
    for _ in range(600):
        tables, join = random_tables(rng, features=rng.choice((0.0, 0.2, 0.5)), partial=rng.choice((0.0, 0.3, 0.6)))
        game = random_game(rng, tables, join)
        expected = oracle(game, join)
        answer = searched(game, join)
        assert answer == searched(game, join, SEARCHES[-1])
        assert answer == UNDECIDED or expected in (answer, None)
