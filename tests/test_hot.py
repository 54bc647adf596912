"""The compiled kernel is the reference kernel: side by side on random nets and runs, and the one place that chooses."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from orjoin_oracle import random_tables

from knhk import _hot, _kernel
from knhk._kernel import BUSY, IDLE
from knhk._tables import AND, OR, PARTIAL, XOR, Tables, TaskTable, build_tables
from knhk.errors import InternalError

compiled: Any = None
try:
    from knhk._hot import kernel as compiled
except ImportError:
    if os.environ.get("CI") == "true":
        raise

needs_compiled = pytest.mark.skipif(
    compiled is None,
    reason="the compiled kernel is not built: install a C compiler and the Python headers, then 'pip install -e .'",
)
MOST = 2**31
Arcs = Any


def task(inputs: Arcs, outputs: Arcs = (1,), join: int = AND, **options: Any) -> TaskTable:
    """A task; an arc is a condition (one token moves) or a condition with its weight."""
    arcs = [tuple(arc if isinstance(arc, tuple) else (arc, 1) for arc in each) for each in (inputs, outputs)]
    return TaskTable(join=join, split=AND, inputs=arcs[0], outputs=arcs[1], **options)


def tables(*table: TaskTable, conditions: int = 8, implicit: bool = False) -> Tables:
    """A net of these tasks."""
    return build_tables(
        conditions=tuple(f"c{n}" for n in range(conditions)),
        tasks=tuple(f"t{n}" for n in range(len(table))),
        table=table,
        implicit=implicit,
    )


def large_tables(rng: random.Random) -> Tables:
    """A net around and beyond 64 conditions and tasks, with joins of up to 130 inputs and conditions that fill up."""
    conditions = rng.choice((62, 63, 64, 65, 66, 130, 200))
    count = rng.choice((5, 63, 64, 65, 90))
    weights = rng.random() < 0.3

    def some(total: int, most: int) -> tuple[int, ...]:
        return tuple(rng.sample(range(total), rng.randint(1, min(most, total))))

    def arcs(most: int) -> tuple[tuple[int, int], ...]:
        return tuple((c, rng.randint(1, 3) if weights and rng.random() < 0.1 else 1) for c in some(conditions, most))

    table = []
    for _ in range(count):
        inputs = arcs(rng.choice((1, 1, 1, 2, 3, conditions)))
        join = rng.choice((AND, XOR, XOR, PARTIAL, PARTIAL, OR) if len(inputs) > 1 else (AND, XOR))
        join = XOR if join == OR and rng.random() < 0.8 else join
        cancelling = join == PARTIAL and rng.random() < 0.3
        table.append(
            TaskTable(
                join=join,
                split=AND,
                inputs=inputs,
                outputs=arcs(4),
                required=rng.randint(1, max(1, len(inputs) // 8)) if join == PARTIAL else 0,
                reads=some(conditions, 2) if rng.random() < 0.05 else (),
                cancels_conditions=some(conditions, conditions) if rng.random() < 0.1 else (),
                cancels_tasks=some(count, count) if rng.random() < 0.1 else (),
                join_cancels=cancelling,
                join_cancels_conditions=tuple(dict.fromkeys([c for c, _ in inputs] + list(some(conditions, 4))))
                if cancelling
                else (),
                join_cancels_tasks=some(count, 4) if cancelling else (),
                detached=rng.random() < 0.1,
            )
        )
    return tables(*table, conditions=conditions, implicit=rng.random() < 0.5)


class Pair:
    """The same net instance on both kernels; every step is compared."""

    def __init__(self, of: Tables, budget: int = 200) -> None:
        self.tables = of
        self.reference = _kernel.Net(of, or_join_budget=budget).marking()
        self.compiled = compiled.Net(of, or_join_budget=budget).marking()
        self.compare()

    @staticmethod
    def state(marking: Any) -> tuple[Any, ...]:
        """All of a marking that can be seen."""
        tasks = range(len(marking.net.tables.table))
        return (
            marking.tokens,
            marking.status,
            marking.seen,
            marking.ready(),
            marking.undecided,
            marking.has_ended(),
            marking.anything_busy(),
            [marking.threads(t) for t in tasks],
            [marking.is_ready(t) for t in tasks],
        )

    def compare(self) -> None:
        """Both kernels are in the same state."""
        assert self.state(self.compiled) == self.state(self.reference)

    def both(self, name: str, *arguments: Any) -> bool:
        """Call the same on both and compare; return whether it was allowed. What is refused has changed nothing."""
        before = self.state(self.compiled)
        answers = []
        for marking in (self.reference, self.compiled):
            try:
                answers.append(getattr(marking, name)(*arguments))
            except InternalError as error:
                answers.append((InternalError, str(error)))
        assert answers[0] == answers[1]
        self.compare()
        if isinstance(answers[1], tuple):
            assert self.state(self.compiled) == before
        return not isinstance(answers[1], tuple)

    def restore(self, rng: random.Random) -> None:
        """Let both become the same random state."""
        table = self.tables.table
        density, full = rng.choice((0.1, 0.3, 0.6)), rng.random() < 0.4
        tokens = [(rng.choice((1, 1, 2, 3)) if full else 1) * (rng.random() < density) for _ in self.tables.conditions]
        status = [rng.choice((0, 0, 0, 0, 1, 2)) for _ in table]
        seen = {
            number: rng.randrange(1, 2 ** len(each.inputs))
            for number, each in enumerate(table)
            if each.join == PARTIAL and not each.join_cancels and rng.random() < 0.3
        }
        self.both("restore", tokens, status, seen)

    def step(self, rng: random.Random) -> str:
        """Do one thing, mostly something that is allowed; return what it was, or that it was refused."""
        table, action = self.tables.table, rng.random()
        if action < 0.04:
            self.both("restore", self.compiled.tokens, self.compiled.status, self.compiled.seen)
            return "restore"
        if action < 0.15:
            name, number = (
                rng.choice(("start", "complete", "pass_on", "fire", "release", "withdraw")),
                rng.randrange(len(table)),
            )
        else:
            moves = [(name, t) for t in self.reference.ready() for name in ("start", "start", "fire")]
            moves += [("withdraw", t) for t in self.reference.ready()][:1]
            for t, status in enumerate(self.reference.status):
                moves += [("complete", t)] * 4 + [("pass_on", t), ("release", t)] if status == BUSY else []
                moves += [("release", t)] if status > BUSY else []
            if not moves:
                self.restore(rng)
                return "restore"
            name, number = rng.choice(moves)
        arguments: tuple[Any, ...] = (number,)
        if name in ("complete", "pass_on", "fire"):
            arguments = (number, self.choice(rng, number))
        allowed = self.both(name, *arguments)
        if allowed and name == "start" and table[number].detached and rng.random() < 0.9:
            self.both("pass_on", number, self.choice(rng, number))
        if rng.random() < 0.5:
            self.both("settle")
        if rng.random() < 0.5:
            self.both("changes")
        return name if allowed else "refused"

    def choice(self, rng: random.Random, number: int) -> Any:
        """Outputs for the task to put on: some, all, none, now and then one twice."""
        outputs = range(len(self.tables.table[number].outputs))
        chosen: list[int] = rng.sample(outputs, rng.randint(0, len(outputs)))
        chosen = list(outputs) if rng.random() < 0.5 else chosen
        chosen += [0] if outputs and rng.random() < 0.05 else []
        return rng.choice((list, tuple))(chosen)


def play(pair: Pair, rng: random.Random, steps: int, counts: Counter[str]) -> None:
    """Do that many steps and count them by what they were."""
    for _ in range(steps):
        counts[pair.step(rng)] += 1
    counts["promoted"] += max(pair.compiled.tokens) > 1


def run_many(draw_tables: Any, examples: int, steps: int) -> Counter[str]:
    """Play as many nets as said, drawn by Hypothesis, and return what was done."""
    counts: Counter[str] = Counter()

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**64 - 1))
    def run(seed: int) -> None:
        rng = random.Random(seed)
        play(Pair(draw_tables(rng)), rng, steps, counts)

    run()
    return counts


@needs_compiled
def test_both_kernels_play_the_same_game_on_small_nets() -> None:
    """On random nets and 20,000 firings, with what is refused between them, both kernels show the same after each step."""

    def draw(rng: random.Random) -> Tables:
        return random_tables(rng, features=rng.choice((0.0, 0.15, 0.3)), partial=rng.choice((0.0, 0.2, 0.5)))[0]

    counts = run_many(draw, examples=1_000, steps=120)

    assert counts["start"] >= 20_000
    assert counts["refused"] >= 1_000
    assert counts["promoted"] >= 20
    assert min(counts[name] for name in ("complete", "pass_on", "fire", "release", "withdraw", "restore")) >= 500


@needs_compiled
def test_both_kernels_play_the_same_game_on_large_nets() -> None:
    """Around and beyond 64 conditions, tasks and inputs of a join both kernels show the same after 2,500 firings."""
    counts = run_many(large_tables, examples=100, steps=100)

    assert counts["start"] >= 2_500
    assert counts["promoted"] >= 20


@st.composite
def arcs(draw: st.DrawFn, most: int) -> tuple[tuple[int, int], ...]:
    """A few arcs, each from another condition."""
    return tuple(
        (c, draw(st.sampled_from([1, 1, 1, 2])) if c else 1)
        for c in draw(st.lists(st.integers(0, 5), min_size=1, max_size=most, unique=True))
    )


@st.composite
def drawn_tables(draw: st.DrawFn) -> Tables:
    """A small net whose every part Hypothesis draws, and so can make smaller."""
    table = []
    count = draw(st.integers(1, 4))
    few = st.lists(st.integers(0, count - 1), max_size=2, unique=True).map(tuple)
    for _ in range(count):
        inputs = draw(arcs(3))
        join = draw(st.sampled_from([AND, XOR, OR, PARTIAL]))
        cancelling = join == PARTIAL and draw(st.booleans())
        table.append(
            TaskTable(
                join=join,
                split=AND,
                inputs=inputs,
                outputs=draw(arcs(3)),
                required=draw(st.integers(1, len(inputs))) if join == PARTIAL else 0,
                reads=draw(st.sampled_from([(), (), (2,), (0, 3)])),
                cancels_conditions=draw(st.sampled_from([(), (), (2, 3), (5,)])),
                cancels_tasks=draw(st.one_of(st.just(()), few)),
                join_cancels=cancelling,
                join_cancels_conditions=tuple(c for c, _ in inputs) if cancelling else (),
                join_cancels_tasks=draw(few) if cancelling else (),
                detached=draw(st.integers(0, 5)) == 0,
            )
        )
    return tables(*table, conditions=6, implicit=draw(st.booleans()))


@needs_compiled
@settings(max_examples=150, deadline=None)
@given(drawn_tables(), st.randoms(use_true_random=False))
def test_disagreement_would_shrink(of: Tables, rng: random.Random) -> None:
    """Nets and runs that Hypothesis draws piece by piece agree too: a failure found here comes out small."""
    play(Pair(of), rng, 15, Counter())


@needs_compiled
@given(st.integers(0, 2**64 - 1), st.sampled_from([random_tables, large_tables]))
@settings(max_examples=60, deadline=None)
@example(0, large_tables)
def test_a_snapshot_is_taken_by_either_kernel(seed: int, draw: Any) -> None:
    """What one kernel shows of its state, the other is restored from, and both go on the same."""
    rng = random.Random(seed)
    drawn = draw(rng)
    pair = Pair(drawn if isinstance(drawn, Tables) else drawn[0])
    pair.restore(rng)
    play(pair, rng, 10, Counter())
    other = Pair(pair.tables)

    other.compiled.restore(pair.reference.tokens, pair.reference.status, pair.reference.seen)
    other.reference.restore(pair.compiled.tokens, pair.compiled.status, pair.compiled.seen)

    other.compare()
    play(other, rng, 10, Counter())


@needs_compiled
def test_a_second_token_makes_counters_of_a_word() -> None:
    """A net that turns out unsafe goes on exactly: tokens are counted and come out one by one."""
    pair = Pair(tables(task([0], [0, 2]), task([2], [3, 3]), conditions=4))
    for _ in range(5):
        assert pair.both("start", 0)
        assert pair.both("complete", 0, (0, 1))

    assert pair.compiled.tokens == [1, 0, 5, 0]
    for left in range(4, -1, -1):
        assert pair.both("start", 1)
        assert pair.both("complete", 1, [0, 1])
        assert pair.compiled.tokens == [1, 0, left, 2 * (5 - left)]


@needs_compiled
@pytest.mark.parametrize("inputs", [63, 64, 65, 128, 129, 300])
def test_a_partial_join_of_many_inputs(inputs: int) -> None:
    """A round of a partial join sees each of its inputs once, however many they are."""
    places = range(2, 2 + inputs)
    feeders = [task([2 + inputs + n], [2 + n]) for n in range(inputs)]
    of = tables(task(places, join=PARTIAL, required=2), *feeders, conditions=2 + 2 * inputs)
    pair = Pair(of)
    pair.both(
        "restore", [0, 0, *[1] * 2, *[0] * (inputs - 2), *[0] * 2, *[1] * (inputs - 2)], [IDLE] * (inputs + 1), {}
    )
    assert pair.both("start", 0)
    assert pair.both("complete", 0, ())
    assert pair.compiled.seen == {0: 0b11}
    for number in range(2, inputs):
        assert pair.both("start", number + 1)
        assert pair.both("complete", number + 1, [0])

    assert pair.compiled.seen == {}
    assert sum(pair.compiled.tokens) == 0


@needs_compiled
def test_no_condition_counts_beyond_its_limit() -> None:
    """A token too many is refused before anything has happened; emptying the condition first makes room for it."""
    of = tables(task([2], [3, (4, 5)]), task([2], [(4, 5)], cancels_conditions=(4,)), conditions=5)
    marking = compiled.Net(of).marking()
    marking.restore([0, 0, 1, 0, MOST - 4], [IDLE] * 2, {})
    marking.start(0)
    marking.changes()
    before = Pair.state(marking)

    with pytest.raises(InternalError, match=r"condition 4 would hold more than 2147483648 tokens"):
        marking.complete(0, [0, 1])

    assert Pair.state(marking) == before
    marking.complete(0, [0])
    marking.restore([0, 0, 1, 0, MOST - 5], [IDLE] * 2, {})
    marking.start(0)
    marking.complete(0, [0, 1])
    assert marking.tokens == [0, 0, 0, 1, MOST]
    marking.restore([0, 0, 1, 0, MOST], [IDLE] * 2, {})
    marking.start(1)
    marking.complete(1, [0])
    assert marking.tokens == [0, 0, 0, 0, 5]


@needs_compiled
def test_a_weight_beyond_the_limit_is_never_met() -> None:
    """An arc may ask for more tokens than a condition can hold: it is never satisfied, and never put."""
    of = tables(task([(2, 2**40)]), task([0], [(3, 2**40)]), conditions=4)
    marking = compiled.Net(of).marking()
    marking.restore([1, 0, MOST, 0], [IDLE] * 2, {})

    assert marking.ready() == [1]
    assert [marking.threads(0), marking.threads(1)] == [0, 1]
    marking.start(1)
    with pytest.raises(InternalError, match="condition 3"):
        marking.complete(1, [0])


@needs_compiled
@pytest.mark.parametrize("number", [-1, 2, 2**70, -(2**70)])
def test_a_number_that_names_nothing_is_refused(number: int) -> None:
    """Tasks and outputs that do not exist are an IndexError, and nothing has happened."""
    marking = compiled.Net(tables(task([0], [2], cancels_conditions=(0,)), task([2]), conditions=3)).marking()
    for name, arguments in [("start", ()), ("complete", ([],)), ("pass_on", ([],)), ("release", ()), ("withdraw", ())]:
        with pytest.raises(IndexError):
            getattr(marking, name)(number, *arguments)
    with pytest.raises(IndexError):
        marking.threads(number)
    assert not marking.is_ready(number)
    marking.start(0)
    before = Pair.state(marking)

    with pytest.raises(IndexError):
        marking.complete(0, [0, number])

    assert Pair.state(marking) == before


@needs_compiled
@pytest.mark.parametrize(
    ("tokens", "status", "seen"),
    [
        ([1, 0], [0, 0], {}),
        ([1, 0, -1], [0, 0], {}),
        ([1, 0, MOST + 1], [0, 0], {}),
        ([1, 0, "1"], [0, 0], {}),
        ([1, 0, 0], [0], {}),
        ([1, 0, 0], [0, 3], {}),
        ([1, 0, 0], [0, 0], {0: 1}),
        ([1, 0, 0], [0, 0], {1: 4}),
        ([1, 0, 0], [0, 0], {1: -1}),
        ([1, 0, 0], [0, 0], {7: 1}),
    ],
)
def test_a_snapshot_that_does_not_fit_is_refused(tokens: Any, status: Any, seen: Any) -> None:
    """A state that the net cannot have is refused, and the marking is what it was."""
    marking = compiled.Net(tables(task([0], [2]), task([0, 2], join=PARTIAL, required=1), conditions=3)).marking()
    before = Pair.state(marking)

    with pytest.raises((ValueError, TypeError, IndexError, InternalError)):
        marking.restore(tokens, status, seen)

    assert Pair.state(marking) == before


@needs_compiled
@pytest.mark.parametrize(
    "table",
    [
        task([(0, 0)]),
        task([9]),
        task([0], [9]),
        task([0], reads=(-1,)),
        task([0], cancels_tasks=(1,)),
    ],
)
def test_tables_that_cannot_be_are_refused(table: TaskTable) -> None:
    """A net is compiled only if all its numbers name something."""
    of = tables(task([0]), conditions=3)
    with pytest.raises(InternalError):
        compiled.Net(
            Tables(
                conditions=of.conditions,
                tasks=of.tasks,
                table=(table,),
                implicit=False,
                consumers=of.consumers,
                sinks=of.sinks,
                swallowers=of.swallowers,
                or_joins=(),
            )
        )


@needs_compiled
def test_what_is_shown_is_a_copy() -> None:
    """Changing what a marking shows does not change the marking."""
    marking = compiled.Net(tables(task([0]))).marking()
    before = Pair.state(marking)

    marking.tokens[0] = 7
    marking.status[0] = BUSY
    marking.seen[0] = 1
    marking.undecided.add(0)

    assert Pair.state(marking) == before


@needs_compiled
def test_positions_may_be_any_integers_in_any_iterable() -> None:
    """The chosen outputs are read from whatever holds them."""

    class Position:
        def __init__(self, value: int) -> None:
            self.value = value

        def __index__(self) -> int:
            return self.value

    marking = compiled.Net(tables(task([0], [2, 3]), conditions=4)).marking()
    marking.start(0)
    marking.complete(0, iter([Position(1), True - 1]))

    assert marking.tokens == [0, 0, 1, 1]


def stand_in() -> ModuleType:
    """What a built kernel is to the choosing point."""
    return compiled_stand_in


compiled_stand_in = ModuleType("compiled")


def missing() -> ModuleType:
    """What happens where none is built."""
    raise ImportError("No module named 'knhk._hot.kernel'")


def test_the_compiled_kernel_is_taken_where_it_is() -> None:
    """Without switches the compiled kernel is taken if it is there, else the reference kernel."""
    assert _hot.choose({}, stand_in) is compiled_stand_in
    assert _hot.choose({}, missing) is _kernel
    assert _hot.choose({"KNHK_REQUIRE_EXTENSION": "1"}, stand_in) is compiled_stand_in


def test_the_compiled_kernel_can_be_forbidden() -> None:
    """KNHK_NO_EXTENSION=1 takes the reference kernel though the other is there."""
    assert _hot.choose({"KNHK_NO_EXTENSION": "1"}, stand_in) is _kernel


def test_the_compiled_kernel_can_be_required() -> None:
    """KNHK_REQUIRE_EXTENSION=1 refuses to go on without it, and says how to build it."""
    with pytest.raises(ImportError, match=r"KNHK_REQUIRE_EXTENSION=1.*gcc python3-dev.*pip install"):
        _hot.choose({"KNHK_REQUIRE_EXTENSION": "1"}, missing)


def test_both_switches_contradict_each_other() -> None:
    """Forbidding and requiring it at once is an error."""
    with pytest.raises(ImportError, match="contradict"):
        _hot.choose({"KNHK_NO_EXTENSION": "1", "KNHK_REQUIRE_EXTENSION": "1"}, stand_in)


def test_the_switch_works_from_outside() -> None:
    """The environment decides when the package is imported."""
    environment = {key: value for key, value in os.environ.items() if key != "KNHK_REQUIRE_EXTENSION"}
    code = (
        "from knhk import _hot, _kernel; print(_hot.COMPILED, _hot.Net is _kernel.Net, _hot.Marking is _kernel.Marking)"
    )

    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "KNHK_NO_EXTENSION": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.strip() == "False True True"


def test_the_compiled_kernel_is_there_in_ci() -> None:
    """CI never passes on the reference kernel alone."""
    if os.environ.get("CI") == "true":
        assert compiled.COMPILED
        assert _hot.COMPILED
    elif compiled is None:
        pytest.skip("the compiled kernel is not built here; outside CI that is allowed")
    assert not _kernel.COMPILED
