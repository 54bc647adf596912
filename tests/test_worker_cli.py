"""``knhk worker``, in a process of its own and in this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from knhk.cli.app import knhk
from tests.listening import Instance, instances
from tests.served import token

LABEL: dict[str, Any] = {
    "id": "label",
    "tasks": [{"id": "print", "external": {"topic": "labels"}}],
    "flows": [{"from": "start", "to": "print"}, {"from": "print", "to": "end"}],
}
TASKS = """
import sys
def label(work):
    print("begun", flush=True)
    return {"label": sys.stdin.readline().strip()}
HANDLERS = {"labels": label, "other": label}
"""


def started(directory: Path, instance: Instance) -> subprocess.Popen[str]:
    """A worker in a process of its own, whose function says that it has begun and waits for a line."""
    (directory / "tasks.py").write_text(TASKS)
    (directory / "token").write_text(token("printer", "participant") + "\n")
    command = [sys.executable, "-m", "knhk", "worker", "tasks.py", "--server", instance.url, "--topic", "labels"]
    return subprocess.Popen(
        [*command, "--token-file", "token", "--name", "w", "--concurrency", "1"],
        cwd=directory,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_at_sigterm_what_runs_is_finished(tmp_path: Path) -> None:
    """The command does work of the topic it is told, reads its token from a file, and ends well when a signal comes."""
    with instances() as (client, (one,)):
        client.workflows.register(LABEL)
        case = client.cases.create("label", start=True)
        worker = started(tmp_path, one)
        with worker:
            assert worker.stdout is not None
            begun = worker.stdout.readline()
            worker.send_signal(signal.SIGTERM)
            _, said = worker.communicate("L-1\n", timeout=60)

        assert ("begun\n", 0, "completed") == (begun, worker.returncode, client.cases.get(case.case_id).state)
        assert {"label": "L-1"} == client.cases.get(case.case_id).data
        assert f"w works for {one.url} on labels\n" in said and said.endswith("ended\n")


def test_a_second_signal_ends_it_now(tmp_path: Path) -> None:
    """Whoever does not want to wait for what runs says so twice."""
    with instances() as (client, (one,)):
        client.workflows.register(LABEL)
        client.cases.create("label", start=True)
        with started(tmp_path, one) as worker:
            assert worker.stdout is not None and worker.stderr is not None
            worker.stdout.readline()
            worker.send_signal(signal.SIGTERM)
            assert any("a second signal" in line for line in worker.stderr)
            worker.send_signal(signal.SIGTERM)
            worker.wait(60)

        assert -signal.SIGTERM == worker.returncode


REGISTER = "def register(worker): worker.task('labels')(lambda work: None)\n"


@pytest.mark.parametrize(
    ("module", "arguments", "code", "said"),
    [
        (REGISTER, ["--topic", "x"], 2, "no function does the work of topic x; there are: labels"),
        ("def register(worker): pass\n", [], 2, "there are: none"),
        ("async def label(work): pass\nHANDLERS = {'labels': label}\n", [], 6, "asynchronous"),
        (REGISTER, ["--server", "ftp://x"], 2, "'ftp://x' is no URL of a service"),
        (REGISTER, ["--token-file", "none"], 3, "cannot read none"),
        (REGISTER, [], 4, "unauthenticated"),
        ("", [], 2, "neither HANDLERS"),
    ],
)
def test_what_is_wrong_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, arguments: list[str], code: int, said: str
) -> None:
    """A topic without a function, no function, an address or a token that is none: said, with the exit code for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORKFLOW_TOKEN", raising=False)
    (tmp_path / f"tasks_{os.getpid()}.py").write_text(module)
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    with instances() as (_, (one,)):
        command = ["worker", f"tasks_{os.getpid()}.py", "--server", one.url, *arguments]
        result = CliRunner().invoke(knhk, command)
    for each, handler in handlers.items():
        signal.signal(each, handler)

    assert code == result.exit_code, result.output
    assert said in result.stderr
