"""A history gives the same case, and the same commands the same history, under any hash seed, locale and time zone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = r"""
import itertools, json, locale, sys
try:
    locale.setlocale(locale.LC_ALL, "")
except locale.Error:
    pass
from knhk.ports import Durability
from knhk.stores.sqlite import SqliteStore
from knhk.testing.chance import FixedChance
from tests.test_faults import FaultyStore, Tour


class Ids:
    numbers = itertools.count()

    def next_id(self):
        return f"case-{next(self.numbers)}"


tour = Tour(FaultyStore(SqliteStore(sys.argv[2], durability=Durability.OFF), 0), evict=False)
engine = tour.engine
engine._handlers.chance = FixedChance()
if sys.argv[1] == "play":
    engine._ids = Ids()
    tour.play()
    # One more that stands in the middle: parallel branches, a claim, an event that waits, text beyond ASCII.
    case = engine.create_case("tour", {"amount": 7, "people": ["Zoë", "İlker", "中"], "ı": {"b": 1.5, "a": None}}).run()
    case.start_task("label", by="İ")
    case.send_event("payment")
for header in engine.cases():
    case = engine.case(header.case_id)
    with engine._cache.hold(case.id) as resident:
        print(json.dumps(resident.case.state.dump()))
    print(case.enabled, case.running, case.next_due, case.marking)
    for event in case.history():
        print(ascii((event.at, event.kind.value, event.path, dict(event.details))))
    for batch in engine._store.history(case.id):
        print(batch.hex())
"""
PLACES = [
    {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"},
    {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    {"PYTHONHASHSEED": "4242", "TZ": "America/St_Johns", "LC_ALL": "tr_TR.UTF-8"},
    {"PYTHONHASHSEED": "random", "TZ": "Pacific/Apia", "LC_ALL": "de_DE.ISO-8859-1", "KNHK_NO_EXTENSION": "1"},
]


def told(place: dict[str, str], what: str, path: Path) -> str:
    """What a process in another environment plays or finds in a file, and says of it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "KNHK_"))}
    program = path.with_name("program.py")
    program.write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program), what, str(path)],
        env={**inherited, **place, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="ascii",
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_history_means_the_same_everywhere(tmp_path: Path) -> None:
    """Each environment makes the same journals, byte for byte, and reads the same cases out of the first one's file."""
    played = [told(place, "play", tmp_path / f"{number}.db") for number, place in enumerate(PLACES)]
    loaded = [told(place, "load", tmp_path / "0.db") for place in PLACES]

    assert played[0].count("case_created") == 3
    assert "item_claimed" in played[0]
    assert {played[0]} == {*played, *loaded}
