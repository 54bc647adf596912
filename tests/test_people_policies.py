"""How the engine shares work out: its policies, four-eyes, familiarity, chains and piles."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import knhk
from knhk import Forbidden
from knhk.ports import Document, Store
from knhk.stores.memory import MemoryStore
from knhk.work.policies import TURNS, Choice, round_robin
from tests.people import begun, office, queues, work_of

CLERKS = ("ann", "ben", "cleo")


def engine_of(tasks: dict[str, Any], target: str | Store = "memory:", **more: Any) -> knhk.Engine:
    """An engine that knows the office and these tasks."""
    engine = knhk.Engine(target, directory=office(), **more)
    engine.register(work_of(tasks))
    return engine


def first_by(case: knhk.RunningCase) -> str:
    """Who has the only open item of a case."""
    (item,) = case.work_items()
    return item.by


# --- policies -------------------------------------------------------------------------------------------------------------


def test_round_robin_is_even_over_restarts(tmp_path: Path) -> None:
    """Everybody gets his turn, in the order of ids, also when the engine starts anew in between."""
    chosen = []
    for _ in range(4):
        with engine_of(
            {"a": {"roles": ["clerk"], "allocate": "round_robin"}}, str(tmp_path / "w.db"), durability="off"
        ) as engine:
            chosen += [first_by(engine.create_case("work").run()) for _ in range(4)]

    assert chosen == [CLERKS[number % 3] for number in range(16)]


def test_round_robin_takes_turns_for_each_task() -> None:
    """Each task has turns of its own, and a participant who cannot have one is passed over."""
    engine = engine_of(
        {
            "a": {"roles": ["clerk"], "allocate": "round_robin"},
            "b": {"roles": ["clerk"], "allocate": "round_robin", "separate_from": ["a"]},
        }
    )
    second = []
    for _ in range(3):
        case = engine.create_case("work").run()
        case.work_items()[0].complete(by=first_by(case))
        second.append(first_by(case))

    # Ann did the first of them, so that Ben is first; when Cleo's turn comes she has done the work that it is separate from.
    assert second == ["ben", "cleo", "ann"]


def test_two_engines_take_turns_from_one_row() -> None:
    """A turn that another engine took at the same moment is not taken again."""

    class Busy(MemoryStore):
        raced = False

        def write(self, documents: Any, removed: Any = ()) -> None:
            if not self.raced:
                self.raced = True
                super().write([Document(collection=TURNS, key="w/a", value="ann")])
            super().write(documents, removed)

    choice = Choice(store=Busy(), candidates=CLERKS, task="w/a", case_id="c", number=1, here={})

    assert round_robin(choice) == "ben"


def test_the_shortest_queue_gets_the_work() -> None:
    """Whoever has the fewest items allocated, started or suspended gets the next; those of the same commit count."""
    tasks: dict[str, Any] = {
        each: {"roles": ["clerk"], "allocate": "shortest_queue", "privileges": ["suspend"]} for each in "abcd"
    }
    engine, case = begun(tasks, parallel=True)
    assert Counter(item.by for item in case.work_items()) == {"ann": 2, "ben": 1, "cleo": 1}
    next(item for item in case.work_items() if item.by == "cleo").complete(by="cleo")
    ben = next(item for item in case.work_items() if item.by == "ben")
    ben.start(by="ben")
    ben.suspend(by="ben")

    other = engine.create_case("work").run()

    assert Counter(item.by for item in other.work_items()) == {"ann": 1, "ben": 1, "cleo": 2}
    lengths = [sum(1 for _ in engine.work_items(by=each)) for each in CLERKS]
    assert max(lengths) - min(lengths) <= 1


def test_long_queues_are_told_apart() -> None:
    """Queues that are longer than a first look are counted on until one is known to be the shortest."""
    engine = engine_of({"a": {"roles": ["clerk"], "privileges": []}})
    for name, count in (("ann", 70), ("ben", 66), ("cleo", 67)):
        for _ in range(count):
            engine.create_case("work").run().work_items()[0].allocate(name)
    engine.register(work_of({"a": {"roles": ["clerk"], "allocate": "shortest_queue"}}, name="next"))

    assert [first_by(engine.create_case("next").run()) for _ in range(3)] == ["ben", "ben", "cleo"]


def test_random_choices_follow_the_seed() -> None:
    """The same seed, case and item give the same choice; another seed gives others; everybody gets some."""

    class Ids:
        def __init__(self) -> None:
            self.last = 0

        def next_id(self) -> str:
            self.last += 1
            return f"case-{self.last:03}"

    def chosen(seed: int) -> list[str]:
        allocate = {"policy": "random", "seed": seed}
        engine = engine_of({"a": {"roles": ["clerk"], "allocate": allocate}}, ids=Ids())
        return [first_by(engine.create_case("work").run()) for _ in range(60)]

    assert chosen(7) == chosen(7)
    assert chosen(7) != chosen(8)
    assert min(Counter(chosen(7))[each] for each in CLERKS) >= 10


def test_a_choice_is_made_once() -> None:
    """What was chosen is in the case: it is the same after it was forgotten and loaded, whoever has left meanwhile."""
    engine, case = begun({"a": {"roles": ["clerk"], "allocate": "round_robin", "start": "system"}})
    before = [(item.path, item.state, item.by) for item in case.work_items()]
    engine.evict()

    assert [(item.path, item.state, item.by) for item in case.work_items()] == before == [("a", "started", "ann")]
    engine = knhk.Engine(engine._store, directory=knhk.Organisation([]))
    assert [item.by for item in engine.case(case.id).work_items()] == ["ann"]


def test_nobody_to_choose_leaves_work_unoffered() -> None:
    """Where no candidate is left, the engine chooses nobody, and the item waits for an administrator."""
    _, case = begun({"a": {"roles": ["clerk"], "capabilities": ["forklift"]}, "b": {"participants": ["gone"]}})
    case.complete_task("a", by="ben")

    assert [(item.path, item.state) for item in case.work_items()] == [("b", "unoffered")]


# --- four-eyes ------------------------------------------------------------------------------------------------------------


def test_four_eyes_is_both_ways_round() -> None:
    """Whoever has started one of two separate tasks gets neither of the other, whichever of them says so."""
    for says in ("a", "b"):
        tasks: dict[str, Any] = {each: {"roles": ["clerk"], "privileges": ["delegate", "reallocate"]} for each in "ab"}
        tasks[says]["separate_from"] = ["b" if says == "a" else "a"]
        engine, case = begun(tasks, parallel=True)
        b, a = sorted(case.work_items(), key=lambda item: item.path, reverse=True)
        b.start(by="ann")

        assert queues(engine, "ann") == {"started": ["b"]}
        reason = "'ann' did b in this case, and it is for somebody who did not"
        for give in (
            lambda a=a: a.start(by="ann"),
            lambda a=a: a.complete(by="ann"),
            lambda a=a: a.allocate("ann"),
            lambda a=a: a.allocate("ann", by="root"),
        ):
            with pytest.raises(Forbidden, match=reason):
                give()
        a.allocate("ben")
        with pytest.raises(Forbidden, match=reason):
            a.delegate("ann", by="ben")
        a.start(by="ben")
        for by in ("ben", "root"):
            with pytest.raises(Forbidden, match=reason):
                a.reallocate("ann", by=by)


def test_four_eyes_binds_administrators_and_skips() -> None:
    """An administrator who did, took over or skipped one task cannot do the other, and nobody can do it for him."""
    for did in ("start", "skip", "complete"):
        _, case = begun({"a": {"roles": ["clerk"]}, "b": {"roles": ["clerk"], "separate_from": ["a"]}})
        a = case.work_items()[0]
        if did == "start":
            a.start(by="root")
            a.reallocate("ann", by="root")
            a.complete(by="ann")
        elif did == "skip":
            a.skip(by="root")
        else:
            a.start(by="ann")
            a.complete(by="root")
        b = case.work_items()[0]

        for give in (lambda b=b: b.start(by="root"), lambda b=b: b.skip(by="root"), lambda b=b: b.complete(by="root")):
            with pytest.raises(Forbidden, match="'root' cannot .* b: 'root' did a in this case"):
                give()
        b.complete(by="ben")
        assert case.state == "completed"


def test_four_eyes_holds_over_subnets_and_after_a_restart() -> None:
    """Who did a task in a subnet that has ended is known in the net above, also when the case was forgotten meanwhile."""
    tree: dict[str, Any] = {
        "id": "work",
        "tasks": {"prepare": {"subnet": "desk"}, "approve": {"manual": {"separate_from": ["enter"]}}},
        "flows": [{"from": s, "to": t} for s, t in (("start", "prepare"), ("prepare", "approve"), ("approve", "end"))],
        "subnets": {
            "desk": {
                "tasks": {"enter": {"manual": True}},
                "flows": [{"from": "start", "to": "enter"}, {"from": "enter", "to": "end"}],
            }
        },
    }
    engine = knhk.Engine(directory=office())
    engine.register(knhk.Specification.from_dict(tree))
    case = engine.create_case("work").run()
    case.complete_task("prepare/enter", by="ann")
    engine.evict()

    with pytest.raises(Forbidden, match="'ann' did enter in this case"):
        case.complete_task("approve", by="ann")
    case.complete_task("approve", by="ben")


def test_four_eyes_needs_no_directory_but_names() -> None:
    """Without a directory four-eyes holds by the names that are given, and a command without one is refused."""
    engine = knhk.Engine()
    engine.register(work_of({"a": True, "b": {"separate_from": ["a"]}}))
    case = engine.create_case("work").run()
    with pytest.raises(Forbidden, match=r"cannot complete a: say who does it \(by\), because it is separate from b"):
        case.complete_task("a")
    case.complete_task("a", by="ann")

    for give in (
        lambda: case.start_task("b"),
        lambda: case.work_items()[0].skip(),
        lambda: case.work_items()[0].complete(),
    ):
        with pytest.raises(Forbidden, match=r"say who does it \(by\), because it is separate from a"):
            give()
    with pytest.raises(Forbidden, match="'ann' cannot start b"):
        case.start_task("b", by="ann")


def test_work_in_a_loop_is_separate_from_itself() -> None:
    """A task that is separate from itself needs somebody else in each round."""
    tree: dict[str, Any] = {
        "id": "work",
        "tasks": {"read": {"join": "xor", "split": "xor", "manual": {"separate_from": ["read"]}}},
        "flows": [
            {"from": "start", "to": "read"},
            {"from": "read", "to": "read", "when": "!has(data.done)"},
            {"from": "read", "to": "end", "default": True},
        ],
    }
    engine = knhk.Engine(directory=office())
    engine.register(knhk.Specification.from_dict(tree))
    case = engine.create_case("work").run()
    case.complete_task("read", by="ann")

    with pytest.raises(Forbidden):
        case.complete_task("read", by="ann")
    case.complete_task("read", {"done": True}, by="ben")
    assert case.state == "completed"


def test_a_snapshot_remembers_who_did_what() -> None:
    """Who did what, drafts, chains and clocks are the same when a case begins at a snapshot."""
    engine, case = begun(
        {
            "a": {"privileges": ["chain"], "escalate": [{"after": "1h", "priority": 1}]},
            "b": {"separate_from": ["a"]},
        },
        parallel=True,
    )
    item = case.work_items()[0]
    item.chain(by="ben")
    item.start(by="ann")
    item.save({"x": 1}, by="ann")
    with engine._cache.hold(case.id) as resident:
        state = resident.case.state
        tree = state.dump()
        copy = type(state)(state.program, state.kernels)
        copy.load(tree)

        assert copy.dump() == tree
        assert tree["people"]
    with engine._cache.hold(case.id) as resident:
        resident.since_snapshot = 1_000
    case.work_items()[1].start(by="ben")
    engine.evict()
    assert item.draft == {"x": 1}
    with pytest.raises(Forbidden, match="'ann' did a"):
        case.work_items()[1].reallocate("ann", by="root")


# --- familiarity, chains, piles -------------------------------------------------------------------------------------------


def test_the_familiar_one_gets_it() -> None:
    """Work that wants somebody familiar is offered to whoever did that task last, and to nobody else."""
    engine, case = begun({"a": {"roles": ["clerk"]}, "b": {"roles": ["clerk"], "familiar_to": "a"}})
    case.complete_task("a", by="ben")

    assert [queues(engine, each) for each in CLERKS] == [{}, {"offered": ["b"]}, {}]
    with pytest.raises(Forbidden, match="'ann' may not start b: it is for participant ben"):
        case.start_task("b", by="ann")


def test_familiarity_gives_way_and_allocates() -> None:
    """Where the familiar one may not do it, it is offered to all; where the engine allocates, it is to the familiar one."""
    engine, case = begun({"a": True, "b": {"roles": ["clerk"], "familiar_to": "a"}})
    case.complete_task("a", by="dora")
    assert queues(engine, "ann") == {"offered": ["b"]}

    tasks = {"a": True, "b": {"roles": ["clerk"], "familiar_to": "a", "allocate": "round_robin"}}
    engine, case = begun(tasks)
    case.complete_task("a", by="cleo")
    assert queues(engine, "cleo") == {"allocated": ["b"]}


def test_chained_work_goes_on_with_whoever_did_the_last() -> None:
    """A chained task is started for whoever completed the manual work before it, and offered where he may not do it."""
    engine, case = begun({"a": True, "b": {"roles": ["clerk"], "chained": True}})
    case.complete_task("a", by="ben")
    assert queues(engine, "ben") == {"started": ["b"]}

    engine, case = begun({"a": True, "b": {"roles": ["clerk"], "chained": True, "separate_from": ["a"]}})
    case.complete_task("a", by="ben")
    assert queues(engine, "ben") == {}
    assert queues(engine, "ann") == {"offered": ["b"]}


def test_a_participant_chains_a_case() -> None:
    """Whoever chains a case gets what comes up for him there, started, until he ends it; other cases are not his."""
    manual = {"roles": ["clerk"], "privileges": ["chain"]}
    engine, case = begun({"a": manual, "b": manual, "c": manual})
    other = engine.create_case("work").run()
    item = case.work_items()[0]
    item.chain(by="ann")
    item.chain(by="ann")
    item.complete(by="ann")
    assert queues(engine, "ann") == {"started": ["b"], "offered": ["a"]}

    engine.evict()
    case.work_items()[0].chain(by="ann", chained=False)
    case.complete_task("b", by="ann")

    assert sorted(queues(engine, "ann")["offered"]) == ["a", "c"]
    assert other.work_items()[0].state == "offered"
    told = [each.details for each in case.history() if each.kind is knhk.EventKind.PARTICIPANT_CHAINED]
    assert told == [{"by": "ann", "chained": True}, {"by": "ann", "chained": False}]


def test_a_participant_piles_a_task(tmp_path: Path) -> None:
    """Whoever piles a task gets its work in every case, started, also after a restart, until another does or he ends it."""
    tasks = {"a": {"roles": ["clerk"], "privileges": ["pile"]}}
    with engine_of(tasks, str(tmp_path / "w.db"), durability="off") as engine:
        item = engine.create_case("work").run().work_items()[0]
        item.pile(by="ann")
        item.pile(by="ann")
    with engine_of(tasks, str(tmp_path / "w.db"), durability="off") as engine:
        case = engine.create_case("work").run()
        assert queues(engine, "ann") == {"started": ["a"], "offered": ["a"]}
        item = next(item for item in case.work_items())
        item.pile(by="root")
        assert first_by(engine.create_case("work").run()) == ""
        other = engine.create_case("work").run().work_items()[0]
        other.pile(by="ben")
        other.pile(by="ann", piled=False)
        assert first_by(engine.create_case("work").run()) == "ben"
        other.pile(by="ben", piled=False)
        assert first_by(engine.create_case("work").run()) == ""


def test_a_pile_passes_over_what_its_owner_may_not_do() -> None:
    """Work that the owner of a pile is kept from is offered to the others."""
    tasks: dict[str, Any] = {
        "a": {"roles": ["clerk"], "privileges": ["pile"]},
        "b": {"roles": ["clerk"], "privileges": ["pile"], "separate_from": ["a"]},
    }
    engine, case = begun(tasks)
    case.work_items()[0].complete(by="ben")
    case.work_items()[0].pile(by="ann")
    other = engine.create_case("work").run()
    other.complete_task("a", by="ann")

    assert queues(engine, "ann") == {"offered": ["b"]}
    assert [item.state for item in other.work_items()] == ["offered"]
