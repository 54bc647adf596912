"""The life of work of people: who may do what with it, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

import knhk
from knhk import Forbidden, IllegalTransition
from knhk.people import Guarded, works_for
from knhk.stores._worklist import find_items
from knhk.testing.clock import ManualClock
from tests.people import EVERY_PRIVILEGE, HOUR, begun, office, queues, work_of

CLERKS = {"roles": ["clerk"]}


# --- offering -------------------------------------------------------------------------------------------------------------


def test_work_is_offered_to_those_it_is_for() -> None:
    """A task's roles and participants see its item, each in the queue of what is offered, and nobody else does."""
    engine, _ = begun({"check": {"roles": ["clerk"], "participants": ["dora"]}})

    assert [queues(engine, each) for each in ("ann", "cleo", "dora")] == [{"offered": ["check"]}] * 3
    assert queues(engine, "root") == {}


def test_a_task_for_nobody_in_particular_is_for_everybody() -> None:
    """Manual work without roles and participants is offered to every participant."""
    engine, case = begun({"check": True})

    assert queues(engine, "dora") == {"offered": ["check"]}
    case.work_items()[0].start(by="dora")


def test_capabilities_and_positions_narrow_the_offer() -> None:
    """Of those a task is for, only who has all its capabilities and one of its positions gets it."""
    for manual, able in (
        ({"roles": ["clerk"], "capabilities": ["dutch", "forklift"]}, {"ben"}),
        ({"capabilities": ["dutch"]}, {"ann", "ben"}),
        ({"positions": ["head", "teller"]}, {"ann", "cleo"}),
        ({"roles": ["clerk"], "positions": ["teller"], "capabilities": ["dutch"]}, {"ann"}),
    ):
        engine, case = begun({"check": manual})
        people = ("ann", "ben", "cleo", "dora")

        assert {each for each in people if queues(engine, each)} == able
        for each in people:
            if each not in able:
                with pytest.raises(Forbidden, match=f"'{each}' may not start check: it "):
                    case.work_items()[0].start(by=each)


def test_what_nobody_may_do_is_unoffered() -> None:
    """An item for which no active participant fits waits, unoffered, for an administrator to say whom it is for."""
    engine, case = begun({"check": {"roles": ["auditor"], "capabilities": ["dutch"]}})
    (item,) = case.work_items()

    assert item.state == "unoffered"
    assert [row.path for row in engine.work_items(state="unoffered")] == ["check"]
    with pytest.raises(Forbidden, match="'dora' may not start check: it is offered to nobody; an administrator"):
        item.start(by="dora")
    item.offer(["participant:dora"], by="root")
    assert queues(engine, "dora") == {"offered": ["check"]}
    item.start(by="dora")


def test_a_person_may_decide_whom_work_is_offered_to() -> None:
    """Where the modeller says so, every item waits, unoffered, until an administrator offers or allocates it."""
    engine, case = begun({"check": {"roles": ["clerk"], "offer": "participant"}})
    (item,) = case.work_items()

    assert item.state == "unoffered"
    assert case.enabled == ["check"]
    with pytest.raises(IllegalTransition, match="cannot complete work item check: it is unoffered"):
        item.complete(by="root")
    item.offer(by="root")
    assert queues(engine, "ann") == {"offered": ["check"]}


def test_participants_may_come_from_the_data() -> None:
    """An expression over the case's data gives further participants: a name, or a list of names."""
    for value, able in (("dora", ["dora"]), (["ann", "dora"], ["ann", "dora"])):
        engine, _ = begun({"check": {"participants_from": "data.who"}}, data={"who": value})

        assert [each for each in ("ann", "ben", "dora") if queues(engine, each)] == able


@pytest.mark.parametrize("value", [7, [7], "", [""], {"ann": 1}, None])
def test_data_that_name_nobody_are_refused(value: Any) -> None:
    """An expression that gives neither a name nor a list of names is a DataError with its place."""
    with pytest.raises(
        knhk.DataError, match=r"check: must give the name of a participant or a list of names.*data.who"
    ):
        begun({"check": {"participants_from": "data.who"}}, data={"who": value})


# --- who may --------------------------------------------------------------------------------------------------------------


def test_a_command_needs_a_participant_who_is_there() -> None:
    """Without a name, with one that the directory does not know, or of somebody who has left, a command is refused."""
    _, case = begun({"check": CLERKS})
    item = case.work_items()[0]
    before = case.history()

    for name, why in (
        ("", r"say who does it \(by\)"),
        ("zed", "the directory has no participant 'zed'"),
        ("gone", "'gone' is not active"),
    ):
        with pytest.raises(Forbidden, match=f"cannot start check: {why}") as caught:
            item.start(by=name)
        assert (caught.value.participant, caught.value.command) == (name, "start")
        with pytest.raises(Forbidden, match=f"cannot start check: {why}"):
            case.start_task("check", by=name)
    assert case.history() == before


def test_only_those_it_is_for_take_it_up() -> None:
    """Who is not among those whom an offered item is for is told whom it is for; by path as by number."""
    _, case = begun({"check": {"roles": ["clerk"], "participants": ["root"]}})
    item = case.work_items()[0]
    reason = "'dora' may not {} check: it is for role clerk or participant root"
    commands: list[tuple[str, Callable[[], None]]] = [
        ("start", lambda: item.start(by="dora")),
        ("complete", lambda: item.complete(by="dora")),
        ("allocate", lambda: item.allocate("dora")),
        ("start", lambda: case.start_task("check", by="dora")),
        ("complete", lambda: case.complete_task("check", by="dora")),
    ]

    for command, give in commands:
        with pytest.raises(Forbidden, match=reason.format(command)):
            give()


def test_what_somebody_has_is_his() -> None:
    """Allocated and started work takes commands from whoever has it, and from an administrator, and from nobody else."""
    engine, case = begun({"check": {"roles": ["clerk"], "privileges": EVERY_PRIVILEGE}})
    item = case.work_items()[0]
    item.allocate("ann")

    assert queues(engine, "ann") == {"allocated": ["check"]}
    assert queues(engine, "ben") == {}
    with pytest.raises(Forbidden, match="'ben' may not start check: it is allocated to 'ann', who may"):
        item.start(by="ben")
    item.start(by="ann")
    assert queues(engine, "ann") == {"started": ["check"]}
    for give in (
        lambda: item.complete(by="ben"),
        lambda: item.suspend(by="ben"),
        lambda: item.fail(by="ben"),
        lambda: item.save({}, by="ben"),
        lambda: item.skip(by="ben"),
        lambda: item.reallocate("ben", by="ben"),
    ):
        with pytest.raises(Forbidden, match="'ben' may not .* check: it is done by 'ann', who may, as may an admin"):
            give()
    item.suspend(by="ann")
    assert queues(engine, "ann") == {"suspended": ["check"]}
    item.resume(by="root")
    item.complete({"ok": True}, by="ann")
    assert (case.state, case.data) == ("completed", {"ok": True})


@pytest.mark.parametrize(
    ("privilege", "state", "give"),
    [
        ("suspend", "started", lambda item: item.suspend(by="ann")),
        ("deallocate", "allocated", lambda item: item.offer(by="ann")),
        ("delegate", "allocated", lambda item: item.delegate("ben", by="ann")),
        ("reallocate", "started", lambda item: item.reallocate("ben", by="ann")),
        ("skip", "allocated", lambda item: item.skip(by="ann")),
        ("pile", "offered", lambda item: item.pile(by="ann")),
        ("chain", "offered", lambda item: item.chain(by="ann")),
    ],
)
def test_privileges_are_what_the_task_gives(privilege: str, state: str, give: Callable[[knhk.WorkItem], None]) -> None:
    """What goes beyond starting and completing needs a privilege that the task gives; the refusal says which it gives."""
    for granted in ([], [privilege]):
        _, case = begun({"check": {"roles": ["clerk"], "privileges": granted}})
        item = case.work_items()[0]
        if state == "allocated":
            item.allocate("ann")
        elif state == "started":
            item.start(by="ann")

        if granted:
            give(item)
        else:
            with pytest.raises(Forbidden, match=r"does not give its participants that privilege \(it gives: none\)"):
                give(item)


def test_an_administrator_needs_no_privilege() -> None:
    """An administrator offers, allocates, hands on and skips the work of others."""
    engine, case = begun({"check": CLERKS})
    item = case.work_items()[0]

    item.allocate("ben", by="root")
    item.allocate("ann", by="root")
    item.delegate("cleo", by="root")
    item.offer(by="root")
    assert queues(engine, "ann") == {"offered": ["check"]}
    item.start(by="ann")
    item.reallocate("dora", by="root")
    assert queues(engine, "dora") == {"started": ["check"]}
    item.skip(by="root")
    assert case.state == "completed"


def test_offered_work_is_taken_not_given() -> None:
    """A participant takes offered work for himself; only an administrator gives it to others."""
    _, case = begun({"check": {"roles": ["clerk"], "privileges": EVERY_PRIVILEGE}})

    with pytest.raises(Forbidden, match="only an administrator gives offered work to others"):
        case.work_items()[0].allocate("ben", by="ann")


def test_work_is_handed_on_to_those_who_may_do_it_or_report() -> None:
    """Work goes to a participant who may do it, or who reports to the one who hands it on, and to nobody else."""
    manual = {"roles": ["senior"], "privileges": ["delegate"]}
    _, case = begun({"check": manual})
    item = case.work_items()[0]
    item.allocate("cleo")

    with pytest.raises(Forbidden, match="'ben' cannot have it, because it is for role senior, and does not report to"):
        item.delegate("ben", by="cleo")
    with pytest.raises(Forbidden, match="the directory has no participant 'zed'"):
        item.delegate("zed", by="cleo")
    with pytest.raises(Forbidden, match=r"say who gets it \(to\)"):
        item.delegate("", by="cleo")
    item.delegate("ann", by="cleo")
    assert item.by == "ann"


# --- handing on, saving, skipping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "data"), [(True, {"a": 1, "b": 2}), (False, {"b": 2})])
def test_reallocation_is_stateful_or_stateless(keep: bool, data: dict[str, int]) -> None:  # noqa: FBT001 - a parameter
    """What was saved goes on with the work, or is dropped, when it is handed to another."""
    engine, case = begun({"check": {"roles": ["clerk"], "privileges": ["reallocate"]}})
    item = case.work_items()[0]
    item.start(by="ann")
    item.save({"a": 0}, by="ann")
    item.save({"a": 1}, by="ann")
    assert item.draft == {"a": 1}

    item.reallocate("ben", by="ann", keep=keep)
    engine.evict()
    item.complete({"b": 2}, by="ben")

    assert case.data == data


def test_suspended_work_is_handed_on_suspended() -> None:
    """Whoever gets suspended work has it suspended."""
    engine, case = begun({"check": {"roles": ["clerk"], "privileges": ["suspend", "reallocate"]}})
    item = case.work_items()[0]
    item.start(by="ann")
    item.suspend(by="ann")
    item.reallocate("ben", by="ann")

    assert queues(engine, "ben") == {"suspended": ["check"]}
    item.resume(by="ben")
    item.complete(by="ben")


def test_skipped_work_is_completed_without_output() -> None:
    """Offered, allocated, started and unoffered work can be skipped: its draft is dropped, and control passes."""
    for prepare in (
        lambda _: None,
        lambda item: item.allocate("ann"),
        lambda item: (item.start(by="ann"), item.save({"a": 1}, by="ann")),
    ):
        _, case = begun({"check": {"roles": ["clerk"], "privileges": ["skip"]}, "file": True})
        item = case.work_items()[0]
        prepare(item)

        item.skip(by="ann")

        assert (case.data, case.enabled) == ({}, ["file"])
        told = [(each.kind.value, dict(each.details)) for each in case.history() if each.path == "check"]
        assert ("item_skipped", {"by": "ann"}) in told


def test_commands_that_do_not_fit_the_state_are_refused() -> None:
    """Each command of people is refused in a state that it is not for, with the states that it is for."""
    _, case = begun({"check": {"roles": ["clerk"], "privileges": EVERY_PRIVILEGE}})
    item = case.work_items()[0]

    for command, give in (
        ("delegate", lambda: item.delegate("ben", by="ann")),
        ("reallocate", lambda: item.reallocate("ben", by="ann")),
        ("save", lambda: item.save({}, by="ann")),
    ):
        with pytest.raises(IllegalTransition, match=f"cannot {command} work item check: it is offered, and has to be"):
            give()
    item.start(by="ann")
    with pytest.raises(IllegalTransition, match="cannot offer work item check: it is started"):
        item.offer(["role:clerk"], by="root")
    with pytest.raises(IllegalTransition, match="cannot allocate work item check: it is started"):
        item.allocate("ben", by="root")
    with pytest.raises(knhk.DataError, match="to: an item is offered to role:NAME or participant:NAME, not to 'clerk'"):
        item.offer(["clerk"], by="root")
    with pytest.raises(knhk.DataError, match="not to 'nobody'"):
        item.offer([], by="root")


def test_work_is_offered_to_somebody_who_is_there() -> None:
    """An offer to a role that nobody active has, or to somebody who has left, is refused; one of several is enough."""
    engine, case = begun({"check": {"offer": "participant"}})
    item = case.work_items()[0]
    for to in (["role:pilot"], ["participant:gone"], ["participant:zed", "role:pilot"]):
        with pytest.raises(Forbidden, match="cannot offer check: nobody who is active is (role|participant) "):
            item.offer(to, by="root")
    assert case.work_items()[0].state == "unoffered"

    item.offer(["role:pilot", "role:auditor"], by="root")

    assert queues(engine, "dora") == {"offered": ["check"]}


def test_work_of_programs_is_not_handed_on() -> None:
    """External work takes no command that is for people, and needs no participant."""
    net = knhk.build("parcel")
    net.sequence(net.start, net.task("label", external="labels"), net.end)
    engine = knhk.Engine(directory=office())
    engine.register(net.specification())
    item = engine.create_case("parcel").run().work_items()[0]

    with pytest.raises(IllegalTransition, match="cannot skip label: it is not work of people"):
        item.skip(by="ann")
    item.allocate("printer-3")
    item.complete(by="printer-3")


# --- starting -------------------------------------------------------------------------------------------------------------


def test_the_engine_may_start_what_was_allocated() -> None:
    """Where the system decides about the start, work is started as soon as somebody has it."""
    engine, case = begun({"check": {"roles": ["clerk"], "start": "system", "privileges": ["reallocate"]}})
    case.work_items()[0].allocate("ann")

    assert queues(engine, "ann") == {"started": ["check"]}


def test_a_decided_choice_withdraws_the_other_offers() -> None:
    """When the engine starts work in a deferred choice, the alternatives are offered to nobody any more."""
    tree: dict[str, Any] = {
        "id": "work",
        "tasks": {"a": {"manual": {"roles": ["clerk"], "start": "system"}}, "b": {"manual": {"roles": ["auditor"]}}},
        "flows": [{"from": s, "to": t} for s, t in (("start", "a"), ("start", "b"), ("a", "end"), ("b", "end"))],
    }
    engine = knhk.Engine(directory=office())
    engine.register(knhk.Specification.from_dict(tree))
    case = engine.create_case("work").run()
    assert queues(engine, "dora") == {"offered": ["b"]}

    next(item for item in case.work_items() if item.path == "a").allocate("ben")

    assert (queues(engine, "dora"), queues(engine, "ben")) == ({}, {"started": ["a"]})


# --- several instances ----------------------------------------------------------------------------------------------------


def test_instances_are_shared_out_one_by_one() -> None:
    """The instances of work that says more than roles are offered each for itself; a member of a committee has one."""
    tree: dict[str, Any] = {
        "id": "work",
        "tasks": {
            "vote": {
                "manual": {"roles": ["clerk"], "separate_from": ["vote"]},
                "multiple": {"count": 3, "threshold": 2},
            }
        },
        "flows": [{"from": "start", "to": "vote"}, {"from": "vote", "to": "end"}],
    }
    engine = knhk.Engine(directory=office())
    engine.register(knhk.Specification.from_dict(tree))
    case = engine.create_case("work").run()
    assert queues(engine, "ann") == {"offered": ["vote#1", "vote#2", "vote#3"]}

    first, second, _ = case.work_items()
    first.start(by="ann")

    assert queues(engine, "ann") == {"started": ["vote#1"]}
    with pytest.raises(Forbidden, match="'ann' may not start vote#2: 'ann' did vote in this case"):
        second.start(by="ann")
    first.complete(by="ann")
    second.complete(by="ben")
    assert case.state == "completed"


def test_an_added_instance_is_offered_too() -> None:
    """An instance that is added to shared-out work is offered like the others."""
    tree: dict[str, Any] = {
        "id": "work",
        "tasks": {
            "read": {
                "manual": {"roles": ["clerk"], "escalate": [{"after": "1h", "priority": 3}]},
                "multiple": {"count": 1, "creation": "dynamic", "maximum": 3},
            }
        },
        "flows": [{"from": "start", "to": "read"}, {"from": "read", "to": "end"}],
    }
    engine = knhk.Engine(directory=office())
    engine.register(knhk.Specification.from_dict(tree))
    case = engine.create_case("work").run()
    case.add_instance("read")

    assert queues(engine, "ben") == {"offered": ["read#1", "read#2"]}
    assert case.next_due is not None


def test_work_with_a_timer_comes_up_when_it_is_due() -> None:
    """Work that waits for its timer is offered when that is due, to those it is for, with its clock running from then on."""
    tree: dict[str, Any] = {
        "id": "work",
        "tasks": {
            "remind": {"timer": "2h", "manual": {"roles": ["clerk"], "escalate": [{"after": "1h", "priority": 3}]}}
        },
        "flows": [{"from": "start", "to": "remind"}, {"from": "remind", "to": "end"}],
    }
    engine = knhk.Engine(directory=office(), clock=ManualClock(0))
    engine.register(knhk.Specification.from_dict(tree))
    case = engine.create_case("work").run()
    assert queues(engine, "ann") == {}
    engine.tick(2 * HOUR)

    assert queues(engine, "ann") == {"offered": ["remind"]}
    assert case.next_due == 3 * HOUR
    with pytest.raises(Forbidden, match="it is for role clerk"):
        case.start_task("remind", by="dora")
    case.start_task("remind", by="ann")
    case.complete_task("remind", by="ann")
    assert case.state == "completed"


def test_plain_work_starts_all_its_instances_together() -> None:
    """Work that says no more than its roles stays as it was: one offer, and whoever starts it starts all instances."""
    tree: dict[str, Any] = {
        "id": "work",
        "tasks": {"vote": {"manual": {"roles": ["clerk"]}, "multiple": {"count": 2}}},
        "flows": [{"from": "start", "to": "vote"}, {"from": "vote", "to": "end"}],
    }
    engine = knhk.Engine(directory=office())
    engine.register(knhk.Specification.from_dict(tree))
    case = engine.create_case("work").run()
    item = case.work_items()[0]
    with pytest.raises(IllegalTransition, match="it has several instances; start it first"):
        item.skip(by="root")

    item.start(by="ann")

    assert queues(engine, "ann") == {"started": ["vote#1", "vote#2"]}


# --- without a directory --------------------------------------------------------------------------------------------------


def test_without_a_directory_names_are_taken_as_they_are() -> None:
    """An engine that was told of nobody asks nobody: every name, and none, may do everything with plain work."""
    engine = knhk.Engine()
    engine.register(work_of({"check": CLERKS}))
    item = engine.create_case("work").run().work_items()[0]

    assert engine.directory is None
    item.allocate("anybody")
    item.start()
    assert item.by == "anybody"
    item.complete(by="somebody else")


def test_without_a_directory_a_worklist_needs_the_roles() -> None:
    """Whoever lists work without a directory says himself which roles somebody has."""
    engine = knhk.Engine()
    engine.register(work_of({"check": CLERKS}))
    engine.create_case("work").run()

    assert [row.path for row in engine.worklist("ann", roles=["clerk"]).offered()] == ["check"]
    assert list(engine.worklist("ann").offered()) == []


def test_piles_and_chains_need_a_directory() -> None:
    """Without a directory nobody can have all work of a task or a case, and is told so."""
    engine = knhk.Engine()
    engine.register(work_of({"check": {"privileges": ["pile", "chain"]}}))
    item = engine.create_case("work").run().work_items()[0]

    for give in (lambda: item.pile(by="ann"), lambda: item.chain(by="ann")):
        with pytest.raises(knhk.CommandError, match=r"the engine has no directory \(Engine\(directory=...\)\)"):
            give()


# --- worklists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["memory:", "sqlite"])
def test_queues_come_in_pages(tmp_path: Any, target: str) -> None:
    """A queue is read page by page in the order of (case, number), and each item is on one page."""
    address = str(tmp_path / "w.db") if target == "sqlite" else target
    with knhk.Engine(address, directory=office(), durability="off" if target == "sqlite" else "full") as engine:
        engine.register(work_of({"a": CLERKS, "b": {"participants": ["ann"]}}, parallel=True))
        cases = [engine.create_case("work").run() for _ in range(7)]
        worklist = engine.worklist("ann")
        expected = [
            (case.id, item.number) for case in sorted(cases, key=lambda each: each.id) for item in case.work_items()
        ]

        assert repr(worklist) == "<worklist of ann>"
        assert [(row.case_id, row.number) for row in worklist.offered()] == expected
        found, page = [], worklist.page("offered", limit=4)
        while True:
            assert len(page.items) <= 4
            found += [(row.case_id, row.number) for row in page.items]
            if page.next is None:
                break
            page = worklist.page("offered", after=page.next, limit=4)
        assert found == expected


def test_an_asynchronous_engine_gives_pages() -> None:
    """An AsyncEngine gives a page of a participant's work, with or without a directory."""

    async def play() -> None:
        async with knhk.AsyncEngine(directory=office()) as engine:
            await engine.register(work_of({"a": CLERKS}))
            await (await engine.create_case("work")).run()

            assert [row.path for row in (await engine.worklist("ann")).items] == ["a"]
            assert (await engine.worklist("ann", "started")).items == ()

    asyncio.run(play())


def test_a_page_looks_past_what_somebody_may_not_do() -> None:
    """Items in an audience's list that a participant is kept from fill no page of his."""
    engine = knhk.Engine(directory=office())
    engine.register(work_of({"a": CLERKS, "b": {"roles": ["clerk"], "separate_from": ["a"]}}))
    cases = sorted((engine.create_case("work").run() for _ in range(120)), key=lambda each: each.id)
    for case in cases[:110]:
        case.complete_task("a", by="ann")
    for case in cases[110:]:
        case.complete_task("a", by="ben")

    page = engine.worklist("ann").page("offered", limit=4)
    assert [row.case_id for row in page.items] == [case.id for case in cases[110:114]]
    assert len(list(engine.worklist("ann").offered())) == 10
    assert len(list(engine.worklist("ben").offered())) == 110


def test_a_worklist_is_of_somebody_who_is_there() -> None:
    """A directory's participants have the roles that it says, and others have no worklist."""
    engine = knhk.Engine(directory=office())

    assert engine.worklist("cleo", roles=["clerk"]).participant.id == "cleo"
    with pytest.raises(Forbidden, match="the directory has no active participant 'gone'"):
        engine.worklist("gone")
    with pytest.raises(Forbidden, match="'dora' has the roles that the directory says: auditor"):
        engine.worklist("dora", roles=["clerk"])


def test_many_words_of_an_audience_are_found(tmp_path: Any) -> None:
    """A participant of three hundred roles finds his work in an SQLite store, too."""
    with knhk.Engine(str(tmp_path / "w.db"), durability="off") as engine:
        engine.register(work_of({"a": {"roles": ["r7", "r280"]}}))
        engine.create_case("work").run()

        for count, found in ((300, ["a"]), (5, []), (100, ["a"])):
            roles = [f"r{number}" for number in range(count)]
            assert [row.path for row in engine.worklist("ann", roles=roles).offered()] == found


def test_a_page_costs_the_same_however_much_is_open(tmp_path: Any) -> None:
    """What an SQLite store does for a page of a worklist does not grow with the work that is open elsewhere."""
    work = []
    for many in (150, 1_500):
        path = tmp_path / f"{many}.db"
        with knhk.Engine(str(path), durability="off") as engine:
            engine.register(work_of({"a": {"roles": ["clerk", "senior"]}}))
            engine.run_many(engine.create_many("work", [None] * many), threads=1)
        query, values = find_items(
            case_id=None,
            state=None,
            by=None,
            topics=None,
            audience=["participant:ann", "role:clerk", "role:senior"],
            after=("", 0),
            limit=100,
        )
        counted = []
        connection = sqlite3.connect(path)
        connection.set_progress_handler(lambda counted=counted: counted.append(1) or 0, 100)
        with contextlib.closing(connection):
            assert len(connection.execute(query, values).fetchall()) == 100
        work.append(len(counted))

    assert work[1] < 1.2 * work[0]


# --- the directory --------------------------------------------------------------------------------------------------------


def test_a_directory_that_fails_ends_the_command() -> None:
    """What a directory raises reaches the caller as a DirectoryError, and nothing of the command has happened."""

    class Broken:
        def participant(self, participant_id: str) -> knhk.Participant | None:
            raise ConnectionError(participant_id)

        def participants(self, role: str | None = None) -> list[knhk.Participant]:
            raise ConnectionError(role)

        def reports_to(self, position: str) -> str | None:
            raise ConnectionError(position)

    engine = knhk.Engine(directory=Broken(), clock=ManualClock(0))
    engine.register(work_of({"a": {"roles": ["clerk"]}}))
    net = knhk.build("late")
    net.sequence(net.start, net.task("wait", timer="1h"), net.task("a", manual="clerk"), net.end)
    engine.register(net.specification())
    case, late = engine.create_case("work"), engine.create_case("late").run()
    with pytest.raises(knhk.DirectoryError, match="the directory of people failed: ConnectionError: clerk") as caught:
        case.start()

    assert isinstance(caught.value.__cause__, ConnectionError)
    assert case.state == "created"
    assert [each.kind.value for each in case.history()] == ["case_created"]
    for give in (lambda: engine.worklist("ann"), lambda: engine.tick(HOUR)):
        with pytest.raises(knhk.DirectoryError):
            give()
    assert late.next_due == HOUR
    with pytest.raises(knhk.DirectoryError, match="ConnectionError: head"):
        works_for(Guarded(Broken()), knhk.Participant(id="x", positions=["head"]), knhk.Participant(id="y"))


def test_the_directory_is_asked_anew_each_time() -> None:
    """Who gets a role while work is open finds it in his list, and may do it."""
    people = {"ann": knhk.Participant(id="ann")}

    class Growing:
        def participant(self, participant_id: str) -> knhk.Participant | None:
            return people.get(participant_id)

        def participants(self, role: str | None = None) -> list[knhk.Participant]:
            return [each for each in people.values() if role is None or role in each.roles]

        def reports_to(self, position: str) -> str | None:  # noqa: ARG002 - there are none
            return None

    people["ben"] = knhk.Participant(id="ben", roles=["clerk"])
    engine, case = begun({"a": CLERKS}, directory=Growing())
    assert queues(engine, "ann") == {}
    people["ann"] = knhk.Participant(id="ann", roles=["clerk"])

    assert queues(engine, "ann") == {"offered": ["a"]}
    case.work_items()[0].start(by="ann")
