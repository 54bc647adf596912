"""Compensation: what has completed is undone, last first, when the case is cancelled or the task around it fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from knhk import AsyncEngine, Engine, EventKind, Specification, Work
from knhk.cli.app import knhk
from knhk.errors import HandlerError, IllegalTransition, SpecificationError
from knhk.testing.clock import ManualClock


def chain(*names: str, **more: Any) -> dict[str, Any]:
    """Tasks one after the other that can be undone, then one that waits."""
    ids = [*names, "wait"]
    ways = ["start", *ids, "end"]
    return {
        "id": "trip",
        "tasks": [
            *({"id": each, "handler": "do", "compensate": "undo", **more.get(each, {})} for each in names),
            {"id": "wait", "manual": True},
        ],
        "flows": [{"from": a, "to": b} for a, b in zip(ways, ways[1:], strict=False)],
    }


class Log:
    """The handlers of these tests: what was done and undone, in order; what fails."""

    def __init__(self, target: Any = "memory:", **options: Any) -> None:
        self.engine = Engine(target, **{"clock": ManualClock(0), **options})
        self.done: list[str] = []
        self.undone: list[str] = []
        self.works: list[Work] = []
        self.failing: dict[str, int] = {}
        self.engine.handler("do")(self.do)
        self.engine.handler("undo")(self.undo)
        self.engine.handler("bad")(self.bad)

    def do(self, work: Work) -> dict[str, Any]:
        """Do something."""
        self.done.append(work.task)
        return {work.task.replace("/", "_"): f"receipt {work.task}"}

    def undo(self, work: Work) -> dict[str, Any]:
        """Undo it."""
        assert work.compensates is not None
        self.works.append(work)
        if self.failing.get(work.task, 0) >= work.attempt:
            raise OSError(work.task)
        self.undone.append(work.task)
        return {"undone": [*work.data.get("undone", []), work.task]}

    def bad(self, work: Work) -> None:
        """Fail."""
        raise LookupError(work.task)

    def case(self, tree: dict[str, Any], data: dict[str, Any] | None = None) -> Any:
        """A new case, run."""
        self.engine.register(Specification.from_dict(tree))
        return self.engine.create_case(tree["id"], data).run()


@pytest.fixture
def log() -> Any:
    """Handlers and an engine in memory."""
    log = Log()
    with log.engine:
        yield log


def kinds(case: Any) -> list[tuple[str, str]]:
    """What the history tells of errors and compensations."""
    wanted = ("case_compensating", "task_compensated", "error_caught", "case_cancelled", "case_failed")
    return [(each.kind.value, each.path) for each in case.history() if each.kind.value in wanted]


def test_a_cancelled_case_undoes_what_it_did_last_first(log: Log) -> None:
    """The case is compensating until its compensations have run, one by one in reverse order; then it is cancelled."""
    case = log.case(chain("a", "b", "c"), {"n": 1})

    case.cancel()

    assert ("compensating", [], [], []) == (case.state, case.enabled, case.running[1:], log.undone)
    assert "cancelled" == case.run().state
    assert ["c", "b", "a"] == log.undone == case.data["undone"]
    assert [
        ("case_compensating", ""),
        ("task_compensated", "c"),
        ("task_compensated", "b"),
        ("task_compensated", "a"),
        ("case_cancelled", ""),
    ] == kinds(case)


def test_a_compensation_knows_what_it_undoes(log: Log) -> None:
    """It has the data of the case, the output and the key of what it undoes, and a key of its own that no attempt changes."""
    tree = chain("a", "b", a={"compensate": {"handler": "undo", "retry": {"max_attempts": 3, "initial": "1s"}}})
    log.failing["a"] = 2
    case = log.case(tree, {"n": 1})
    case.cancel()
    clock = log.engine.clock
    assert isinstance(clock, ManualClock)
    for _ in range(3):
        case.run()
        clock.advance(10_000)

    b, *a = log.works
    assert [1, 2, 3] == [each.attempt for each in a]
    assert 1 == len({each.idempotency_key for each in a})
    assert b.compensates is not None
    assert ("b", {"b": "receipt b"}, f"{case.id}:2") == (
        b.compensates.task,
        b.compensates.output,
        b.compensates.idempotency_key,
    )
    assert 4 == len({f"{case.id}:1", f"{case.id}:2", b.idempotency_key, a[0].idempotency_key})
    assert {"n": 1, "a": "receipt a", "b": "receipt b", "undone": ["b"]} == a[0].data
    assert "cancelled" == case.state


def test_work_without_compensation_is_not_undone(log: Log) -> None:
    """A case with nothing to undo is cancelled at once, and so is one for which nobody wants it."""
    tree = chain("a", "b")
    del tree["tasks"][0]["compensate"]
    case = log.case(tree)
    case.cancel()
    assert (["b"], "cancelled") == (case.run() and log.undone, case.state)
    tree["version"] = "2"
    del tree["tasks"][1]["compensate"]
    case = log.case(tree)
    case.cancel()
    assert "cancelled" == case.state
    case = log.case({**chain("a", "b"), "version": "3"})
    case.cancel(compensate=False)
    assert ("cancelled", ["b"]) == (case.state, log.undone)


def test_cancelling_again_changes_nothing(log: Log) -> None:
    """While it compensates, cancel is idempotent, and nothing else is allowed; without compensation it ends at once."""
    case = log.case(chain("a", "b"))
    case.cancel()
    version = log.engine._store.header(case.id).version

    case.cancel()

    assert version == log.engine._store.header(case.id).version
    for command in (
        case.suspend,
        case.resume,
        case.start,
        lambda: case.send_event("e"),
        lambda: case.complete_task("wait"),
    ):
        with pytest.raises(IllegalTransition, match="compensating"):
            command()
    case.cancel(compensate=False)
    assert ("cancelled", []) == (case.state, log.undone)


def test_a_compensation_that_fails_fails_the_case(log: Log) -> None:
    """Its item has failed; trying it again goes on where it was."""
    case = log.case(chain("a", "b", "c"))
    log.failing["b"] = 1
    case.cancel()

    with pytest.raises(HandlerError, match="b: handler 'undo' failed"):
        case.run()

    assert ("failed", ["b"]) == (case.state, [each.path for each in case.work_items(state="failed")])
    with pytest.raises(IllegalTransition):
        case.send_event("e")
    log.engine.evict()
    assert (1, "compensating") == (case.retry_failed(), case.state)
    assert ("cancelled", ["c", "b", "a"]) == (case.run().state, log.undone)


def test_a_cancelled_case_with_a_failed_compensation_may_be_given_up(log: Log) -> None:
    """`cancel` alone changes nothing then; without compensation it ends."""
    case = log.case(chain("a"))
    log.failing["a"] = 1
    case.cancel()
    with pytest.raises(HandlerError):
        case.run()
    case.cancel()
    assert "failed" == case.state

    case.cancel(compensate=False)

    assert "cancelled" == case.state


def test_a_completed_case_undoes_nothing(log: Log) -> None:
    """What has completed with its case is done for good."""
    case = log.case(chain("a"))
    case.complete_task("wait")

    with pytest.raises(IllegalTransition):
        case.cancel()


def test_loops_are_undone_round_by_round(log: Log) -> None:
    """Each completion is undone by itself, with its own output."""
    tree = chain("a")
    tree["tasks"][0] |= {"join": "xor"}
    tree["tasks"][1] |= {"split": "xor"}
    tree["flows"][2]["default"] = True
    tree["conditions"] = ["again"]
    tree["flows"] += [{"from": "wait", "to": "again", "when": "has(data.again)"}, {"from": "again", "to": "a"}]
    case = log.case(tree)
    case.complete_task("wait", {"again": True})
    case.run()
    case.cancel()
    case.run()

    keys = [work.compensates.idempotency_key for work in log.works if work.compensates is not None]
    assert [f"{case.id}:3", f"{case.id}:1"] == keys


def payment(**pay: Any) -> dict[str, Any]:
    """Work before, a composite task of two pieces of work and a failure, a way out."""
    return {
        "id": "trip",
        "tasks": [
            {"id": "before", "handler": "do", "compensate": "undo"},
            {"id": "pay", "subnet": "payment", **pay},
            {"id": "wait", "manual": True},
            {"id": "repair", "manual": True},
        ],
        "flows": [
            {"from": "start", "to": "before"},
            {"from": "before", "to": "pay"},
            {"from": "pay", "to": "wait"},
            {"from": "pay", "to": "repair", "on_error": "LookupError"},
            {"from": "wait", "to": "end"},
            {"from": "repair", "to": "end"},
        ],
        "subnets": {
            "payment": {
                "tasks": [
                    {"id": "x", "handler": "do", "compensate": "undo"},
                    {"id": "y", "handler": "do", "compensate": "undo"},
                    {"id": "z", "manual": True},
                ],
                "flows": [
                    {"from": "start", "to": "x"},
                    {"from": "x", "to": "y"},
                    {"from": "y", "to": "z"},
                    {"from": "z", "to": "end"},
                ],
            }
        },
    }


def test_a_scope_that_fails_undoes_what_it_did(log: Log) -> None:
    """Before the error flow of a composite task is taken, what its net completed is undone, and nothing else."""
    case = log.case(payment())
    case.start_task("pay/z")
    (item,) = case.work_items(state="started")

    item.fail("no", error="LookupError")

    assert ("compensating", []) == (case.state, case.enabled)
    case.run()
    assert ("running", ["repair"], ["pay/y", "pay/x"]) == (case.state, case.enabled, log.undone)
    assert "pay/z" == case.data["error"]["task"]
    assert [
        ("case_compensating", "pay"),
        ("task_compensated", "pay/y"),
        ("task_compensated", "pay/x"),
        ("error_caught", "pay"),
    ] == kinds(case)
    case.cancel()
    case.run()
    assert ["pay/y", "pay/x", "before"] == log.undone


def test_a_net_that_ended_leaves_its_memory_to_what_is_around_it(log: Log) -> None:
    """What a subnet completed is undone with the case later, in one order with everything else."""
    case = log.case(payment())
    case.complete_task("pay/z")
    case.cancel()
    case.run()

    assert ["pay/y", "pay/x", "before"] == log.undone


def test_a_composite_task_with_a_compensation_of_its_own_is_undone_by_that_alone(log: Log) -> None:
    """Once it is complete; while it runs its net's own are what there is."""
    case = log.case(payment(compensate="undo"))
    case.complete_task("pay/z", {"z": 1})
    case.cancel()
    case.run()
    assert ["pay", "before"] == log.undone
    assert log.works[0].compensates is not None
    assert "" == log.works[0].compensates.idempotency_key
    log.undone.clear()
    case = log.engine.create_case("trip").run()
    case.cancel()
    case.run()

    assert ["pay/y", "pay/x", "before"] == log.undone


def test_what_was_aborted_is_undone_with_what_is_around_it(log: Log) -> None:
    """Cancelling a composite task undoes nothing at once; cancelling the case then undoes it too."""
    case = log.case(payment())
    case.cancel_task("pay")
    assert ("deadlocked", []) == (case.state, log.undone)
    case.cancel()
    case.run()

    assert ["pay/y", "pay/x", "before"] == log.undone


def test_nested_scopes_are_undone_from_the_inside(log: Log) -> None:
    """An error that leaves two nets undoes what both completed, last first."""
    tree = payment()
    tree["subnets"]["outer"] = {
        "tasks": [
            {"id": "o", "handler": "do", "compensate": "undo"},
            {"id": "in", "subnet": "payment"},
        ],
        "flows": [{"from": "start", "to": "o"}, {"from": "o", "to": "in"}, {"from": "in", "to": "end"}],
    }
    tree["tasks"][1]["subnet"] = "outer"
    case = log.case(tree)
    case.start_task("pay/in/z")
    case.work_items(state="started")[0].fail("no", error="LookupError")
    case.run()

    assert ["pay/in/y", "pay/in/x", "pay/o"] == log.undone
    assert ["repair"] == case.enabled


def test_instances_of_a_task_that_fails_are_undone_with_it(log: Log) -> None:
    """Completed instances, and what the open ones did, belong to the activation that fails."""
    tree = payment(multiple={"count": 2})
    case = log.case(tree)
    case.complete_task("pay#1/z")
    case.start_task("pay#2/z")
    case.work_items(state="started")[0].fail("no", error="LookupError")
    case.run()

    assert ["pay#1/x", "pay#1/y", "pay#2/x", "pay#2/y"] == sorted(log.undone)
    assert list(reversed(log.done))[:4] == log.undone
    assert ["repair"] == case.enabled


def test_atomic_instances_are_undone_when_their_task_fails(log: Log) -> None:
    """One activation is one scope, whether its instances are nets or pieces of work."""
    tree = chain("a")
    tree["tasks"][0] = {"id": "a", "manual": True, "compensate": "undo", "multiple": {"count": 2}}
    tree["flows"].append({"from": "a", "to": "end", "on_error": "*"})
    case = log.case(tree)
    case.start_task("a")
    case.complete_task("a#1", {"n": 1})
    case.work_items(state="started")[0].fail("no")

    assert ("completed", ["a#1"]) == (case.run().state, log.undone)


def test_other_work_waits_while_a_scope_is_undone(log: Log) -> None:
    """Nothing else runs; afterwards it goes on as it was."""
    tree = payment()
    tree["tasks"][0] |= {"split": "and"}
    tree["tasks"].append({"id": "side", "manual": True})
    tree["flows"] += [{"from": "before", "to": "side"}, {"from": "side", "to": "end"}]
    case = log.case(tree)
    case.start_task("pay/z")
    case.work_items(state="started")[0].fail("no", error="LookupError")
    with pytest.raises(IllegalTransition, match="compensating"):
        case.complete_task("side")
    (side,) = [each for each in case.work_items() if each.path == "side"]
    with pytest.raises(IllegalTransition, match="compensating"):
        side.start()
    case.run()

    assert ["repair", "side"] == case.enabled


def test_a_case_may_be_cancelled_while_a_scope_is_undone(log: Log) -> None:
    """What the scope has left to undo comes first, then everything before it."""
    case = log.case(payment())
    case.start_task("pay/z")
    case.work_items(state="started")[0].fail("no", error="LookupError")

    case.cancel()

    assert ("cancelled", ["pay/y", "pay/x", "before"]) == (case.run().state, log.undone)


def test_a_violated_promise_of_a_net_undoes_it(log: Log) -> None:
    """An error that comes up while things happen by themselves waits for the compensations, and the rest goes on after."""
    tree = payment(ensures="has(data.ok)")
    tree["flows"][3]["on_error"] = "ConstraintViolation"
    tree["tasks"][0] |= {"split": "and"}
    tree["tasks"] += [{"id": "r", "handler": "do"}]
    tree["flows"] += [{"from": "before", "to": "r"}, {"from": "r", "to": "end"}]
    tree["termination"] = "implicit"
    case = log.case(tree)
    case.complete_task("pay/z")
    case.run()

    assert (["pay/y", "pay/x"], ["repair"]) == (log.undone, case.enabled)


def test_the_background_does_compensations(log: Log) -> None:
    """`run_pending` finds a case that compensates, and `tick` its retries."""
    policy = {"handler": "undo", "retry": {"max_attempts": 2, "initial": "1s", "jitter": "none"}}
    case = log.case(chain("a", a={"compensate": policy}))
    log.failing["a"] = 1
    case.cancel()
    assert (1, "compensating", [case.id]) == (
        log.engine.run_pending(),
        case.state,
        [each.case_id for each in log.engine.cases(state="compensating")],
    )
    clock = log.engine.clock
    assert isinstance(clock, ManualClock)
    clock.advance(1_000)

    assert (1, 1, "cancelled") == (log.engine.tick(), log.engine.run_pending(), case.state)


def test_a_compensation_survives_a_restart(tmp_path: Path) -> None:
    """The order, the outputs and the keys are those of an engine that was never restarted."""
    path = str(tmp_path / "cases.db")
    log = Log(path)
    case_id = log.case(chain("a", "b", "c")).id
    log.failing["b"] = 1
    log.engine.case(case_id).cancel()
    with pytest.raises(HandlerError):
        log.engine.case(case_id).run()
    log.engine.close()
    again = Log(path)
    case = again.engine.case(case_id)
    assert ("failed", 1) == (case.state, case.retry_failed())
    case.run()

    assert (["c"], ["b", "a"], "cancelled") == (log.undone, again.undone, case.state)
    assert log.works[-1].idempotency_key == again.works[0].idempotency_key
    again.engine.close()


def test_a_snapshot_holds_what_is_to_be_undone(log: Log) -> None:
    """A case rebuilt from its dump alone is the same, before and during its compensations."""
    case = log.case(payment())
    case.cancel()
    for _ in range(2):
        with log.engine._cache.hold(case.id) as resident:
            live = resident.case
            other = type(live)(live._program, live._kernels)
            other.replay(json.loads(json.dumps(live.state.dump())), [])

        assert live.state.dump() == other.state.dump()
        assert list(live.state.work) == list(other.state.work)
        job = case.next_job([])
        case.finish(job, {})


def test_a_result_that_comes_while_a_scope_is_undone_is_made_again(log: Log) -> None:
    """A handler beside the scope was at work when it failed: its attempt is handed back and made again afterwards."""
    tree = payment()
    tree["tasks"][0] |= {"split": "and"}
    tree["tasks"].append({"id": "side", "handler": "side"})
    tree["flows"] += [{"from": "before", "to": "side"}, {"from": "side", "to": "end"}]
    attempts: list[int] = []

    @log.engine.handler("side")
    def side(work: Work) -> None:
        attempts.append(work.attempt)
        if len(attempts) == 1:
            case = log.engine.case(work.case_id)
            while not case.enabled:
                job = case.next_job([])
                case.finish(job, case.handler(job)(job.work))
            case.start_task("pay/z")
            [each for each in case.work_items(state="started") if each.path == "pay/z"][0].fail("", error="LookupError")

    log.engine.register(Specification.from_dict(tree))
    case = log.engine.create_case("trip")
    with contextlib.suppress(HandlerError):
        case.run()
    case.run()

    assert ([1, 2], ["pay/y", "pay/x"], "completed") == (attempts, log.undone, case.state)


async def _cancel(engine: AsyncEngine) -> tuple[str, list[str]]:
    undone: list[str] = []

    @engine.handler("do")
    async def do(work: Work) -> dict[str, Any]:
        return {work.task: 1}

    @engine.handler("undo")
    async def undo(work: Work) -> None:
        undone.append(work.task)

    await engine.register(Specification.from_dict(chain("a", "b")))
    case = await (await engine.create_case("trip")).run()
    await case.cancel()
    await case.run()
    return await case.state(), undone


def test_asynchronously() -> None:
    """Asynchronous handlers undo as well."""

    async def main() -> tuple[str, list[str]]:
        async with AsyncEngine() as engine:
            return await _cancel(engine)

    assert ("cancelled", ["b", "a"]) == asyncio.run(main())


WORKER = """
import os, sys
from knhk import Engine

log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
engine = Engine(sys.argv[1])

@engine.handler("undo")
def undo(work):
    os.write(log, f"{work.task} {work.idempotency_key}\\n".encode())
    return {"undone": [*work.data.get("undone", []), work.task]}

print("ready", flush=True)
engine.case(sys.argv[3]).run()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_while_compensating(tmp_path: Path) -> None:
    """However often the process is killed, each compensation is recorded once, in reverse order, under one key."""
    path, lines = str(tmp_path / "cases.db"), tmp_path / "log"
    names = [f"t{number}" for number in range(40)]
    log = Log(path)
    case_id = log.case(chain(*names)).id
    log.engine.case(case_id).cancel()
    log.engine.close()
    chance = random.Random(4)
    kills = 0
    for _ in range(60):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, path, str(lines), case_id], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
            # As long as a few lines take to be written, whatever the machine does.
            size = lines.stat().st_size if lines.exists() else 0
            while worker.poll() is None and (lines.stat().st_size if lines.exists() else 0) < size + chance.randint(
                1, 90
            ):
                os.sched_yield()
            worker.kill()
            worker.wait()
        kills += worker.returncode == -signal.SIGKILL
        if worker.returncode == 0:
            break
    with Engine(path) as engine:
        engine.handler("undo")(log.undo)
        case = engine.case(case_id)
        assert "cancelled" == case.run().state
        undone = [each.path for each in case.history() if each.kind is EventKind.TASK_COMPENSATED]
        assert names[::-1] == undone == case.data["undone"]
    keys: dict[str, set[str]] = {}
    for line in lines.read_text(encoding="ascii").splitlines():
        task, key = line.split()
        keys.setdefault(task, set()).add(key)
    assert {1} == {len(each) for each in keys.values()}
    assert kills >= 5


FAULTS = [
    ({"compensate": "undo"}, "tasks.a.compensate", "no work that could be undone"),
    ({"handler": "do", "compensate": {}}, "tasks.a.compensate", '"handler" is missing'),
    ({"handler": "do", "compensate": {"handler": "u", "timeout": "0s"}}, "tasks.a.compensate.timeout", "longer"),
    (
        {"handler": "do", "compensate": {"handler": "u", "retry": {"max": "1ms"}}},
        "tasks.a.compensate.retry.max",
        "shorter than the initial",
    ),
    (
        {"handler": "do", "compensate": {"handler": "u", "retry": {"deadline": "0s"}}},
        "tasks.a.compensate.retry.deadline",
        "longer than nothing",
    ),
]


@pytest.mark.parametrize(("task", "place", "message"), FAULTS)
def test_wrong_compensations_are_refused(task: dict[str, Any], place: str, message: str) -> None:
    """Every fault is reported at its place."""
    tree = chain("a")
    tree["tasks"][0] = {"id": "a", **task}

    with pytest.raises(SpecificationError) as refused:
        Specification.from_dict(tree)

    assert [each for each in refused.value.problems if each.place == place and message in each.message]


def test_a_migrated_case_remembers_what_to_undo(log: Log) -> None:
    """Completions move by name; a version that cannot undo them is refused, and so is a case that is undoing."""
    tree = payment()
    case = log.case(tree)
    log.engine.register(Specification.from_dict({**payment(), "version": "2", "name": "new"}))
    without = {**payment(), "version": "3"}
    del without["tasks"][0]["compensate"]
    log.engine.register(Specification.from_dict(without))
    case.migrate("2")
    with pytest.raises(Exception, match="before: it has completed, and version 3 has no compensation for it"):
        case.migrate("3")
    case.cancel()
    with pytest.raises(Exception, match="it undoes what it did"):
        case.migrate("2")
    case.run()

    assert ["pay/y", "pay/x", "before"] == log.undone


def test_on_the_command_line(tmp_path: Path) -> None:
    """`knhk cancel` leaves a case compensating, `knhk tick` undoes it; the flag undoes nothing."""
    path = str(tmp_path / "cases.db")
    handlers = tmp_path / "work_of_trips.py"
    handlers.write_text("HANDLERS = dict.fromkeys(['do', 'undo'], lambda work: {})\n", encoding="ascii")
    log = Log(path)
    first, second = log.case(chain("a")).id, log.engine.create_case("trip").run().id
    log.engine.close()

    def run(*arguments: str) -> str:
        return CliRunner().invoke(knhk, [*arguments, "--db", path]).output

    assert "compensating" in run("cancel", first)
    assert "cancelled" in run("cancel", second, "--no-compensation")
    run("tick", "--handlers", str(handlers))
    assert "task_compensated" in run("show", first)
    assert "task_compensated" not in run("show", second)
