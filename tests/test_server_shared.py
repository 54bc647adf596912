"""Several instances of the service on one store: asked through any of them, and as processes on one port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner

from knhk.cli.app import knhk
from knhk.ports import Durability
from knhk.server.configuration import Configuration, ConfigurationError, Shared, load, shared_by
from knhk.server.workers import Workers, inherited
from knhk.work.ownership import Ownership
from tests.served import SECRET, Served, problem, served, token
from tests.test_server_serving import process

WAIT: dict[str, Any] = {
    "id": "auto",
    "tasks": [{"id": "work", "handler": "work"}],
    "flows": [{"from": "start", "to": "work"}, {"from": "work", "to": "end"}],
}
PATIENCE = 60.0
_T = TypeVar("_T")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Served, Served]]:
    """Make two instances on one file that have joined, and have half of the work each."""
    settings: dict[str, Any] = {
        "state_path": str(tmp_path / "state"),
        "durability": Durability.OFF,
        "shared": Shared.TRUE,
    }
    with ExitStack() as stack:
        one, two = (stack.enter_context(served(**settings, instance_id=name)) for name in ("one", "two"))
        for _ in range(4):
            for each in (one, two):
                owner(each).beat()
        yield one, two


def owner(service: Served) -> Ownership:
    """Return what an instance shares by."""
    assert service.made.ownership is not None
    return service.made.ownership


def test_list_of_instances(pair: tuple[Served, Served]) -> None:
    """Each instance tells of all, to whoever may read."""
    one, two = pair
    told = one.ask("GET", "/instances", "viewer").json["items"]

    assert [("one", "live", 32), ("two", "live", 32)] == [(e["id"], e["state"], e["partitions"]) for e in told]
    assert told == two.ask("GET", "/instances", "viewer").json["items"]
    assert problem(one.ask("GET", "/instances", "participant"), "forbidden")


def test_instance_is_a_component(pair: tuple[Served, Served]) -> None:
    """The health of an instance says how much of the work is its own."""
    one, _ = pair
    parts = one.ask("GET", "/health/components").json["components"]

    assert {"status": "up", "detail": "32 partitions are this instance's"} == parts["ownership"]


def test_case_goes_on_at_any_instance(pair: tuple[Served, Served]) -> None:
    """What one instance did is what the other sees, tags included; what a caller has not seen is not changed."""
    one, two = pair
    one.register()
    case_id = one.case()
    seen = two.ask("GET", f"/cases/{case_id}")
    tag = seen.headers["etag"]
    item = one.item(case_id)
    assert 200 == one.ask("POST", f"/workitems/{item}/complete", body={"data": {"x": 1}}).status_code

    assert problem(two.ask("POST", f"/cases/{case_id}/cancel", headers={"If-Match": tag}), "precondition-failed")
    now = two.ask("GET", f"/cases/{case_id}")
    assert (["ship"], {"x": 1}) == (now.json["enabled"], now.json["data"])
    last = two.item(case_id)
    assert 200 == two.ask("POST", f"/workitems/{last}/complete", body={"data": {}}).status_code
    assert "completed" == one.ask("GET", f"/cases/{case_id}").json["state"]


def test_keys_of_requests_hold_across_instances(pair: tuple[Served, Served]) -> None:
    """The same request with the same key is answered with the same case by any instance, at once too; another request is refused."""
    one, two = pair
    one.register()
    key = {"Idempotency-Key": "k"}

    def ask(service: Served) -> Any:
        return service.ask("POST", "/cases", body={"spec_id": "order", "data": {}}, headers=key)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [one, two] * 4))

    assert {201} == {each.status_code for each in answers}
    assert 1 == len({each.json["case_id"] for each in answers}) == len(one.ask("GET", "/cases").json["items"])
    other = two.ask("POST", "/cases", body={"spec_id": "order", "data": {"x": 1}}, headers=key)
    assert problem(other, "invalid")


def test_record_is_whole_with_several_writers(pair: tuple[Served, Served]) -> None:
    """Each instance writes a chain of its own, while others write theirs, and any of them says that all are whole."""
    one, two = pair
    one.register()
    racing = [threading.Thread(target=lambda each=each: [each.case() for _ in range(20)]) for each in pair]
    for each in racing:
        each.start()
    verdicts = [one.ask("GET", "/audit/verify").json for _ in range(3)]
    for each in racing:
        each.join()
    for service in (two, one):
        assert service.made.audit is not None
        service.made.audit.seal()
    verdicts.append(two.ask("GET", "/audit/verify").json)

    assert [True] * 4 == [each["intact"] for each in verdicts]
    assert {"one", "two"} >= set(verdicts[-1]["heads"])
    assert 41 <= verdicts[-1]["links"]


def test_record_of_several_writers_is_verified_offline(pair: tuple[Served, Served], tmp_path: Path) -> None:
    """The exported record has the chain of each writer, and what was changed or cut off in either of them is found."""
    one, two = pair
    one.register()
    for each in (one, two):
        each.case()
        assert each.made.audit is not None
        each.made.audit.seal()
    heads = one.ask("GET", "/audit/verify").json["heads"]
    ran = CliRunner(env={"WORKFLOW_STATE_PATH": str(tmp_path / "state")})
    lines = ran.invoke(knhk, ["audit", "export"]).stdout.splitlines(keepends=True)
    kept = [
        part for writer, head in heads.items() for part in ("--head", f"{writer}:{head['sequence']}:{head['hash']}")
    ]

    def verified(lines: list[str]) -> int:
        return ran.invoke(knhk, ["audit", "verify", "-", *kept], input="".join(lines)).exit_code

    assert {"one", "two"} == set(heads)
    assert 0 == verified(lines)
    for writer in heads:
        number = next(n for n, line in enumerate(lines) if json.loads(line)["writer"] == writer and "ann" in line)
        before, link, behind = lines[:number], lines[number], lines[number + 1 :]
        assert [1, 1] == [verified([*before, *changed, *behind]) for changed in ([], [link.replace("ann", "eve")])]


def test_execute_waits_for_the_owner(pair: tuple[Served, Served]) -> None:
    """Executing a case at an instance that does not do its work answers when the owner has done it."""
    one, two = pair
    calls: list[str] = []
    for service, name in ((one, "one"), (two, "two")):
        engine = service.made.tenants.engine("default")
        engine.handler("work")(lambda work, name=name: calls.append(name) or {"by": name})
    one.register(WAIT)
    case_id = one.case(spec_id="auto", start=False)
    while owner(two).tenure(case_id) is None:
        case_id = one.case(spec_id="auto", start=False)
    with two.made.tenants.engine("default").serve(workers=1, interval=0.01):
        answer = one.ask("POST", f"/cases/{case_id}/execute")

    assert ("completed", {"by": "two"}) == (answer.json["state"], answer.json["data"])
    assert ["two"] == calls


def test_background_gives_places_to_those_with_work_of_its_own(pair: tuple[Served, Served]) -> None:
    """A tenant whose work is all another instance's gets no place here."""
    one, two = pair
    one.register(WAIT)
    case_id = one.case(spec_id="auto")
    for service in pair:
        service.made.background.look()
    served_by = [bool(service.made.background.served) for service in pair]

    assert [owner(each).tenure(case_id) is not None for each in pair] == served_by


def test_tenants_share_by_the_same_documents(pair: tuple[Served, Served]) -> None:
    """The work of a tenant is fenced by the partitions that all tenants have in common."""
    one, two = pair
    for service in pair:
        service.made.tenants.engine("acme").handler("work")(lambda _: {"done": True})
    one.register(WAIT, tenant="acme")
    case_id = one.case(spec_id="auto", tenant="acme")
    driven = [each.made.tenants.engine("acme").run_pending() for each in pair]

    assert [owner(each).tenure(case_id) is not None for each in pair] == [bool(each) for each in driven]
    assert "completed" == two.ask("GET", f"/cases/{case_id}", tenant="acme").json["state"]


# --- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "shares"),
    [
        ({}, False),
        ({"WORKFLOW_SHARED": "true"}, True),
        ({"WORKFLOW_STATE_PATH": "sqlite:///x.db"}, False),
        ({"WORKFLOW_STATE_PATH": "redis://h", "WORKFLOW_SHARED": "False"}, False),
        ({"WORKFLOW_STATE_PATH": "redis://h", "WORKFLOW_AUDIT_ENABLED": "false", "WORKFLOW_JWT_SECRET": SECRET}, True),
    ],
)
def test_when_a_store_is_shared(environment: dict[str, str], shares: bool) -> None:
    """A store with an address is shared unless it is said otherwise, a file only where it is said."""
    assert shares == load(environment).settings.shares


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORKFLOW_STATE_PATH": "memory:", "WORKFLOW_SHARED": "true"}, "WORKFLOW_SHARED=true: a 'memory' store"),
        ({"WORKFLOW_STATE_PATH": "log:d", "WORKFLOW_SHARED": "true"}, "WORKFLOW_SHARED=true: a 'log' store"),
        ({"WORKFLOW_STATE_PATH": "redis://h"}, "WORKFLOW_JWT_SECRET: instances that share redis:"),
        ({"WORKFLOW_STATE_PATH": "redis://h"}, "WORKFLOW_AUDIT_KEY_FILE: instances that share redis:"),
        ({"WORKFLOW_SHARED": "perhaps"}, "WORKFLOW_SHARED='perhaps': must be one of auto, true, false"),
        ({"WORKFLOW_LEASE": "0"}, "WORKFLOW_LEASE='0': lease must be more than 0"),
        ({"WORKFLOW_LEASE": "3601"}, "WORKFLOW_LEASE='3601': lease must be more than 0 and at most 3600"),
        ({"WORKFLOW_AUDIT_KEY_FILE": "/none"}, "WORKFLOW_AUDIT_KEY_FILE='/none': there is no such file"),
    ],
)
def test_what_cannot_be_shared(environment: dict[str, str], said: str) -> None:
    """A store that one process owns is not shared, nor one whose instances would not have the same keys."""
    with pytest.raises(ConfigurationError) as refused:
        load(environment)
    assert said in str(refused.value)


def test_workers_need_a_store_that_they_can_share() -> None:
    """Several workers share their store, whether that was said or not, and are refused where they cannot."""
    assert shared_by(Configuration(), 2).shares
    with pytest.raises(ConfigurationError, match="WORKFLOW_SHARED=false: 2 workers"):
        shared_by(Configuration(shared=Shared.FALSE), 2)
    with pytest.raises(ConfigurationError, match="'memory' store"):
        shared_by(Configuration(state_path="memory:"), 2)


def test_key_of_the_record_from_a_file(tmp_path: Path) -> None:
    """The record is signed with the key of the file that is named, so that any instance with it can verify it."""
    key = tmp_path / "key"
    key.write_bytes(b"the key of these tests\n")
    settings: dict[str, Any] = {
        "state_path": str(tmp_path / "s"),
        "audit_key_file": str(key),
        "durability": Durability.OFF,
    }
    with served(**settings) as one:
        one.register()
        assert one.ask("GET", "/audit/verify").json["intact"]
    assert not (tmp_path / "s" / "audit-key").exists()


def test_lease_is_that_of_the_configuration(tmp_path: Path) -> None:
    """`WORKFLOW_LEASE` says how often an instance sends heartbeats."""
    with served(state_path=str(tmp_path), shared=Shared.TRUE, lease=3.0) as one:
        assert 0.5 == owner(one).interval


@pytest.mark.parametrize(
    ("host", "told"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", socket.gethostname()), ("::", socket.gethostname()), ("::1", "[::1]")],
)
def test_an_instance_tells_where_it_can_be_reached(host: str, told: str, tmp_path: Path) -> None:
    """An instance that listens on all addresses tells the name of its machine, which others can ask for."""
    with served(state_path=str(tmp_path), shared=Shared.TRUE, api_host=host, api_port=8080) as one:
        assert f"{told}:8080" == owner(one).address


# --- processes on one port --------------------------------------------------------------------------------------------


@pytest.fixture
def signals() -> Iterator[None]:
    """Put the handlers of signals back."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def workers(code: str, count: int = 2) -> Workers:
    """Return the parent of processes that run some code, in which `ready()` says that they serve."""
    head = (
        "import os, signal, sys, time\n"
        "def ready(): os.write(int(sys.argv[2]), b'ready\\n'); os.close(int(sys.argv[2]))\n"
        "def name(): return os.environ['WORKFLOW_INSTANCE_ID'].split('-')[1]\n"
    )
    command = (sys.executable, "-S", "-E", "-c", head + code)
    settings = Configuration(api_port=0, drain_timeout=1.0, instance_id="i")
    return Workers(settings, count, command=command, environment={})


def stop(_: int = 0) -> None:
    """Tell the parent, this process, to end."""
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ready(); sys.stdin.read()", 1),
        ("signal.signal(15, lambda *_: sys.exit(0)); ready(); time.sleep(60)", 0),
        ("signal.signal(15, lambda *_: sys.exit(3)); ready(); time.sleep(60)", 1),
    ],
    ids=["killed by it", "in order", "with an error"],
)
def test_end_of_workers(code: str, status: int) -> None:
    """The parent's end is good where that of all its workers was."""
    assert status == workers(code).run(stop)


@pytest.mark.usefixtures("signals")
def test_worker_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is still there when the time to drain is over, and some grace, is killed."""
    monkeypatch.setattr("knhk.server.workers._GRACE", -0.9)

    assert 1 == workers("signal.signal(15, signal.SIG_IGN); ready(); time.sleep(60)", 1).run(stop)


@pytest.mark.usefixtures("signals")
def test_workers_that_never_serve() -> None:
    """Where a worker dies before all have served once, the parent ends with an error instead of trying for ever."""
    told: list[int] = []

    assert 1 == workers("sys.exit(2) if name() == '1' else time.sleep(60)").run(told.append)
    assert not told


@pytest.mark.usefixtures("signals")
def test_end_before_all_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end that is asked for while workers start is in order."""
    made = workers("time.sleep(60)")
    monkeypatch.setattr(made, "_look_after", lambda *, told: stop() or True)

    assert 0 == made.run(lambda _: None)


@pytest.mark.usefixtures("signals")
def test_dead_worker_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies is started again under a new name, after a pause that grows while it does not last."""
    monkeypatch.setattr("knhk.server.workers._FIRST_PAUSE", 0.01)
    code = (
        "signal.signal(15, lambda *_: sys.exit(0)); ready()\n"
        f"lives = os.open({str(tmp_path / 'lives')!r}, os.O_CREAT | os.O_APPEND | os.O_RDWR)\n"
        "os.write(lives, (os.environ['WORKFLOW_INSTANCE_ID'] + '\\n').encode())\n"
        "if os.fstat(lives).st_size < 40: time.sleep(0.2); os.kill(os.getpid(), 9)\n"
        "os.kill(os.getppid(), 15); time.sleep(60)\n"
    )

    assert 0 == workers(code, 1).run(lambda _: None)
    lives = (tmp_path / "lives").read_text().split()
    assert len(lives) == len(set(lives)) == 4


def test_listener_that_is_none() -> None:
    """A worker without a parent is told so."""
    with pytest.raises(ConfigurationError, match="the parent of several workers"):
        inherited(987)


def until(holds: Callable[[], _T]) -> _T:
    """Wait until something is so; returns what it then is."""
    end = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_workers_on_one_port(tmp_path: Path) -> None:
    """Several processes answer on one port and share the store; one that is killed is started again; the end is in order."""
    state = tmp_path / "s"
    with process(state, arguments=("--workers", "2"), LEASE="2") as made:

        def pair() -> set[str]:
            _, told = made.ask("GET", "/api/v1/instances")
            halves = {each["id"] for each in told["items"] if each["state"] == "live" and each["partitions"] == 32}
            return halves if len(halves) == 2 else set()

        def listed() -> set[str]:
            told = CliRunner().invoke(knhk, ["instances", "--db", str(state / "knhk.db")])
            return {line.split()[0] for line in told.stdout.splitlines()[1:]}

        before = until(pair)
        children = subprocess.run(
            ["pgrep", "-P", str(made.process.pid)],  # noqa: S607 - wherever it is
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        assert 2 == len(children)
        os.kill(int(children[0]), signal.SIGKILL)
        # One of the two goes on, the other is somebody new.
        until(lambda: len((now := pair()) & before) == 1 and now == listed())
        assert made.ask("GET", "/api/v1/audit/verify", bearer=token())[1]["intact"]

        assert 0 == made.end()
    with socket.socket() as asking:
        assert asking.connect_ex(("127.0.0.1", made.port))
    listed = CliRunner().invoke(knhk, ["instances", "--db", str(state / "knhk.db"), "--json"])
    assert (0, "") == (listed.exit_code, listed.stdout)


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """Workers whose parent was killed end in order."""
    state = tmp_path / "s"
    with process(state, arguments=("--workers", "2"), LEASE="2") as made:
        made.end(signal.SIGKILL)

    def left() -> bool:
        listed = CliRunner().invoke(knhk, ["instances", "--db", str(state / "knhk.db"), "--json"])
        return not listed.stdout

    until(left)


def test_list_of_nobody(tmp_path: Path) -> None:
    """Where nobody shares the store the command says so."""
    with served(state_path=str(tmp_path)):
        told = CliRunner(env={"WORKFLOW_STATE_PATH": str(tmp_path)}).invoke(knhk, ["instances"])

    assert (0, "") == (told.exit_code, told.stdout)
    assert "nobody shares this store" in told.stderr
