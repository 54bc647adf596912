"""Three instances are restarted one after the other while clients work (`python -m tests.rolling restarts=20` does more of it)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import rolling


def test_a_rolling_restart_fails_no_request(tmp_path: Path) -> None:
    """Each of three instances ends in order and comes back; every call of both kinds of client is answered, no case is lost or doubled, and a worker does all its work."""
    report = rolling.roll(tmp_path, restarts=3, threads=2)

    assert ([], [0, 0, 0]) == (report.failed, report.exits)
    assert min(len(report.cases), len(report.labels)) >= 10


def test_what_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints what came of it, and its exit code says whether anything failed."""
    codes = []
    for failed in ([], ["lost"]):
        report = rolling.Report(seconds=[0.001, 0.002], failed=failed, exits=[0])
        monkeypatch.setattr(
            rolling, "roll", lambda *_, report=report, **plan: report if plan["restarts"] == 7 else None
        )
        codes.append(rolling.main(["restarts=7"]))

    told = "1 restarts, 2 calls, {} failed; median 2.0 ms, slowest 2 ms\n"
    assert [0, 1] == codes
    assert told.format(0) + told.format(1) + "lost\n" == capsys.readouterr().out
