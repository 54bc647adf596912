"""The deterministic simulation of several instances: many seeds without a problem, and proof that it would see one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import pytest

from knhk import _cache
from knhk._pipeline import Pipeline
from knhk.ports import Commit
from knhk.stores import MemoryStore
from knhk.testing.simulation import Faults, simulate
from knhk.testing.simulation.__main__ import main
from knhk.work.case_work import CaseWork

SEEDS = 2_000
SHARE = 100
"""Seeds in one test, so that all processes of a test run have some."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Let the engines' logs be: thousands of deaths are told there."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", range(0, SEEDS, SHARE))
def test_nothing_is_lost_or_doubled(first: int) -> None:
    """Whatever dies, stands still, is lost or late: at the end each wish is one case that is over, and each answer was true."""
    stories = [simulate(seed) for seed in range(first, first + SHARE)]

    assert {} == {story.seed: story.problems for story in stories if story.problems}


def test_everything_goes_wrong_now_and_then() -> None:
    """The faults do happen, and clients and handlers get through nevertheless."""
    counts = sum((simulate(seed).counts for seed in range(40)), simulate(40).counts)

    faults = {"crash", "pause", "unreachable", "reply lost", "slow", "outage", "jump", "no answer"}
    assert set() == faults - counts.keys()
    assert min(counts[f"did {each}"] for each in ("create", "complete", "complete-claim", "cancel", "suspend")) > 0


def test_a_seed_is_the_same_story_everywhere() -> None:
    """The same seed leads to the same calls of the store, in this process and in others with other hashes."""
    command = "from knhk.testing.simulation import simulate; print(*(simulate(seed).digest for seed in range(12)))"
    told = [
        subprocess.run(
            [sys.executable, "-c", command],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            text=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    here = [simulate(seed).digest for seed in range(12)]

    assert [here, here] == told
    assert 12 == len(set(here))


def test_without_faults_nothing_is_tried_twice() -> None:
    """Where nothing goes wrong no request stays without an answer, and no work is attempted again."""
    calm = Faults(**{each.name: 0.0 for each in attrs.fields(Faults)})
    counts = sum((simulate(seed, faults=calm).counts for seed in range(20)), simulate(20, faults=calm).counts)

    assert 0 == counts["no answer"] == counts["crash"]
    assert counts["handler"] > 40


# --- it would see it --------------------------------------------------------------------------------------------------


def _no_fence_in_the_store(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryStore, "_validate_held", lambda *_: None)


def _no_fence_in_the_engine(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_cache, "under", lambda commits, _: commits)


def _no_idempotency(patch: pytest.MonkeyPatch) -> None:
    commit: Callable[[MemoryStore, Sequence[Commit]], None] = MemoryStore.commit
    patch.setattr(MemoryStore, "find_idempotent", lambda *_: None)
    patch.setattr(
        MemoryStore, "commit", lambda store, all_: commit(store, [attrs.evolve(c, idempotency=None) for c in all_])
    )


def _no_record_of_attempts(patch: pytest.MonkeyPatch) -> None:
    begin = CaseWork._begin

    def unrecorded(self: CaseWork, *arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(self._cache, "commit", lambda _: None)
            return begin(self, *arguments)

    patch.setattr(CaseWork, "_begin", unrecorded)


def _last_one_wins(patch: pytest.MonkeyPatch) -> None:
    commit: Callable[[MemoryStore, Sequence[Commit]], None] = MemoryStore.commit

    def overwritten(store: MemoryStore, commits: Sequence[Commit]) -> None:
        def on_top(each: Commit) -> Commit:
            stored = store.header(each.header.case_id).version if each.expected else 0
            return attrs.evolve(each, expected=stored, header=attrs.evolve(each.header, version=stored + 1))

        commit(store, [on_top(commits[0])] if len(commits) == 1 else commits)

    patch.setattr(MemoryStore, "commit", overwritten)


def _no_outcomes_in_pipelines(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pipeline, "_tell", lambda *_: None)


@pytest.mark.parametrize(
    "broken",
    [
        _no_fence_in_the_store,
        _no_fence_in_the_engine,
        _no_idempotency,
        _no_record_of_attempts,
        _last_one_wins,
        _no_outcomes_in_pipelines,
    ],
)
def test_what_is_broken_is_seen(broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine or a store without one of its safeguards shows problems within a hundred seeds."""
    broken(monkeypatch)

    def seen(seed: int) -> bool:
        try:
            return bool(simulate(seed).problems)
        except Exception:  # noqa: BLE001 - a history that contradicts itself is refused by whoever reads it
            return True

    assert any(map(seen, range(100)))


def test_the_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It plays seeds, tells a single one, and its exit status says whether there was a problem."""
    assert 0 == main(["--seeds", "2"])
    assert "2 seeds" in capsys.readouterr().out.splitlines()[-1]
    assert 0 == main(["--seed", "1", "--tell"])
    assert "start instance-1" in capsys.readouterr().out.splitlines()[0]
    _no_fence_in_the_engine(monkeypatch)
    assert 1 == main(["--seeds", "5"])
    assert "without a fence" in capsys.readouterr().out
