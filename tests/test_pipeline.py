"""Commands on many cases share the waits of the store, and each is told its own outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knhk import Engine, KnhkError, Outcome, RunningCase, Specification
from knhk.errors import (
    CommandError,
    ConcurrentUpdate,
    DataError,
    IdempotencyConflict,
    IllegalTransition,
    StoreUnavailable,
    UnknownCase,
)
from knhk.ports import Commit
from knhk.stores import MemoryStore
from knhk.testing.clock import ManualClock

PATIENCE = 30
HAND = Specification.from_dict(
    {
        "id": "hand",
        "tasks": [{"id": each, "manual": {}} for each in "ABC"] + [{"id": "out", "external": {"topic": "mail"}}],
        "flows": [
            {"from": a, "to": b} for a, b in (("start", "A"), ("A", "B"), ("B", "C"), ("C", "out"), ("out", "end"))
        ],
        "data": {"type": "object", "properties": {"n": {"type": "integer"}}},
    }
)
AUTO = Specification.from_dict(
    {
        "id": "auto",
        "tasks": [{"id": "one", "handler": "work"}],
        "flows": [{"from": "start", "to": "one"}, {"from": "one", "to": "end"}],
    }
)


class Counted(MemoryStore):
    """A store that notes how many calls came at once, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.before: Callable[[], object] = lambda: None
        self.away = False
        self.stored = threading.Event()

    def commit(self, commits: Sequence[Commit]) -> None:
        """Store, unless it is away."""
        if self.away:
            raise StoreUnavailable("away")
        super().commit(commits)
        self.stored.set()

    def commit_each(self, calls: Sequence[Sequence[Commit]]) -> list[KnhkError | None]:
        """Note it, then store."""
        self.calls.append(len(calls))
        before, self.before = self.before, lambda: None
        before()
        return super().commit_each(calls)


class Numbers:
    """Ids that say in which order they were given."""

    def __init__(self, prefix: str = "case") -> None:
        self._prefix = prefix
        self._last = 0

    def next_id(self) -> str:
        """Return the next."""
        self._last += 1
        return f"{self._prefix} {self._last}"


def engine_on(store: MemoryStore, instance: str | None = None) -> Engine:
    """Return an engine on a store, alone or as one of several."""
    engine = Engine(store, clock=ManualClock(1), ids=Numbers(instance or "case"), instance=instance)
    engine.register(HAND)
    engine.register(AUTO)
    engine.handler("work")(lambda work: {"done": True})
    return engine


def started(engine: Engine, count: int) -> list[RunningCase]:
    """Return started cases."""
    return [engine.create_case("hand", start=True) for _ in range(count)]


def told(outcomes: Sequence[Outcome[Any]]) -> list[type[Exception] | None]:
    """Return of each outcome the kind of its error."""
    return [None if each.error is None else type(each.error) for each in outcomes]


@pytest.fixture
def store() -> Counted:
    """Make a store that counts."""
    return Counted()


@pytest.fixture
def engine(store: Counted) -> Iterator[Engine]:
    """Make an engine on it."""
    with engine_on(store) as made:
        yield made


# --- what is shared ---------------------------------------------------------------------------------------------------


def test_commands_share_the_waits_of_the_store(engine: Engine, store: Counted) -> None:
    """So many commands as are said go to the store at once, in their order, and the last with what is left."""
    cases = started(engine, 10)

    outcomes = engine.pipeline((partial(each.complete_task, "A", {"n": 1}) for each in cases), together=4)

    assert [None] * 10 == [each.result() for each in outcomes]
    assert [4, 4, 2] == store.calls
    assert {("running", 1)} == {(each.state, each.data["n"]) for each in cases}
    assert [2] * 10 == [store.header(each.id).version for each in cases]


def test_result_of_a_command_is_in_its_outcome(engine: Engine) -> None:
    """What a command returns is its outcome's, once what it did is stored."""
    first, second = started(engine, 2)

    outcomes: list[Outcome[Any]] = engine.pipeline(
        [partial(first.send_event, "nobody"), second.work_items, second.retry_failed]
    )

    assert (0, 0) == (outcomes[0].result(), outcomes[2].result())
    assert ["A"] == [each.path for each in outcomes[1].result()]


def test_commands_on_one_case_are_done_in_their_order(engine: Engine, store: Counted) -> None:
    """The second command on a case begins where the store has what the first did."""
    first, second = started(engine, 2)
    commands = [partial(first.complete_task, each) for each in "AB"]

    outcomes = engine.pipeline([commands[0], partial(second.complete_task, "A"), commands[1]])

    assert [None, None, None] == told(outcomes)
    assert [2, 1] == store.calls
    assert (["C"], ["B"]) == (first.enabled, second.enabled)


def test_a_command_that_looks_sees_what_is_stored(engine: Engine, store: Counted) -> None:
    """What a command reads, or does by itself, comes after all that waited is in the store."""
    first, second = started(engine, 2)

    def look() -> tuple[int, int]:
        second.complete_task("A")
        return len([*engine.work_items()]), store.header(second.id).version

    outcomes = engine.pipeline([partial(first.complete_task, "A"), look, second.suspend])

    assert (2, 2) == outcomes[1].result()
    assert "suspended" == second.state


def test_a_case_is_looked_at_as_it_is_stored(engine: Engine, store: Counted) -> None:
    """Whoever looks at a case whose command waits finds it stored, and its automatic work is begun only then."""
    (hand,) = started(engine, 1)
    auto = engine.create_case("auto")
    seen: list[int] = []
    engine.handler("work")(lambda work: seen.append(store.header(auto.id).version))

    outcomes: list[Outcome[Any]] = engine.pipeline(
        [
            partial(hand.complete_task, "A"),
            lambda: (hand.enabled, store.header(hand.id).version),
            auto.start,
            partial(auto.run, until=lambda: False),
        ]
    )

    assert [None] * 4 == told(outcomes)
    assert (["B"], 2) == outcomes[1].result()
    # Created, started, and begun.
    assert [3] == seen
    assert "completed" == auto.state


# --- new cases --------------------------------------------------------------------------------------------------------


def test_new_cases_share_the_waits_too(engine: Engine, store: Counted) -> None:
    """Cases that are created, and started, by a pipeline are there when it returns, after one call of the store."""
    outcomes = engine.pipeline(
        [partial(engine.create_case, "hand", {"n": each}, start=each % 2 > 0) for each in range(4)]
        + [partial(engine.create_case, "hand", {"n": "one"})]
    )

    assert [None, None, None, None, DataError] == told(outcomes)
    assert [4] == store.calls
    assert ["created", "running"] * 2 == [each.result().state for each in outcomes[:4]]
    assert 4 == len([*engine.cases()])


def test_new_case_can_be_gone_on_with_at_once(engine: Engine) -> None:
    """A command that creates a case and runs it finds it in the store."""
    outcomes = engine.pipeline([lambda: engine.create_case("auto", start=True).run()] * 3)

    assert ["completed"] * 3 == [each.result().state for each in outcomes]
    assert [{"done": True}] * 3 == [engine.case(each.result().id).data for each in outcomes]


def test_new_cases_with_a_key(engine: Engine) -> None:
    """The same request twice in a pipeline is one case, and another request with its key is refused."""
    create = partial(engine.create_case, "hand", start=True, idempotency_key="k")
    outcomes = engine.pipeline([create, create, partial(create, {"n": 1})])

    assert [None, None, IdempotencyConflict] == told(outcomes)
    assert outcomes[0].result().id == outcomes[1].result().id
    assert 1 == len([*engine.cases()])


# --- errors -----------------------------------------------------------------------------------------------------------


def test_refused_command_fails_alone(engine: Engine) -> None:
    """What the case refuses, the data's schema, or a bug in the command, is the error of its command."""
    cases = started(engine, 5)
    commands: list[Callable[[], None]] = [partial(each.complete_task, "A") for each in cases]
    commands[1] = partial(cases[1].complete_task, "C")
    commands[2] = partial(cases[2].complete_task, "A", {"n": "one"})
    commands[3] = lambda: {}["nothing"]

    outcomes = engine.pipeline(commands)

    assert [None, CommandError, DataError, KeyError, None] == [
        each if each is None or not issubclass(each, CommandError) else CommandError for each in told(outcomes)
    ]
    assert ["B", "A", "A", "A", "B"] == [each.enabled[0] for each in cases]
    with pytest.raises(DataError):
        outcomes[2].result()


def test_case_that_another_engine_moved_fails_alone(engine: Engine, store: Counted) -> None:
    """Alone on its store an engine is told of another that moved a case, and the commands on other cases are stored."""
    cases = started(engine, 3)
    other = engine_on(store)
    other.case(cases[1].id).complete_task("A", {"n": 7})

    outcomes = engine.pipeline([partial(each.complete_task, "A") for each in cases])

    assert [None, ConcurrentUpdate, None] == told(outcomes)
    assert [{}, {"n": 7}, {}] == [each.data for each in cases]


def test_store_that_fails_fails_all(engine: Engine, store: Counted) -> None:
    """Where the store fails each command has its error, and every case is as the store has it."""
    cases = started(engine, 3)
    store.away = True

    outcomes: list[Outcome[Any]] = engine.pipeline(
        [*(partial(each.complete_task, "A") for each in cases), partial(engine.create_case, "hand")]
    )
    store.away = False

    assert [StoreUnavailable] * 4 == told(outcomes)
    assert [None] * 4 == [each.value for each in outcomes]
    assert 3 == len([*engine.cases()])
    assert [["A"]] * 3 == [each.enabled for each in cases]
    assert [None] * 3 == told(engine.pipeline([partial(each.complete_task, "A") for each in cases]))


def test_command_goes_on_no_more_where_its_beginning_is_refused(engine: Engine, store: Counted) -> None:
    """A command that does several things ends at the first that the store refuses."""
    first, second = started(engine, 2)
    other = engine_on(store)
    other.case(second.id).complete_task("A", {"n": 7})

    def both() -> None:
        second.complete_task("A")
        second.complete_task("B")

    outcomes = engine.pipeline([partial(first.complete_task, "A"), both])

    assert [None, ConcurrentUpdate] == told(outcomes)
    assert (["B"], {"n": 7}) == (second.enabled, second.data)


@pytest.mark.parametrize("where", ["command", "store"])
def test_interrupt_leaves_the_cases_as_they_are_stored(engine: Engine, store: Counted, where: str) -> None:
    """After an interrupt nothing is acknowledged, no case is locked, and what is in memory is what is stored."""
    cases = started(engine, 3)

    def interrupt() -> None:
        raise KeyboardInterrupt

    commands: list[Callable[[], None]] = [partial(each.complete_task, "A") for each in cases]
    if where == "command":
        commands.append(interrupt)
    else:
        store.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        engine.pipeline(commands)

    enabled: list[list[str]] = []
    thread = threading.Thread(target=lambda: enabled.extend(each.enabled for each in cases), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert [["A"]] * 3 == enabled


# --- several instances ------------------------------------------------------------------------------------------------


def test_command_that_loses_is_done_again() -> None:
    """Among several instances a command on a case that another has moved is done again on the case as it is, in its order."""
    store = Counted()
    mine, theirs = engine_on(store, "mine"), engine_on(store, "theirs")
    cases = started(mine, 3)
    theirs.case(cases[1].id).start_task("A", by="them")

    outcomes = mine.pipeline(
        [
            partial(cases[0].complete_task, "A"),
            partial(cases[1].complete_task, "A"),
            partial(cases[2].complete_task, "A"),
            partial(cases[1].complete_task, "B"),
        ]
    )

    assert [None] * 4 == told(outcomes)
    assert [3, 1] == store.calls
    assert [["B"], ["C"], ["B"]] == [each.enabled for each in cases]


def test_command_that_loses_while_its_commit_waits_is_done_again() -> None:
    """A case that another instance moves before the commit takes no other along; what is refused then is refused for good."""
    store = Counted()
    mine, theirs = engine_on(store, "mine"), engine_on(store, "theirs")
    cases = started(mine, 3)
    store.before = lambda: theirs.case(cases[1].id).suspend()

    outcomes = mine.pipeline([partial(each.complete_task, "A") for each in cases])

    assert [None, IllegalTransition, None] == told(outcomes)
    assert ["running", "suspended", "running"] == [each.state for each in cases]
    assert [["B"], ["B"]] == [cases[0].enabled, cases[2].enabled]


def test_command_on_two_cases_that_loses_one_is_not_done_again() -> None:
    """A command that has done something else that is stored is told of the part that lost, and nothing is done twice."""
    store = Counted()
    mine, theirs = engine_on(store, "mine"), engine_on(store, "theirs")
    first, second = started(mine, 2)
    theirs.case(second.id).start_task("A", by="them")

    def both() -> None:
        first.complete_task("A")
        second.complete_task("A")

    outcomes = mine.pipeline([both])

    assert [ConcurrentUpdate] == told(outcomes)
    assert (["B"], ["A"]) == (first.enabled, second.running)


def test_command_that_did_something_else_is_not_done_again() -> None:
    """A command that has stored something by itself before its commit lost is told so, and nothing is done twice."""
    store = Counted()
    mine, theirs = engine_on(store, "mine"), engine_on(store, "theirs")
    first, second = started(mine, 2)
    theirs.case(second.id).start_task("A", by="them")
    seen: list[list[str]] = []

    def look_and_complete() -> None:
        seen.append(first.enabled)
        second.complete_task("A")

    outcomes = mine.pipeline([look_and_complete])

    assert [ConcurrentUpdate] == told(outcomes)
    assert [["A"]] == seen
    assert ["A"] == second.running


def test_case_that_is_gone_from_the_store_is_unknown() -> None:
    """A command on a case that never was is refused by itself."""
    store = Counted()
    mine = engine_on(store, "mine")
    (case,) = started(mine, 1)

    outcomes = mine.pipeline([partial(case.complete_task, "A"), partial(case.sibling("nobody").start)])

    assert [None, UnknownCase] == told(outcomes)


# --- threads ----------------------------------------------------------------------------------------------------------


def test_nobody_waits_for_a_case_while_he_has_others(engine: Engine, store: Counted) -> None:
    """Before a pipeline waits for a case that another thread has, it stores what it has done and lets those cases go."""
    first, second = started(engine, 2)
    ready = threading.Event()
    seen: list[bool] = []

    def hold_the_second() -> None:
        with second.expecting(None):
            ready.set()
            # It wants the first while it has the second.
            seen.append(store.stored.wait(PATIENCE) and first.enabled == ["B"])

    store.stored.clear()
    thread = threading.Thread(target=hold_the_second, daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    outcomes = engine.pipeline([partial(first.complete_task, "A"), partial(second.complete_task, "A")])
    thread.join(PATIENCE)

    assert [None, None] == told(outcomes)
    assert [True] == seen


def test_pipelines_over_the_same_cases_in_any_order(engine: Engine) -> None:
    """Threads whose pipelines want the same cases in different orders all come to their end, and every case moves once."""
    cases = started(engine, 12)
    results: list[list[type[Exception] | None]] = []

    def work(shift: int) -> None:
        mine = cases[shift:] + cases[:shift]
        results.append(
            told(engine.pipeline([partial(each.complete_task, "A") for each in mine[:: 1 - 2 * (shift % 2)]]))
        )

    threads = [threading.Thread(target=work, args=(each,), daemon=True) for each in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)

    assert 8 == len(results)
    assert 12 == sum(error is None for outcomes in results for error in outcomes)
    assert {2} == {each.version for each in cases}


# --- as by themselves -------------------------------------------------------------------------------------------------


COMMANDS: dict[str, Callable[[RunningCase], object]] = {
    "A": lambda case: case.complete_task("A", {"n": 1}),
    "B": lambda case: case.complete_task("B"),
    "start": lambda case: case.start_task("C"),
    "C": lambda case: case.complete_task("C"),
    "bad": lambda case: case.complete_task("A", {"n": "x"}),
    "suspend": lambda case: case.suspend(),
    "resume": lambda case: case.resume(),
    "event": lambda case: case.send_event("any"),
    "look": lambda case: case.view(),
    "item": lambda case: case.work_items()[0].complete({"n": 2}),
    "cancel": lambda case: case.cancel(),
}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(sorted(COMMANDS))), max_size=24),
    st.integers(1, 9),
    st.booleans(),
)
def test_pipeline_does_what_the_commands_do_by_themselves(
    asked: list[tuple[int, str]], together: int, shared: bool
) -> None:
    """Whatever commands come on whatever cases: outcomes and histories are those of the commands one by one."""
    ways = []
    for pipelined in (True, False):
        engine = engine_on(MemoryStore(), "one" if shared else None)
        cases = started(engine, 4)
        commands = [partial(COMMANDS[name], cases[place]) for place, name in asked]
        outcomes: list[Outcome[object]] = []
        if pipelined:
            outcomes = engine.pipeline(commands, together=together)
        else:
            for each in commands:
                outcomes += engine.pipeline([each], together=1)
        ways.append(
            (
                [(str(each.error), type(each.error), each.value) for each in outcomes],
                [engine.store.whole(each.id) for each in cases],
                [*engine.work_items()],
            )
        )

    assert ways[0] == ways[1]


def test_pipeline_in_a_pipeline(engine: Engine, store: Counted) -> None:
    """A command may run a pipeline of its own: what waited before it is stored first."""
    cases = started(engine, 4)

    def inner() -> list[type[Exception] | None]:
        return told(engine.pipeline([partial(each.complete_task, "A") for each in cases[1:3]]))

    outcomes = engine.pipeline(
        [partial(cases[0].complete_task, "A"), inner, partial(cases[3].complete_task, "A"), partial(cases[0].suspend)]
    )

    assert [None, None, None, None] == told(outcomes)
    assert [None, None] == outcomes[1].result()
    assert [1, 2, 2] == store.calls


def test_external_work_is_completed_together(engine: Engine, store: Counted) -> None:
    """A worker's claims can be completed by a pipeline, and one that was lost is refused alone."""
    cases = started(engine, 3)
    for each in "ABC":
        engine.pipeline([partial(case.complete_task, each) for case in cases])
    store.calls.clear()
    claims = engine.claim("mail", worker="w", max=3)
    claims[1].fail("no")

    outcomes = engine.pipeline([partial(engine.external.complete, each.id, each.token, {"n": 9}) for each in claims])

    assert [False, True, False] == [each is not None for each in told(outcomes)]
    assert [2] == store.calls
    assert ["completed", "failed", "completed"] == [engine.case(each.case_id).state for each in claims]
