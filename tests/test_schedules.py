"""Schedules: cases are launched at their times, each once, whatever clocks, engines and processes do."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knhk import CommandError, DataError, Engine, MissingExtra, Specification, SpecificationError, build
from knhk.spec import Schedule
from knhk.stores.memory import MemoryStore
from knhk.testing.clock import ManualClock
from knhk.work.schedules import GRACE
from knhk.work.times import last_before, times_of

HOUR = 3_600_000
DAY = 24 * HOUR


def at(text: str) -> int:
    """A time of ISO 8601 in milliseconds."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def told(milliseconds: int, zone: str = "UTC") -> str:
    """A time as text in a zone."""
    return datetime.fromtimestamp(milliseconds / 1000, ZoneInfo(zone)).isoformat()


def scheduled(schedule: Any, *, name: str = "report", version: str = "1", **more: Any) -> Specification:
    """A specification that is launched by itself, of one manual task."""
    net = build(name, version=version, schedule=schedule, **more)
    net.sequence(net.start, net.task("write", manual=True), net.end)
    return net.specification()


@pytest.fixture
def clock() -> ManualClock:
    """A Thursday, eight minutes past seven."""
    return ManualClock(at("2026-01-01T07:08:00Z"))


@pytest.fixture
def engine(clock: ManualClock) -> Iterator[Engine]:
    """An engine whose time is told."""
    with Engine(clock=clock) as running:
        yield running


def launched(engine: Engine) -> list[Any]:
    """The data of all cases, in the order of their ids."""
    return [engine.case(header.case_id).data for header in engine.cases()]


def test_a_case_is_launched_and_started_at_each_time(engine: Engine, clock: ManualClock) -> None:
    """At its time, not before, with its data and the time itself; the runner's round does it."""
    engine.register(
        scheduled({"cron": "0 8 * * 1-5", "zone": "Europe/Berlin", "data": {"kind": "daily"}, "time": "for"})
    )
    assert [] == launched(engine)
    clock.advance(at("2026-01-02T06:59:59Z") - clock.now())
    assert (0, []) == (engine.tick(), launched(engine))
    clock.advance(1_000)

    assert (1, 0) == (engine.tick(), engine.tick())

    assert [{"kind": "daily", "for": "2026-01-02T07:00:00Z"}] == launched(engine)
    (header,) = engine.cases()
    assert ("running", ["write"]) == (header.state, engine.case(header.case_id).enabled)
    state = engine.schedules.get("report")
    assert ("1", 1, at("2026-01-02T07:00:00Z"), at("2026-01-05T07:00:00Z"), False, 0, "") == (
        state.version,
        state.launched,
        state.last,
        state.next,
        state.paused,
        state.failed,
        state.error,
    )
    assert [state] == engine.schedules.list()


@pytest.mark.parametrize(
    ("catch_up", "times"),
    [
        ("one", ["2026-01-01T12:00:00Z"]),
        ("all", [f"2026-01-01T{hour:02}:00:00Z" for hour in range(8, 13)]),
        ("none", []),
    ],
)
def test_after_a_downtime_it_is_caught_up_with_as_the_schedule_says(
    engine: Engine, clock: ManualClock, catch_up: str, times: list[str]
) -> None:
    """One case for all times that were missed, or one for each, or none; and then it goes on as ever."""
    engine.register(scheduled({"cron": "0 * * * *", "time": "for", "catch_up": catch_up}))
    clock.advance(at("2026-01-01T12:30:00Z") - clock.now())

    assert len(times) == engine.tick()

    assert times == [each["for"] for each in launched(engine)]
    clock.advance(at("2026-01-01T13:00:00Z") + GRACE - clock.now())
    assert 1 == engine.tick()
    assert "2026-01-01T13:00:00Z" == launched(engine)[-1]["for"]


def test_the_default_is_one(engine: Engine, clock: ManualClock) -> None:
    """Nothing said, one case follows a downtime, however long."""
    engine.register(scheduled({"every": "1s"}))
    clock.advance(400 * DAY)

    assert 1 == engine.tick()
    assert clock.now() == engine.schedules.get("report").last


def test_clocks_that_jump_neither_lose_nor_double(engine: Engine, clock: ManualClock) -> None:
    """Over random jumps of hours, forth and back, each minute that passed is launched once when all are asked for."""
    chance = random.Random(4)
    engine.register(scheduled({"every": "10m", "time": "for", "catch_up": "all"}))
    begun = latest = clock.now()
    for _ in range(60):
        clock.advance(round(chance.uniform(-3, 5) * HOUR))
        latest = max(latest, clock.now())
        engine.tick()

    expected = [begun + n * 600_000 for n in range(1, (latest - begun) // 600_000 + 1)]
    assert expected == [at(each["for"]) for each in launched(engine)]


def test_a_restart_launches_what_was_due_meanwhile(tmp_path: Path, clock: ManualClock) -> None:
    """The schedule is in the store: registering again changes nothing, and nothing is launched twice."""
    path = str(tmp_path / "cases.db")
    for _ in range(3):
        with Engine(path, clock=clock) as engine:
            engine.register(scheduled({"every": "1h", "time": "for"}))
            engine.tick()
            assert 0 == engine.tick()
        clock.advance(HOUR)

    with Engine(path, clock=clock) as engine:
        assert 1 == engine.tick()
        assert [f"2026-01-01T{hour:02}:08:00Z" for hour in (8, 9, 10)] == [each["for"] for each in launched(engine)]


def test_several_engines_launch_each_occurrence_once(tmp_path: Path, clock: ManualClock) -> None:
    """Four engines in four threads, a hundred occurrences: a hundred cases."""
    path = str(tmp_path / "cases.db")
    engines = [Engine(path, clock=clock, durability="off") for _ in range(4)]
    engines[0].register(scheduled({"every": "1m", "time": "for", "catch_up": "all"}))
    clock.advance(100 * 60_000)
    threads = [threading.Thread(target=engine.tick) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = [each["for"] for each in launched(engines[0])]
    for engine in engines:
        engine.close()

    assert 100 == len(times) == len(set(times))


def test_the_latest_version_says_when(engine: Engine, clock: ManualClock) -> None:
    """A new version replaces the schedule or ends it; registering an old one again does not bring its schedule back."""
    engine.register(scheduled({"every": "1h"}))
    engine.register(scheduled({"every": "2h", "data": {"v": 2}}, version="2"))
    engine.register(scheduled({"every": "1h"}))
    clock.advance(HOUR)
    assert 0 == engine.tick()
    clock.advance(HOUR)
    assert (1, [{"v": 2}]) == (engine.tick(), launched(engine))
    assert {"2"} == {header.spec_version for header in engine.cases()}

    engine.register(scheduled(None, version="3"))

    clock.advance(10 * HOUR)
    assert (0, []) == (engine.tick(), engine.schedules.list())
    for call in (engine.schedules.get, engine.schedules.pause, engine.schedules.resume, engine.schedules.times):
        with pytest.raises(CommandError, match="has no schedule"):
            call("report")


def test_an_occurrence_that_two_versions_name_is_launched_once(engine: Engine, clock: ManualClock) -> None:
    """The time of an occurrence is its name: a new version that is registered right after it does not launch it again."""
    engine.register(scheduled({"repeat": "R/2026-01-01T08:00:00Z/PT1H"}))
    clock.advance(52 * 60_000)
    assert 1 == engine.tick()
    clock.advance(-1)
    engine.register(scheduled({"repeat": "R/2026-01-01T08:00:00Z/PT1H"}, version="2", name="report"))
    clock.advance(1)

    assert (0, 1) == (engine.tick(), len(launched(engine)))
    assert at("2026-01-01T09:00:00Z") == engine.schedules.get("report").next


def test_a_paused_schedule_launches_nothing(engine: Engine, clock: ManualClock) -> None:
    """What passes while it is paused is not caught up with; its times can be asked for all the while."""
    engine.register(scheduled({"every": "1h", "catch_up": "all"}))
    engine.schedules.pause("report")
    clock.advance(5 * HOUR + 1)
    assert (0, None, True) == (
        engine.tick(),
        engine.schedules.get("report").next,
        engine.schedules.get("report").paused,
    )

    engine.schedules.resume("report")

    assert 0 == engine.tick()
    assert [at("2026-01-01T13:08:00Z"), at("2026-01-01T14:08:00Z")] == engine.schedules.times("report", 2)
    clock.advance(HOUR)
    assert 1 == engine.tick()


def test_a_case_that_cannot_be_launched_is_counted_and_passed_over(engine: Engine, clock: ManualClock) -> None:
    """It raises after the rest was done, the schedule says why, and the next occurrence is tried."""
    net = build("broken", schedule={"every": "1h"})
    net.start.to(net.task("choose", split="xor")).to(net.end, when="data.no > 1")
    net.task("other")
    net.flow("choose", "other", default=True)
    net.flow("other", net.end)
    engine.register(net.specification())
    engine.register(scheduled({"every": "1h"}))
    clock.advance(HOUR)

    with pytest.raises(DataError, match="no"):
        engine.tick()

    state = engine.schedules.get("broken")
    assert (0, 1, at("2026-01-01T09:08:00Z")) == (state.launched, state.failed, state.next)
    assert "no" in state.error
    assert ["report"] == [header.spec_id for header in engine.cases()]
    assert 0 == engine.tick()


def test_who_is_overtaken_launches_nothing(clock: ManualClock) -> None:
    """A schedule that another engine moved first is left to it; changes are made to what is so."""

    class Overtaking(MemoryStore):
        armed = False

        def overtake(self) -> None:
            if self.armed:
                self.armed = False
                found = self.document("schedules", "report")
                assert found is not None
                super().write([attrs.evolve(found, due=(found.due or 0) + HOUR, version=found.version + 1)])

        def commit(self, commits: Any) -> None:
            self.overtake()
            super().commit(commits)

        def write(self, documents: Any, removed: Any = ()) -> None:
            self.overtake()
            super().write(documents, removed)

    store = Overtaking()
    with Engine(store, clock=clock) as engine:
        engine.register(scheduled({"every": "1h"}))
        clock.advance(HOUR)
        store.armed = True
        assert (0, []) == (engine.tick(), launched(engine))
        store.armed = True
        engine.schedules.pause("report")
        assert engine.schedules.get("report").paused
        store.armed = True
        engine.register(scheduled({"every": "2h"}, version="2"))
        assert "2" == engine.schedules.get("report").version
        store.armed = True
        engine.register(scheduled(None, version="3"))
        assert [] == engine.schedules.list()


# --- times ------------------------------------------------------------------------------------------------------------


def following(schedule: Schedule, begin: str, count: int, zone: str = "UTC") -> list[str]:
    """The next times of a schedule."""
    times = times_of(schedule, at(begin))
    found: list[str] = []
    moment: int | None = at(begin)
    while len(found) < count and (moment := times(moment or 0)) is not None:
        found.append(told(moment, zone))
    return found


@pytest.mark.parametrize(
    ("cron", "begin", "expected"),
    [
        # The hour from 2 to 3 is left out: what is at half past two comes when the clocks have gone on.
        ("30 2 * * *", "2026-03-28T12:00:00+01:00", ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]),
        # The hour from 2 to 3 comes twice: what is at half past two comes once.
        ("30 2 * * *", "2026-10-24T12:00:00+02:00", ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
        ("30 2 * * *", "2026-10-25T02:10:00+01:00", ["2026-10-26T02:30:00+01:00"]),
        # What comes each hour, or in each, comes by the time that passes.
        ("0 * * * *", "2026-03-29T01:30:00+01:00", ["2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"]),
        (
            "0 * * * *",
            "2026-10-25T01:30:00+02:00",
            ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"],
        ),
        (
            "*/30 2 * * *",
            "2026-10-25T01:30:00+02:00",
            [f"2026-10-25T02:{m}:00+0{o}:00" for o in (2, 1) for m in ("00", "30")],
        ),
        ("0 9 L * *", "2026-02-01T00:00:00+01:00", ["2026-02-28T09:00:00+01:00", "2026-03-31T09:00:00+02:00"]),
        ("0 9 * * MON#1", "2026-02-01T00:00:00+01:00", ["2026-02-02T09:00:00+01:00", "2026-03-02T09:00:00+01:00"]),
        ("15 0 9 * * *", "2026-02-01T00:00:00+01:00", ["2026-02-01T09:00:15+01:00"]),
    ],
)
def test_cron_follows_the_clock_on_the_wall(cron: str, begin: str, expected: list[str]) -> None:
    """Over both changes of the clocks, and at the ends of months."""
    schedule = Schedule(cron=cron, zone="Europe/Berlin")

    assert expected == following(schedule, begin, len(expected), "Europe/Berlin")


@pytest.mark.parametrize(
    ("repeat", "zone", "expected"),
    [
        ("R2/2026-01-31T08:00:00Z/P1M", "UTC", ["2026-01-31T08:00:00+00:00", "2026-02-28T08:00:00+00:00"]),
        ("R1/2025-01-31T08:00:00Z/P1M", "UTC", []),
        (
            "R-1/2026-03-28T02:30:00/P1D",
            "Europe/Berlin",
            ["2026-03-28T02:30:00+01:00", "2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
        (
            "R/2026-03-28T12:00:00/PT24H",
            "Europe/Berlin",
            ["2026-03-28T12:00:00+01:00", "2026-03-29T13:00:00+02:00", "2026-03-30T13:00:00+02:00"],
        ),
        ("R/2020-02-29T00:00:00+05:00/P1Y", "UTC", ["2026-02-27T19:00:00+00:00", "2027-02-27T19:00:00+00:00"]),
        ("R/1999-12-31T23:59:59Z/P1DT0.5S", "UTC", ["2026-01-01T01:19:07.500000+00:00"]),
        ("R/9998-12-31T23:59:59Z/P1Y", "UTC", ["9998-12-31T23:59:59+00:00", "9999-12-31T23:59:59+00:00"]),
    ],
)
def test_repeating_intervals_keep_day_and_time(repeat: str, zone: str, expected: list[str]) -> None:
    """Months end where they end, days keep their time of day over a change of the clocks, hours are hours; ends are ends."""
    schedule = Schedule(repeat=repeat, zone=zone)

    found = following(schedule, "2026-01-01T00:00:00Z", 3, zone)

    assert expected == found[: len(expected)] if expected else found == []
    if "R2/" in repeat or "9998" in repeat:
        assert 2 == len(found)


SCHEDULES = [
    Schedule(every=61_000),
    Schedule(cron="*/7 3-9 * * 1,5", zone="America/New_York"),
    Schedule(cron="30 2 * * *", zone="Europe/Berlin"),
    Schedule(repeat="R/2025-06-30T02:30:00/P1M", zone="Australia/Lord_Howe"),
    Schedule(repeat="R40/2026-01-01T00:00:00Z/PT9H"),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda each: str(each.cron or each.repeat or each.every))
@given(begin=st.integers(0, 2 * 365 * DAY), wait=st.integers(0, 40 * DAY))
def test_times_ascend_and_none_is_left_out(schedule: Schedule, begin: int, wait: int) -> None:
    """The next time after any moment between two is the second of them; the last that passed is the one before the next."""
    begin += at("2025-06-01T00:00:00Z")
    times = times_of(schedule, at("2025-06-01T00:00:00Z"))
    first = times(begin)
    if first is None:
        return
    second = times(first)

    assert first > begin
    assert first == times((begin + first) // 2)
    assert second is None or second > first
    assert second is None or second == times((first + second) // 2) == times(second - 1)
    if wait <= DAY or "*/7" not in str(schedule.cron):
        last = last_before(times, first, first + wait)
        assert first <= last <= first + wait
        assert (times(last) or last + wait + 1) > first + wait


# --- form -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "place", "why"),
    [
        ({}, "schedule", "needs"),
        ({"cron": "* * * * *", "every": "1h"}, "schedule", "has cron and every"),
        ({"every": "999ms"}, "schedule.every", "at least 1s"),
        ({"every": "1h", "zone": "Europe/Berlin"}, "schedule.zone", "means nothing"),
        ({"repeat": "P1D"}, "schedule.repeat", "it is written as"),
        ({"repeat": "R/tomorrow/P1D"}, "schedule.repeat", "date and a time"),
        ({"repeat": "R/2026-01-01T99:00:00Z/P1D"}, "schedule.repeat", "hour"),
        ({"repeat": "R/2026-01-01T00:00:00Z/1d"}, "schedule.repeat", "ISO 8601"),
        ({"repeat": "R/2026-01-01T00:00:00Z/PT0.5S"}, "schedule.repeat", "a second apart"),
        ({"repeat": 5}, "schedule.repeat", "must be text"),
        ({"cron": "* * * * *", "data": []}, "schedule.data", "must be a map"),
        ({"cron": "* * * * *", "catch_up": "some"}, "schedule.catch_up", "must be"),
        ({"cron": "61 * * * *"}, "schedule.cron", "is no cron expression: Bad minute"),
        ({"cron": "* * *"}, "schedule.cron", "Wrong number of fields"),
        ({"cron": "0 0 30 2 *"}, "schedule.cron", "is no cron"),
        ({"cron": "0 0 29 2 MON#5", "zone": "Mars/Olympus"}, "schedule.zone", "no time zone 'Mars/Olympus'"),
        ({"cron": "* * * * *", "zone": "../../etc/passwd"}, "schedule.zone", "no time zone"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(engine: Engine, schedule: Any, place: str, why: str) -> None:
    """When it is read, or where a library is needed when it is registered."""
    with pytest.raises(SpecificationError) as raised:
        engine.register(scheduled(schedule))

    assert any(each.place == place and why in each.message for each in raised.value.problems), raised.value
    assert [] == engine.schedules.list()


def test_its_data_must_fit_the_schema(engine: Engine) -> None:
    """What every case would be refused for is refused at once."""
    schema = {"type": "object", "required": ["n"]}
    engine.register(scheduled({"every": "1h", "data": {"n": 1}}, data=schema))
    with pytest.raises(SpecificationError, match=r"schedule\.data"):
        engine.register(scheduled({"every": "1h"}, data=schema, version="2"))


def test_a_cron_expression_needs_its_library(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra it says what to install; other schedules need nothing."""
    monkeypatch.setitem(sys.modules, "cronsim", None)

    with pytest.raises(MissingExtra, match=r"knhk\[schedule\]"):
        engine.register(scheduled("0 8 * * *"))
    engine.register(scheduled({"every": "1h"}))


WORKER = """
import sys
from knhk import Engine, build

net = build("report", schedule={"every": "1s", "time": "for", "catch_up": "all"})
net.sequence(net.start, net.task("write", handler="write"), net.end)

class Fast:
    # Ten minutes pass in a second, and go on after a restart.
    def now(self):
        import time
        return int(1_700_000_000_000 + (time.time() - float(sys.argv[2])) * 600_000)

with Engine(sys.argv[1], clock=Fast()) as engine:
    engine.handler("write")(lambda work: {})
    engine.register(net.specification())
    print("ready", flush=True)
    while True:
        engine.tick()
        engine.run_pending()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_kills_neither_lose_nor_double_an_occurrence(tmp_path: Path) -> None:
    """Two processes launch and are killed at random instants, twelve times: every occurrence has one case."""
    path, begun, chance = str(tmp_path / "cases.db"), str(time.time()), random.Random(3)
    for _ in range(12):
        workers = [
            subprocess.Popen([sys.executable, "-c", WORKER, path, begun], stdout=subprocess.PIPE) for _ in range(2)
        ]
        for worker in workers:
            assert worker.stdout is not None
            with worker.stdout:
                worker.stdout.readline()
        time.sleep(chance.uniform(0, 0.2))
        for worker in workers:
            worker.kill()
            worker.wait()
    with Engine(path, clock=ManualClock()) as engine:
        state = engine.schedules.get("report")
        times = sorted(at(each["for"]) for each in launched(engine))

    assert len(times) > 100
    assert state.launched == len(times)
    assert ([*range(times[0], (state.next or 0), 1_000)], 0, "") == (times, state.failed, state.error)
