"""Four processes on one store, killed and stopped at random moments: nothing is lost, doubled or contradicted."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from servers import require

from tests.crowd import Plan, run, shared_by_all


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs the signals of a POSIX system")
@pytest.mark.parametrize("kind", ["sqlite", "redis", "etcd", "postgresql"])
def test_processes_that_are_killed_and_stopped(kind: str, tmp_path: Path) -> None:
    """All cases reach their end, each task once, with what was acknowledged, whatever is killed, stopped and restarted meanwhile."""
    if kind != "sqlite":
        require(kind)
    with shared_by_all(kind, tmp_path) as (target, server):
        assert [] == run(target, server, tmp_path, Plan())
