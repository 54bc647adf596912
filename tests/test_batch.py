"""Many cases of one net, a word each: every loop, on every instruction set, plays the reference kernel's game."""

from __future__ import annotations

import random
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knhk import _hot, _kernel
from knhk._tables import AND, OR, PARTIAL, XOR, Tables, TaskTable, build_tables
from knhk.errors import InternalError

batch: Any = pytest.importorskip("knhk._hot.batch") if _hot.COMPILED else None
pytestmark = pytest.mark.skipif(batch is None, reason="the compiled kernel is not built")


def task(inputs: Any, outputs: Any, join: int = AND, split: int = AND, **options: Any) -> TaskTable:
    """A task whose arcs all move one token."""
    return TaskTable(
        join=join, split=split, inputs=tuple((c, 1) for c in inputs), outputs=tuple((c, 1) for c in outputs), **options
    )


def tables(*table: TaskTable, conditions: int) -> Tables:
    """A net of these tasks."""
    names = tuple(f"t{n}" for n in range(len(table)))
    return build_tables(conditions=tuple(f"c{n}" for n in range(conditions)), tasks=names, table=table)


FIVE = tables(
    task([0], [2]),
    task([2], [3, 4]),
    task([3, 4], [5]),
    task([5], [6, 7], split=XOR),
    task([6, 7], [0], join=XOR),
    conditions=8,
)
"""Patterns 1 to 5 in a ring: sequence, parallel split, synchronisation, exclusive choice, simple merge."""


def random_tables(rng: random.Random) -> Tables:
    """A net of AND- and XOR-joins and splits of all kinds, in which steps are often refused and tokens often meet."""
    conditions = rng.randint(3, 30)
    table = []
    for _ in range(rng.randint(1, 12)):
        inputs = sorted(rng.sample(range(conditions), rng.randint(1, 3)))
        outputs = sorted(rng.sample(range(conditions), rng.randint(1, 3)))
        table.append(task(inputs, outputs, rng.choice((AND, XOR)), rng.choice((AND, XOR, OR))))
    return tables(*table, conditions=conditions)


def expected(of: Tables, word: int, number: int, facts: int) -> int:
    """The word after the step, by the reference kernel; the same word where the step is not legal."""
    entry = of.table[number]
    marking = _kernel.Net(of).marking()
    marking.restore([word >> c & 1 for c in range(len(of.conditions))], [0] * len(of.table), {})
    chosen = [p for p, (c, _) in enumerate(entry.outputs) if entry.split == AND or facts >> c & 1]
    chosen = chosen[:1] if entry.split == XOR else chosen
    if not chosen:
        return word
    try:
        marking.fire(number, chosen)
    except InternalError:
        return word
    if max(marking.tokens) > 1:
        return word
    return sum(count << c for c, count in enumerate(marking.tokens))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_every_loop_plays_the_reference_game(seed: int) -> None:
    """Each way to fire many steps leaves each case where the reference kernel leaves it, and counts what it refused."""
    rng = random.Random(seed)
    of = random_tables(rng)
    net = _hot.Net(of)
    cases, steps = 5, 30
    several = [batch.Words(net, cases, level=each) for each in batch.LEVELS[: batch.LEVELS.index(batch.BEST) + 1]]
    words = [1] * cases
    for _ in range(steps):
        number = rng.randrange(len(of.table))
        facts = [rng.getrandbits(len(of.conditions)) for _ in range(cases)]
        after = [expected(of, word, number, fact) for word, fact in zip(words, facts, strict=True)]
        refused = sum(new == old and expected_refusal(of, old, number, f) for new, old, f in zip(after, words, facts))
        for each in several:
            assert refused == each.fire_same(number, array("Q", facts))
            assert after == list(each)
        words = after

    each, mixed, single = several[0], batch.Words(net, cases), batch.Words(net, cases)
    words = list(each)
    for here in (mixed, single):
        for case in range(cases):
            bring(here, of, case, words[case])
    for _ in range(steps):
        numbers = [rng.randrange(len(of.table)) for _ in range(cases)]
        facts = [rng.getrandbits(len(of.conditions)) for _ in range(cases)]
        after = [expected(of, *step) for step in zip(words, numbers, facts, strict=True)]
        if list(mixed) == words:
            mixed.fire_mixed(array("I", range(cases)), array("B", numbers), array("Q", facts))
            assert after == list(mixed)
        if list(single) == words:
            for case in range(cases):
                single.step(case, numbers[case], facts[case])
            assert after == list(single)
        each.fire_each(array("B", numbers), array("Q", facts))
        assert after == list(each)
        words = after


def expected_refusal(of: Tables, word: int, number: int, facts: int) -> bool:
    """Whether a step that changes nothing is one that was refused: one that takes and puts the same is not."""
    entry = of.table[number]
    taken = [c for c, _ in entry.inputs if word >> c & 1]
    if entry.join == AND:
        enabled = len(taken) == len(entry.inputs)
    else:
        enabled, taken = bool(taken), taken[:1]
    put = [c for c, _ in entry.outputs if entry.split == AND or facts >> c & 1]
    put = put[:1] if entry.split == XOR else put
    left = word & ~sum(1 << c for c in taken)
    return not (enabled and put and not any(left >> c & 1 for c in put))


def bring(words: Any, of: Tables, case: int, word: int) -> None:
    """Bring a case to a word by steps, where there are any that lead there at once."""
    for number in range(len(of.table)):
        if expected(of, words[case], number, word) == word:
            words.step(case, number, word)
            return


def test_a_case_goes_through_many_tasks() -> None:
    """Steps in turn stop before the first that is not legal, and say how many there were."""
    words = batch.Words(_hot.Net(FIVE), 2)
    tasks = array("B", [0, 1, 2, 3, 4] * 4_000)
    facts = array("Q", [1 << 6, 1 << 7] * 10_000)
    marking = _kernel.Net(FIVE).marking()
    for number, fact in zip(tasks, facts, strict=True):
        marking.fire(number, [fact == 1 << 7] if number == 3 else range(len(FIVE.table[number].outputs)))

    assert 20_000 == words.fire_in_turn(1, tasks, facts)
    assert sum(count << c for c, count in enumerate(marking.tokens)) == words[1]
    assert 2 == words.fire_in_turn(0, array("B", [0, 1, 1, 2]), facts)
    assert 0b11000 == words[0]


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 10_001])
def test_the_same_step_of_any_number_of_cases(count: int) -> None:
    """Blocks that are full, partly full, or hold a case that refuses all do what they should."""
    words = batch.Words(_hot.Net(FIVE), count)
    if count:
        words.step(count - 1, 0)

    refused = words.fire_same(0)

    assert min(1, count) == refused
    assert [0b100] * count == list(words)


def test_bad_calls_are_refused() -> None:
    """Cases, tasks, facts, levels and nets that cannot be are named, and nothing has happened."""
    net = _hot.Net(FIVE)
    words = batch.Words(net, 2)
    good = array("Q", [0, 0])
    with pytest.raises(IndexError, match="no case 2"):
        words.step(2, 0)
    with pytest.raises(IndexError, match="no task 5"):
        words.step(0, 5)
    with pytest.raises(IndexError, match="no task 5"):
        words.fire_each(array("B", [0, 5]), good)
    with pytest.raises(IndexError, match="no task 9"):
        words.fire_same(9)
    with pytest.raises(IndexError, match="no case -1"):
        words.fire_in_turn(-1, array("B", [0]), good)
    with pytest.raises(IndexError, match="no case 7"):
        words.fire_mixed(array("I", [0, 7]), array("B", [0, 0]), good)
    with pytest.raises(IndexError, match="3 steps are more"):
        words.fire_each(array("B", [0, 0, 0]), array("Q", [0, 0, 0]))
    with pytest.raises(ValueError, match="1 cases do not go with 2 tasks"):
        words.fire_mixed(array("I", [0]), array("B", [0, 0]), good)
    with pytest.raises(ValueError, match="too few"):
        words.fire_each(array("B", [0, 0]), array("Q", [0]))
    with pytest.raises(ValueError, match="needs facts"):
        words.fire_same(3)
    with pytest.raises(IndexError):
        words[2]
    with pytest.raises(ValueError, match="no 'mmx'"):
        batch.Words(net, 1, level="mmx")
    with pytest.raises(ValueError, match="-1 cases"):
        batch.Words(net, -1)
    assert [1, 1] == list(words)


@pytest.mark.parametrize(
    "odd",
    [
        task([0], [2], cancels_conditions=(3,)),
        task([0], [2], reads=(3,)),
        task([0, 3], [2], join=OR),
        task([0, 3], [2], join=PARTIAL, required=1),
        task([3, 0], [2], join=XOR),
        task([0], [2], detached=True),
    ],
)
def test_nets_that_do_not_go_in_batches_are_refused(odd: TaskTable) -> None:
    """A net with a task that is fired otherwise is refused, as is one that does not fit a word."""
    with pytest.raises(ValueError, match="batches|fit"):
        batch.Words(_hot.Net(tables(odd, conditions=4)), 1)
    with pytest.raises(ValueError, match="fit"):
        batch.Words(_hot.Net(tables(task([0], [2]), conditions=70)), 1)
