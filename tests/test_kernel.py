"""The reference token game, rule by rule, and its incremental readiness on random runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knhk._kernel import BUSY, DRAINING, IDLE, Marking, Net
from knhk._tables import AND, OR, PARTIAL, XOR, TaskTable, build_tables
from knhk.errors import InternalError

Arcs = Sequence[int | tuple[int, int]]


def task(inputs: Arcs, outputs: Arcs = (1,), join: int = AND, **options: Any) -> TaskTable:
    """A task; an arc is a condition (one token moves) or a condition with its weight."""
    arcs = [tuple(arc if isinstance(arc, tuple) else (arc, 1) for arc in each) for each in (inputs, outputs)]
    return TaskTable(join=join, split=AND, inputs=arcs[0], outputs=arcs[1], **options)


def net(*table: TaskTable, conditions: int = 8, implicit: bool = False, budget: int | None = None) -> Net:
    """A net of these tasks."""
    names = tuple(f"c{n}" for n in range(conditions))
    tables = build_tables(
        conditions=names, tasks=tuple(f"t{n}" for n in range(len(table))), table=table, implicit=implicit
    )
    return Net(tables) if budget is None else Net(tables, or_join_budget=budget)


def marked(of: Net, *tokens: int, status: dict[int, int] | None = None, seen: dict[int, int] | None = None) -> Marking:
    """A marking with one token for each condition named."""
    counts = [tokens.count(n) for n in range(len(of.tables.conditions))]
    states = [(status or {}).get(n, IDLE) for n in range(len(of.tables.tasks))]
    marking = of.marking()
    marking.restore(counts, states, seen or {})
    return marking


def places(marking: Marking) -> list[int]:
    """The conditions with their tokens, one entry a token."""
    return [c for c, count in enumerate(marking.tokens) for _ in range(count)]


def test_start_takes_and_complete_puts() -> None:
    """A task takes its token when it starts and puts its own when it completes; in between it is busy (rule 1)."""
    m = net(task([0], [2])).marking()
    assert (m.ready(), m.changes(), m.anything_busy()) == ([0], [0], False)
    m.start(0)
    assert (places(m), m.status, m.ready(), m.changes(), m.anything_busy()) == ([], [BUSY], [], [~0], True)
    m.complete(0, [0])
    assert (places(m), m.status, m.anything_busy()) == ([2], [IDLE], False)


def test_a_busy_task_is_not_ready() -> None:
    """A further token waits until the task is idle again (rule 1)."""
    m = marked(net(task([0])), 0, 0)
    m.start(0)
    assert not m.is_ready(0)
    with pytest.raises(InternalError, match="not enabled"):
        m.start(0)
    m.complete(0, [0])
    assert m.is_ready(0)


def test_and_join_takes_one_from_each() -> None:
    """An AND-join needs every input, and the weight of each arc (rule 2)."""
    of = net(task([(2, 2), 3]))
    assert marked(of, 2, 3).ready() == []
    assert marked(of, 2, 2).ready() == []
    m = marked(of, 2, 2, 2, 3)
    m.start(0)
    assert places(m) == [2]


def test_xor_join_takes_from_the_first_marked_input() -> None:
    """An XOR-join takes one token, from the first marked input in flow order (rule 2)."""
    m = marked(net(task([3, 2], join=XOR)), 2, 3)
    m.start(0)
    assert places(m) == [2]


def test_or_join_waits_for_what_can_come_and_takes_all() -> None:
    """An OR-join waits while another input can be marked, and takes from every marked one (rule 2)."""
    m = marked(net(task([2, 3], join=OR), task([4], [3])), 2, 4)
    assert m.ready() == [1]
    m.start(1)
    m.settle()
    assert m.ready() == []
    m.complete(1, [0])
    m.settle()
    m.settle()
    assert m.ready() == [0]
    m.start(0)
    assert places(m) == []


def test_an_or_join_that_lost_its_tokens_is_not_ready_at_once() -> None:
    """An OR-join whose token is taken ceases to be ready before anybody settles."""
    m = marked(net(task([2, 3], join=OR), task([2])), 2)
    assert m.ready() == [0, 1]
    m.start(1)
    assert m.ready() == []


def test_an_or_join_beyond_its_budget_is_undecided() -> None:
    """A search that meets its budget leaves the join undecided and not ready, until the question is gone."""
    of = net(
        task([2, 3], join=OR), task([4, 5], [3]), task([6], [5]), task([7], [4], cancels_conditions=(6,)), budget=1
    )
    m = marked(of, 2, 6, 7)
    assert (m.is_ready(0), m.undecided) == (False, {0})
    for number in (2, 3):
        m.start(number)
        m.complete(number, [0])
    m.start(1)
    m.complete(1, [0])
    m.settle()
    assert (m.is_ready(0), m.undecided) == (True, set())


def test_complete_puts_on_the_chosen_outputs() -> None:
    """A split puts tokens where the caller chose, as many as the arc says (rule 3)."""
    m = net(task([0], [2, (3, 2), 4])).marking()
    m.start(0)
    m.complete(0, [1, 2])
    assert places(m) == [3, 3, 4]


def partial(**options: object) -> Net:
    """A two-out-of-three join."""
    return net(task([2, 3, 4], [5], PARTIAL, required=2, **options), task([0], [2, 3, 4]))


def test_partial_join_swallows_first_arrivals_and_resets() -> None:
    """After the start the missing input is swallowed, a second arrival waits, and then the round is over (rule 4)."""
    m = marked(partial(), 2, 3, 0)
    m.start(0)
    assert m.seen == {0: 0b011}
    m.complete(0, [0])
    assert m.ready() == [1]
    m.start(1)
    m.complete(1, [0, 1])
    assert (places(m), m.seen, m.ready()) == ([2, 3, 5], {0: 0b011}, [])
    m._put([(4, 1)])
    assert (places(m), m.seen, m.ready()) == ([2, 3, 5], {}, [0])


def test_partial_join_with_all_inputs_resets_at_once() -> None:
    """A start that finds every input marked is a whole round (rule 4)."""
    m = marked(partial(), 2, 3, 4)
    m.start(0)
    assert (places(m), m.seen) == ([], {})


def test_partial_join_with_weights_swallows_whole_arcs() -> None:
    """A late input counts as come only with the weight of its arc (rule 4)."""
    of = net(task([2, (3, 2)], [5], PARTIAL, required=1), task([0], [3]))
    m = marked(of, 2)
    m.start(0)
    m._put([(3, 1)])
    assert (places(m), m.seen) == ([3], {0: 1})
    m._put([(3, 1)])
    assert (places(m), m.seen) == ([], {})


def test_two_partial_joins_share_an_input() -> None:
    """Only the join in the middle of a round swallows."""
    m = marked(net(task([2, 3], [5], PARTIAL, required=1), task([3, 4], [5], PARTIAL, required=1)), 2)
    m.start(0)
    m._put([(3, 1), (4, 1)])
    assert (places(m), m.seen, m.ready()) == ([4], {}, [1])


def test_a_cancelling_join_empties_and_aborts_when_it_starts() -> None:
    """The cancelling form empties its inputs and region, aborts the tasks in it, and remembers nothing (rule 4)."""
    of = net(
        task(
            [2, 3],
            [1],
            PARTIAL,
            required=1,
            join_cancels=True,
            join_cancels_conditions=(2, 3, 4),
            join_cancels_tasks=(0, 1),
        ),
        task([4], [3]),
    )
    m = marked(of, 2, 2, 4, 4, status={1: BUSY})
    m.start(0)
    assert (places(m), m.seen, m.status) == ([], {}, [BUSY, IDLE])
    assert not m.is_ready(1)


def test_cancellation_comes_before_the_output() -> None:
    """Completion empties the region, aborts its tasks, resets their rounds, and only then puts its own tokens (rule 5)."""
    of = net(
        task([0], [2], cancels_conditions=(2, 3, 7), cancels_tasks=(0, 1, 2)),
        task([4], [5]),
        task([5, 6], [1], PARTIAL, required=1),
    )
    m = marked(of, 0, 2, 3, status={1: BUSY}, seen={2: 1})
    m.start(0)
    m.complete(0, [0])
    assert (places(m), m.status, m.seen) == ([2], [IDLE] * 3, {})
    assert not m.anything_busy()


def test_a_task_that_is_merely_enabled_keeps_its_token() -> None:
    """A task in the region that is only enabled stays enabled, unless its condition is in the region too (rule 5)."""
    m = marked(net(task([0], cancels_tasks=(1,)), task([2])), 0, 2)
    m.start(0)
    m.complete(0, [])
    assert m.ready() == [1]


def test_reads_are_needed_and_not_taken() -> None:
    """A read condition must be marked and keeps its token."""
    of = net(task([2], reads=(3,)))
    assert marked(of, 2).ready() == []
    m = marked(of, 2, 3)
    m.start(0)
    assert places(m) == [3]


def test_passing_on_leaves_the_task_draining() -> None:
    """A task that passes control while instances run stays busy without output, until it is released (rule 6)."""
    m = net(task([0], [2], continues=True)).marking()
    with pytest.raises(InternalError, match="pass control"):
        m.pass_on(0, [0])
    m.start(0)
    m.pass_on(0, [0])
    assert (places(m), m.status, m.anything_busy()) == ([2], [DRAINING], True)
    with pytest.raises(InternalError, match="cannot complete"):
        m.complete(0, [0])
    m.release(0)
    assert (places(m), m.status) == ([2], [IDLE])
    with pytest.raises(InternalError, match="idle"):
        m.release(0)


def test_a_detached_task_stays_idle() -> None:
    """A detached task passes control at once and may start again (rule 6)."""
    m = marked(net(task([0], [2], detached=True)), 0, 0)
    m.start(0)
    m.pass_on(0, [0])
    assert (places(m), m.ready(), m.status) == ([0, 2], [0], [IDLE])


def test_withdrawing_takes_the_tokens_without_a_start() -> None:
    """The thread of control of a withdrawn task is gone, and with it the round of its partial join."""
    m = marked(partial(), 2, 3)
    m.withdraw(0)
    assert (places(m), m.status, m.seen) == ([], [IDLE, IDLE], {})
    with pytest.raises(InternalError):
        m.withdraw(0)


def test_threads_are_counted() -> None:
    """AND-joins count whole sets, XOR-joins tokens, OR-joins the fullest input, partial joins one round; an unmarked read means none."""
    of = net(
        task([2, 3]),
        task([2, 3], join=XOR),
        task([2, 3], join=OR),
        task([2, 3], join=PARTIAL, required=1),
        task([2], reads=(7,)),
    )
    assert [marked(of, 2, 2, 3).threads(t) for t in range(5)] == [1, 3, 2, 1, 0]
    assert [marked(of).threads(t) for t in range(5)] == [0, 0, 0, 0, 0]


def test_the_end_of_a_net() -> None:
    """Explicit: a token at the end. Implicit: nothing busy and all tokens where no task takes them (rule 8)."""
    explicit, implicit = net(task([0])), net(task([0], [2]), implicit=True)
    assert marked(explicit, 1).has_ended()
    assert not marked(explicit, 0).has_ended()
    assert marked(implicit, 1, 2, 2).has_ended()
    assert not marked(implicit, 0).has_ended()
    assert not marked(implicit, 2, status={0: BUSY}).has_ended()


ARCS = st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True)


@st.composite
def nets(draw: st.DrawFn) -> Net:
    """A random net in numbers; only its first tasks take from the input condition."""
    table = []
    count = draw(st.integers(1, 4))
    for number in range(count):
        inputs = draw(ARCS) if number else [0]
        join = draw(st.sampled_from([AND, XOR, OR, PARTIAL]))
        cancelling = join == PARTIAL and draw(st.booleans())
        conditions = tuple(draw(st.lists(st.integers(0, 5), max_size=2, unique=True)))
        tasks = tuple(draw(st.lists(st.integers(0, count - 1), max_size=2, unique=True)))
        table.append(
            task(
                [(c, draw(st.sampled_from([1, 1, 1, 2])) if c else 1) for c in inputs],
                [(c, draw(st.sampled_from([1, 1, 2]))) for c in draw(ARCS)],
                join,
                required=draw(st.integers(1, len(inputs))) if join == PARTIAL else 0,
                reads=tuple(draw(st.lists(st.integers(1, 5), max_size=1))) if draw(st.integers(0, 4)) == 0 else (),
                cancels_conditions=conditions if draw(st.integers(0, 2)) == 0 else (),
                cancels_tasks=tasks if draw(st.integers(0, 2)) == 0 else (),
                join_cancels=cancelling,
                join_cancels_conditions=tuple(dict.fromkeys([*inputs, *conditions])) if cancelling else (),
                join_cancels_tasks=tasks if cancelling else (),
                detached=draw(st.integers(0, 5)) == 0,
            )
        )
    return net(*table, conditions=6, implicit=draw(st.booleans()), budget=1_000)


@settings(max_examples=200, deadline=None)
@given(st.data(), nets())
def test_readiness_is_kept_as_if_looked_at_anew(data: st.DataObject, of: Net) -> None:
    """After every step, the ready tasks and the busy count are those of the same state restored from scratch."""
    m = of.marking()
    m.settle()
    known: set[int] = set()
    for _ in range(data.draw(st.integers(1, 12))):
        moves = [("start", t) for t in m.ready()] + [("withdraw", t) for t in m.ready()]
        for t, status in enumerate(m.status):
            if status == BUSY:
                moves += [("complete", t), ("pass_on", t), ("release", t)]
            elif status == DRAINING or m.seen.get(t):
                moves.append(("release", t))
        if not moves:
            break
        action, number = data.draw(st.sampled_from(moves))
        outputs = range(len(of.tables.table[number].outputs))
        chosen = data.draw(st.lists(st.sampled_from(outputs), unique=True))
        if action == "start" and of.tables.table[number].detached:
            m.start(number)
            m.pass_on(number, chosen)
        elif action in ("complete", "pass_on"):
            getattr(m, action)(number, chosen)
        else:
            getattr(m, action)(number)
        m.settle()
        for task in m.changes():
            known.add(task) if task >= 0 else known.remove(~task)
        again = of.marking()
        again.restore(m.tokens, m.status, m.seen)
        assert m.ready() == again.ready() == sorted(known)
        assert m.undecided == again.undecided
        assert m.anything_busy() == again.anything_busy() == any(m.status)
        assert min(m.tokens) >= 0
        assert again.changes() == []


def test_an_aborted_partial_join_forgets_its_round() -> None:
    """Releasing a running partial join resets its memory, so that a later arrival on any input counts anew (rule 5)."""
    m = marked(net(task([2, 3, 4], join=PARTIAL, required=1)), 2, 3)
    m.start(0)
    assert {0: 0b011} == m.seen

    m.release(0)

    assert {} == m.seen
    m = marked(net(task([2, 3], join=PARTIAL, required=1), task([5], [3])), 2, 5)
    m.start(0)
    m.release(0)
    m.start(1)
    m.complete(1, [0])
    assert [3] == places(m)
    assert m.is_ready(0)


def test_a_partial_join_that_cancels_itself_forgets_its_round() -> None:
    """A partial join in its own cancellation set resets when it completes (rule 5)."""
    m = marked(net(task([2, 3], join=PARTIAL, required=1, cancels_tasks=(0,))), 2)
    m.start(0)
    assert {0: 0b01} == m.seen

    m.complete(0, [0])

    assert ({}, [1]) == (m.seen, places(m))


def test_threads_count_whole_weights() -> None:
    """Five tokens on an arc of weight two are two threads (rules 2 and 7)."""
    assert 2 == marked(net(task([(2, 2)])), 2, 2, 2, 2, 2).threads(0)
    assert 2 == marked(net(task([(2, 2), (3, 3)], join=XOR)), 2, 2, 2, 3, 3, 3, 3).threads(0)


def test_a_task_in_its_own_region_does_not_flicker() -> None:
    """A multiple-instance task that passes control and names itself is not ready for a moment in between (rules 5 and 6)."""
    m = marked(net(task([2], continues=True, cancels_tasks=(0,))), 2, 2)
    m.start(0)
    m.changes()

    m.pass_on(0, [0])

    assert ([], [DRAINING]) == (m.changes(), m.status)


def test_a_task_that_was_not_ready_for_a_moment_is_told_of_twice() -> None:
    """What ceased to be ready and is ready again is news, in this order; what came and went is none."""
    m = marked(net(task([2], [2]), task([2, 3]), task([4], [3]), task([3])), 2, 4)

    m.fire(2, [0])
    m.fire(3, [0])
    m.fire(0, [0])

    assert [~0, ~2, 0] == m.changes()
    assert [] == m.changes()


def test_fire_is_start_and_completion() -> None:
    """A task is fired as if it were started and completed, a detached one as if it were started and passed control on."""
    for detached in (False, True):
        of = net(task([2], [3, 4], detached=detached))
        whole, parts = marked(of, 2), marked(of, 2)

        whole.fire(0, [1])
        parts.start(0)
        (parts.pass_on if detached else parts.complete)(0, [1])

        assert ([4], [IDLE], whole.changes()) == (places(whole), whole.status, parts.changes())
        assert places(whole) == places(parts)


@pytest.mark.parametrize("step", ["complete", "pass_on", "fire"])
def test_an_output_that_is_not_there_leaves_the_step_undone(step: str) -> None:
    """A position beyond the outputs raises before anything has happened."""
    m = marked(net(task([2], [3], cancels_conditions=(4,))), 2, 4)
    if step != "fire":
        m.start(0)
    before = (places(m), m.status, m.ready())

    with pytest.raises(IndexError):
        getattr(m, step)(0, [1])

    assert before == (places(m), m.status, m.ready())


def waiting_or_join() -> Any:
    """Task 1 joins conditions 2, marked, and 3, to which task 0 or 2 may bring the token of condition 4; task 3 takes it away."""
    return marked(net(task([4], [3]), task([2, 3], join=OR), task([5], [3]), task([4], [6]), task([6], [7])), 2, 4)


def test_settle_says_whether_an_answer_changed() -> None:
    """True when an OR-join became ready or ceased to be, False when it is as it was or nothing has happened."""
    m = waiting_or_join()
    assert not m.is_ready(1)
    assert False is m.settle()
    m.start(3)

    assert True is m.settle()
    assert (True, False) == (m.is_ready(1), m.settle())
    m.complete(3, [0])
    assert False is m.settle()


def test_settle_says_when_an_answer_ceased() -> None:
    """A join that was ready and has to wait, as one of its tokens is on the way to another input, is news."""
    m = marked(net(task([2], [3]), task([2, 3, 4], join=OR)), 2, 4)
    assert m.ready() == [0, 1]
    m.start(0)

    assert True is m.settle()
    assert m.ready() == []
    m.complete(0, [0])
    assert (True, [1]) == (m.settle(), m.ready())


def test_a_net_has_the_budget_of_the_analysis_where_none_is_named() -> None:
    """An OR-join that only a search can decide is decided in a net that was given no budget."""
    of = net(task([2, 3], join=OR), task([4, 5], [3]), task([6], [5]), task([7], [4], cancels_conditions=(6,)))
    m = marked(of, 2, 6, 7)

    assert (set(), [2, 3]) == (m.undecided, [number for number in m.ready() if number])


@pytest.mark.parametrize("step", ["start", "withdraw", "release"])
def test_an_or_join_is_looked_at_again_after_every_step(step: str) -> None:
    """When the last thread that could reach the join goes elsewhere or is gone, the next settle finds it ready."""
    m = waiting_or_join()
    if step == "release":
        m.start(0)
        m.settle()
        assert not m.is_ready(1)

    getattr(m, step)({"start": 3, "withdraw": 3, "release": 0}[step])
    m.settle()

    assert m.is_ready(1)


def test_one_or_join_of_several_that_changes_is_enough() -> None:
    """The answer to settle does not depend on which OR-join changed."""
    for order in ((0, 1), (1, 0)):
        joins = [task([2, 3], join=OR), task([5, 6], join=OR)]
        m = marked(net(*(joins[n] for n in order), task([4], [3]), task([4], [7])), 2, 4)
        m.start(3)

        assert True is m.settle()


def test_the_two_ends_of_a_net_are_two() -> None:
    """Explicitly a net ends with tokens elsewhere, and not for lack of anything to do; implicitly it is the reverse (rule 8)."""
    explicit, implicit = net(task([0], [2])), net(task([0], [2]), implicit=True)

    assert [True, False] == [marked(explicit, 0, 1).has_ended(), marked(explicit, 2).has_ended()]
    assert [False, True] == [marked(implicit, 0, 1).has_ended(), marked(implicit, 2).has_ended()]


def test_settle_says_so_when_an_or_join_ceases_to_be_ready() -> None:
    """An OR-join with another input marked waits again when a token moves from one of its inputs towards a third."""
    m = marked(net(task([2, 3, 4], join=OR), task([2], [3])), 2, 4)
    assert [0, 1] == m.ready()

    m.start(1)

    assert [True, False] == [m.settle(), m.is_ready(0)]


def test_a_net_without_a_stated_budget_searches_with_the_usual_one() -> None:
    """The question that a budget of one leaves open is decided."""
    m = marked(
        net(task([2, 3], join=OR), task([4, 5], [3]), task([6], [5]), task([7], [4], cancels_conditions=(6,))), 2, 6, 7
    )

    assert (False, set()) == (m.is_ready(0), m.undecided)


def test_each_partial_join_has_its_own_round() -> None:
    """What one partial join has seen says nothing about another (rule 4)."""
    m = marked(net(task([5], [3]), task([2, 3], join=PARTIAL, required=1)), 2, 5)
    m.start(1)

    m.fire(0, [0])

    assert ({}, []) == (m.seen, places(m))
