"""The page on the protocol of workers: its examples are what the service takes and gives, and its worker works."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from knhk.server import shapes
from tests.listening import instances
from tests.served import token
from tests.test_docs import DOCS, fences

PAGE = DOCS / "reference" / "worker-protocol.md"
SHAPES: tuple[Any, ...] = (
    shapes.ClaimWork,
    shapes.Page,
    shapes.CompleteWork,
    shapes.FailWork,
    shapes.Failed,
    shapes.ExtendWork,
    shapes.Extended,
    shapes.ReleaseWork,
)
LABEL: dict[str, Any] = {
    "id": "label",
    "tasks": [{"id": "print", "external": {"topic": "labels"}}],
    "flows": [{"from": "start", "to": "print"}, {"from": "print", "to": "end"}],
}


def test_the_examples_are_what_is_said() -> None:
    """Every body on the page is one of the service, whole."""
    shown = [json.loads(each.text) for each in fences(PAGE) if each.kind == "json"]

    assert len(SHAPES) == len(shown)
    for shape, body in zip(SHAPES, shown, strict=True):
        msgspec.convert(body, shape)
        assert set(shape.__struct_fields__) == set(body)
    (claim,) = shown[1]["items"]
    msgspec.convert(claim, shapes.Claim)
    assert set(shapes.Claim.__struct_fields__) == set(claim)


def test_the_worker_of_the_page_works(tmp_path: Path) -> None:
    """The shell script does work, says what has failed, and ends at SIGTERM."""
    missing = [each for each in ("curl", "jq", "awk") if shutil.which(each) is None]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"not installed: {', '.join(missing)}")
    (script,) = [each.text for each in fences(PAGE) if each.options.get("caption") == "worker.sh"]
    (tmp_path / "worker.sh").write_text(script)
    with instances() as (client, (one,)):
        client.workflows.register(LABEL)
        cases = [client.cases.create("label", {"weight": weight}, start=True) for weight in (3, "heavy")]
        # What the first claim meets is no answer of the service's, so that it is made again.
        one.faults = [("503 Service Unavailable", "draining", {})]
        environment = {**os.environ, "WORKFLOW_TOKEN": token("sh", "participant"), "WAIT": "1"}
        command = ["sh", "worker.sh", one.url]
        worker = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
        with worker:
            assert worker.stdout is not None
            said = [worker.stdout.readline(), worker.stdout.readline()]
            worker.send_signal(signal.SIGTERM)
            status = worker.wait(60)

        done = client.cases.get(cases[0].case_id)
        (letter,) = client.dead_letters.list().items
        assert ([f"{cases[0].case_id}:1 complete 204\n", f"{cases[1].case_id}:1 fail 200\n"], 0) == (said, status)
        assert ("completed", {"weight": 3, "label": "L-3"}) == (done.state, done.data)
        assert (cases[1].case_id, "Label") == (letter.case_id, letter.error)
        assert "cannot be added" in letter.reason
