"""The compiled search behind the OR-join is the reference: the same answers for the same work, whatever the budget."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from knhk import _hot, _orjoin, _orjoin_search
from knhk._orjoin import ENABLED, UNDECIDED, WAITING, OrJoinAnalysis
from knhk._orjoin_search import COVERED, EXHAUSTED, OUT_OF_BUDGET, Monotone, Rule, backward
from tests.orjoin_nets import net
from tests.orjoin_oracle import SEARCHES, WAYS, random_game, random_tables
from tests.test_orjoin import and_fed

pytestmark = pytest.mark.skipif(not _hot.COMPILED, reason="the compiled search is not built")

compiled: Any = SEARCHES[-1]
BUDGETS = (3, 10, 40, 400, 8_000)
PATIENCE = ((400, 4), (30, 0), (-1, -1))
"""After how much work the exclusions are computed: as it is, soon, and at once."""

Question = tuple[Monotone, list[int], list[list[tuple[int, int]]], list[tuple[int, int]]]
"""A system, what holds, the targets, and what is common to them."""


def impatient(monkeypatch: pytest.MonkeyPatch, patience: tuple[int, int]) -> None:
    """Let searches compute the exclusions after so much work, and so much more for each atom."""
    monkeypatch.setattr(_orjoin_search, "_EXCLUDE_AFTER", patience[0])
    monkeypatch.setattr(_orjoin_search, "_EXCLUDE_AFTER_PER_ATOM", patience[1])


def asked(game: Any, join: int) -> Iterator[Question]:
    """What a decision about the join in this state would ask of the search."""
    analysis = OrJoinAnalysis(game.tables)
    view = analysis._view(join)
    marked = [arc for arc in view.inputs if game.tokens[arc[0]] >= arc[1]]
    suspects = [arc for arc in view.inputs if game.tokens[arc[0]] < arc[1]]
    if marked and suspects:
        translation = view.explore(game.tables, analysis._producers).translation
        have = translation.state(game.tokens, game.status, dict(enumerate(game.seen)))
        yield translation.system, have, list(translation.targets(marked, suspects)), translation.common(marked)


def random_question(rng: random.Random) -> Question:
    """Draw rules of all kinds over token atoms and control atoms, up to 75, and what is asked of them."""
    tokens, heaviest = range(rng.randint(3, rng.choice((6, 12, 70)))), rng.choice((1, 1, 2, 3))
    controls = range(len(tokens), len(tokens) + rng.randint(0, 5))

    def some(atoms: Any, most: int) -> list[int]:
        return rng.sample([*atoms], rng.randint(0, min(most, len(atoms))))

    def weighed(atoms: list[int]) -> list[tuple[int, int]]:
        return [(atom, rng.randint(1, heaviest)) for atom in atoms]

    def uses(atoms: list[int]) -> tuple[tuple[int, int, int], ...]:
        return tuple((a, count + (rng.random() < 0.2), rng.choice((count, count, 0))) for a, count in weighed(atoms))

    rules = []
    for _ in range(rng.randint(3, rng.choice((8, 20, 120)))):
        among, after = uses(some(tokens, 4) if rng.random() < 0.25 else []), some(controls, 1)
        edited = weighed(some(tokens, 3) if rng.random() < 0.25 else [])
        rules.append(
            Rule(
                uses=uses(some(tokens, rng.choice((2, 2, 2, 5)))),
                least=rng.randint(0, len(among)),
                among=among,
                edits=tuple((atom, rng.randint(0, 2), weight) for atom, weight in edited),
                gives=tuple(weighed(some(tokens, 3))),
                before=tuple(some(controls, 2)),
                after=tuple(after),
                breaks=tuple(some({*controls} - {*after}, 2)),
            )
        )
    have = [rng.choice((0, 0, 0, 1, 1, 2)) for _ in tokens] + [rng.randint(0, 1) for _ in controls]
    common = weighed(some(tokens, 3))
    others = {*tokens} - {atom for atom, _ in common}
    targets = [weighed(some(others, 3)) + [(a, 1) for a in some(controls, 2)] for _ in range(rng.randint(1, 4))]
    return Monotone(len(have), rules, heaviest), have, targets, common


def compare(question: Question, counts: Counter[str]) -> None:
    """Ask both with growing budgets until one is enough, and count what they say."""
    system, *rest = question
    reference, search = backward(system), compiled(system)
    for budget in BUDGETS:
        expected = reference(*rest, budget)
        assert expected == search(*rest, budget), f"budget {budget}: {rest}, {system.rules}"
        counts[f"answer {expected[0]}"] += 1
        counts["long"] += expected[1] > 400
        counts["decisions"] += 1
        if expected[1] <= budget:
            return


@pytest.mark.parametrize("patience", PATIENCE)
def test_the_same_for_random_nets(patience: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """On random nets with all features, both searches give the same answer for the same work, with every budget."""
    impatient(monkeypatch, patience)
    rng, counts = random.Random(7), Counter[str]()
    for _ in range(300):
        tables, join = random_tables(rng, features=rng.choice((0.0, 0.2, 0.5)), partial=rng.choice((0.0, 0.3, 0.6)))
        for _ in range(3):
            for question in asked(random_game(rng, tables, join), join):
                compare(question, counts)

    assert counts["decisions"] > 700
    assert min(counts[f"answer {each}"] for each in range(3)) > 100


@pytest.mark.parametrize("patience", PATIENCE)
def test_the_same_for_random_rules(patience: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """On random rules, more of them and stranger than nets have, both searches give the same answer for the same work."""
    impatient(monkeypatch, patience)
    rng, counts = random.Random(11), Counter[str]()
    for _ in range(250):
        compare(random_question(rng), counts)

    assert min(counts[f"answer {each}"] for each in range(3)) > 50
    assert counts["long"] > 0


@pytest.mark.parametrize("shape", [(8, 3, 2), (4, 3, 2), (12, 2, 1), (16, 2, 2), (40, 3, 2)])
def test_the_same_for_long_searches(shape: tuple[int, int, int]) -> None:
    """A search that goes on after a pause and computes exclusions stays the reference's, to the last unit of work."""
    of, tokens = and_fed(*shape)
    counts = Counter[str]()
    for question in asked(of.state(tokens), of.tasks.index("J")):
        compare(question, counts)

    assert counts["decisions"] >= 3


def test_a_long_search_ends_with_its_budget() -> None:
    """A budget of many pauses is used up, and exceeded by no more than the last unit."""
    of, tokens = and_fed(8, 3, 2)
    [(system, *rest)] = asked(of.state(tokens), of.tasks.index("J"))

    assert (OUT_OF_BUDGET, 250_001) == compiled(system)(*rest, 250_000)


def test_many_threads_search_in_one_system() -> None:
    """Searches in one system at the same time do not disturb each other."""
    of, tokens = and_fed(8, 3, 2)
    [(system, *rest)] = asked(of.state(tokens), of.tasks.index("J"))
    search, budgets = compiled(system), [1_000, 20_000, 300, 8_000] * 4
    expected = [search(*rest, budget) for budget in budgets]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda budget: search(*rest, budget), budgets))

    assert expected == found


def test_too_few_of_many_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule of which too little can hold, as the exclusions know, has no predecessors in either search."""
    impatient(monkeypatch, PATIENCE[-1])
    choice = [Rule(uses=((0, 1, 1),), gives=((n, 1),)) for n in (1, 2)]
    both = Rule(uses=((1, 1, 1), (2, 1, 1)), gives=((3, 1),))
    system = Monotone(5, [*choice, both, Rule(least=1, among=((3, 1, 1),), gives=((4, 1),))], 1)

    for have, expected in (([1, 0, 0, 0, 0], EXHAUSTED), ([2, 0, 0, 0, 0], COVERED)):
        answer = backward(system)(have, [[(4, 1)]], [], 100)
        assert answer == compiled(system)(have, [[(4, 1)]], [], 100)
        assert expected == answer[0]


def test_prices_beyond_a_word_are_left_to_the_reference() -> None:
    """Where each step costs twice the one before, for ever, the answer and the work are still the reference's."""
    doubled = [
        rule
        for n in range(0, 210, 3)
        for rule in (
            Rule(uses=((n, 1, 0),), gives=((n + 1, 1),)),
            Rule(uses=((n, 1, 0),), gives=((n + 2, 1),)),
            Rule(uses=((n + 1, 1, 1), (n + 2, 1, 1)), gives=((n + 3, 1),)),
        )
    ]
    system = Monotone(211, doubled, 1)
    have = [1] + [0] * 210
    expected = backward(system)(have, [[(210, 1)]], [], 8_000)

    assert expected == compiled(system)(have, [[(210, 1)]], [], 8_000)
    assert expected[0] == COVERED


@pytest.mark.parametrize("heaviest", [1, 2**27, 2**40])
def test_counts_beyond_a_word_are_left_to_the_reference(heaviest: int) -> None:
    """However heavy the arcs are, both say so when a count is more than an element can ask for, and both know when not."""
    system = Monotone(2, [Rule(uses=((0, 600 * heaviest, 600 * heaviest),), gives=((1, 1),))], heaviest)
    for have, wanted in (([1_500 * heaviest, 0], 1), ([1_500 * heaviest, 0], 2), ([2**80, 0], 2)):
        expected = backward(system)(have, [[(1, wanted)]], [], 100)

        assert expected == compiled(system)(have, [[(1, wanted)]], [], 100)
        assert expected[0] == (COVERED if wanted == 1 else OUT_OF_BUDGET)


def test_too_much_in_common_is_too_much_for_each() -> None:
    """A target is beyond the counts also where what it shares with the others is."""
    system = Monotone(2, [], 1)

    assert (OUT_OF_BUDGET, 1) == backward(system)([5_000, 1], [[(1, 1)]], [(0, 1_024)], 10)
    assert (OUT_OF_BUDGET, 1) == compiled(system)([5_000, 1], [[(1, 1)]], [(0, 1_024)], 10)


@pytest.mark.parametrize(
    ("have", "targets", "common"),
    [([1], [[(0, 1)]], []), ([1, 0], [[(2, 1)]], []), ([1, 0], [], [(-1, 1)]), ([1, 0], [[(0, -1)]], [])],
)
def test_a_question_that_does_not_fit_is_refused(have: Any, targets: Any, common: Any) -> None:
    """A state of another size, and targets that ask for what does not exist, are a ValueError."""
    with pytest.raises(ValueError, match="atom"):
        compiled(Monotone(2, [], 1))(have, targets, common, 10)


# --- the decision -----------------------------------------------------------------------------------------------------


def test_the_same_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """On random nets the compiled decision is the reference's for state after state, with any budget and little memory."""
    monkeypatch.setattr(_orjoin, "_REMEMBERED", 3)
    rng, counts = random.Random(5), Counter[int]()
    for _ in range(300):
        tables, join = random_tables(rng, features=rng.choice((0.0, 0.3)), partial=rng.choice((0.0, 0.0, 0.3)))
        budget = rng.choice((1, 2, 3, 4, 6, 8_000))
        reference, analysis = (OrJoinAnalysis(tables, budget=budget, **way) for way in WAYS)
        analysis.relevant(join)
        for game in [random_game(rng, tables, join) for _ in range(6)] * 2:
            state = game.tokens, game.status, dict(enumerate(game.seen))
            expected = reference.decide(join, *state)

            assert expected == analysis.decide(join, *state)
            decide = analysis._view(join).decide
            counts[expected] += decide is not None
            assert decide is None or len(decide.answers) <= 3
    assert min(counts[each] for each in (ENABLED, WAITING, UNDECIDED)) > 50


def test_states_may_be_any_numbers_in_any_iterable() -> None:
    """A state is read from whatever holds it, and more tokens than any element asks for are enough."""
    merge = net(A="x y -> q", J={"flow": "m q -> o", "join": "or"})
    reference, analysis = (OrJoinAnalysis(merge.tables, **way) for way in WAYS)
    analysis.relevant(1)

    for tokens in ("m x", "m x y"):
        state = merge.state(tokens)
        huge = [count * 2**80 for count in state.tokens]
        expected = reference.decide(1, state.tokens, state.status, {})
        for marking in (tuple(state.tokens), iter(state.tokens), huge):
            assert expected == analysis.decide(1, marking, (0, 2), {})


def test_a_state_of_another_net_is_refused() -> None:
    """A state with too few or too many conditions or tasks is a ValueError."""
    merge = net(A="x y -> q", J={"flow": "m q -> o", "join": "or"})
    analysis, state = OrJoinAnalysis(merge.tables, **WAYS[-1]), merge.state("m x")
    analysis.relevant(1)

    for marking, status in ((state.tokens[1:], state.status), (state.tokens, [0]), ([0, *state.tokens], state.status)):
        with pytest.raises(ValueError, match="are expected"):
            analysis.decide(1, marking, status, {})


def test_what_a_word_cannot_hold_is_decided_by_the_reference() -> None:
    """Prices beyond a word, and weights beyond one, change no decision."""
    pairs = {f"P{n}": f"a{n} -> b{n} c{n}" for n in range(70)}
    joins = {f"Q{n}": f"b{n} c{n} -> a{n + 1}" for n in range(70)}
    dear = net(**pairs, **joins, Q="a70 k -> q", J={"flow": "m q -> o", "join": "or"})
    heavy = net(A=f"x y*{2**40} -> q", J={"flow": "m q -> o", "join": "or"})

    for of, states in ((dear, ("m a0", "m a0 k")), (heavy, ("m x y", f"m x y*{2**40}"))):
        join = of.tasks.index("J")
        reference, analysis = (OrJoinAnalysis(of.tables, **way) for way in WAYS)
        analysis.relevant(join)
        for tokens in states:
            state = of.state(tokens)
            assert reference.decide(join, state.tokens, state.status, {}) == analysis.decide(
                join, state.tokens, state.status, {}
            )
