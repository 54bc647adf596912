"""Event logs are read as streams of traces, and every malformed place is named."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knhk.errors import ParseError
from knhk.formats import Columns, LoggedEvent, Trace, read_event_log
from knhk.formats._csv_log import read_csv
from knhk.formats._log_text import MAX_NAME, MAX_PENDING
from knhk.formats._xes import read_xes

XES = """<?xml version="1.0" encoding="UTF-8"?>
<log xes.version="1849-2016" xmlns="http://www.xes-standard.org/">
  <extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
  <global scope="event"><string key="concept:name" value="default"/></global>
  <string key="concept:name" value="the log"/>
  <trace>
    <string key="concept:name" value="case 1"/>
    <event>
      <string key="concept:name" value="A&amp;B"><string key="concept:name" value="nested"/></string>
      <string key="lifecycle:transition" value="START"/>
      <date key="time:timestamp" value="1970-01-01T01:00:00.000+01:00"/>
      <list key="items"><values><string key="concept:name" value="deeper"/></values></list>
    </event>
    <event><string key="concept:name" value="C"/></event>
  </trace>
  <trace/>
</log>
"""
READ = [Trace("case 1", (LoggedEvent("A&B", "start", 0), LoggedEvent("C"))), Trace("trace 2", ())]


def log(folder: Path, name: str, text: str | bytes) -> list[Trace]:
    """Write a file and read it as a log."""
    data = text.encode() if isinstance(text, str) else text
    (folder / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return list(read_event_log(folder / name))


def problem(folder: Path, name: str, text: str | bytes) -> str:
    """What is wrong with a file."""
    with pytest.raises(ParseError) as caught:
        log(folder, name, text)
    assert "event log has a problem" in str(caught.value)
    (found,) = caught.value.problems
    return str(found)


@pytest.mark.parametrize("name", ["log.xes", "log.xes.gz", "LOG.XES"])
def test_xes_is_read(tmp_path: Path, name: str) -> None:
    """Cases, tasks, transitions and times come from the attributes directly below traces and events, and from no others."""
    assert READ == log(tmp_path, name, XES)


def test_xes_with_a_prefix_is_read(tmp_path: Path) -> None:
    """The namespace may have a prefix."""
    text = '<x:log xmlns:x="u"><x:trace><x:event><x:string key="concept:name" value="A"/></x:event></x:trace></x:log>'

    assert [Trace("trace 1", (LoggedEvent("A"),))] == log(tmp_path, "log.xes", text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "log.xes, line 1, column 1: is no XML: no element found"),
        ("<log>\n  <trace>\n</log>", "log.xes, line 3, column 3: is no XML: mismatched tag"),
        ("<pnml/>", "log.xes, line 1, column 1: the document is a <pnml>; XES begins with <log>"),
        ("<log>\n<event/></log>", "log.xes, line 2, column 1: an event outside of every trace belongs to no case"),
        ("<log><trace>\n<trace/></trace></log>", "log.xes, line 2, column 1: a trace inside a trace"),
        (
            "<log><trace>\n<event/></trace></log>",
            "log.xes, line 2, column 9: an event names no task: it has no concept:name",
        ),
        (
            "<log><trace><event>\n<string key='concept:name'/></event></trace></log>",
            "log.xes, line 2, column 1: the attribute concept:name has no value",
        ),
        (
            "<log><trace><event>\n<string value='A'/></event></trace></log>",
            "log.xes, line 2, column 1: an attribute has no key",
        ),
        (
            "<log><trace><event>\n<date key='time:timestamp' value='noon'/></event></trace></log>",
            "log.xes, line 2, column 1: 'noon' is no time in ISO 8601, such as 2026-03-01T09:30:00+01:00",
        ),
        (
            f"<log><trace>\n<string key='concept:name' value='{'x' * 1001}'/></trace></log>",
            "log.xes, line 2, column 1: the name of the case has 1001 characters; at most 1000 are read",
        ),
        (
            "<!DOCTYPE log [<!ENTITY a 'b'>]>\n<log/>",
            "log.xes, line 1, column 15: a document type is not read, as it may declare entities; remove it",
        ),
        ("<log>" + "<list>" * 70, "log.xes, line 1, column 384: elements are nested deeper than 64"),
        (
            '<?xml version="1.0" encoding="no-such"?><log/>',
            "log.xes, line 1, column 31: the text is in no encoding that can be read: unknown encoding: no-such",
        ),
    ],
)
def test_malformed_xes_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    """Each malformed place is named by line and column."""
    assert message == problem(tmp_path, "log.xes", text)


def test_laughing_entities_are_refused_before_they_are_declared(tmp_path: Path) -> None:
    """A document whose entities would grow to gigabytes is refused at its document type."""
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 30))
    text = f'<!DOCTYPE log [<!ENTITY l0 "lol">{entities}]><log><trace><string key="concept:name" value="&l29;"/></trace></log>'

    assert "a document type is not read" in problem(tmp_path, "log.xes", text)


def test_a_log_that_ends_early_gives_its_whole_traces_and_raises(tmp_path: Path) -> None:
    """What is given was read as a whole; the broken rest raises."""
    (tmp_path / "log.xes").write_text(XES.partition("<trace/>")[0])
    given: list[Trace] = []

    with pytest.raises(ParseError):
        given.extend(read_event_log(tmp_path / "log.xes"))

    assert READ[:1] == given


def test_a_tag_without_end_is_refused() -> None:
    """A single tag that goes on and on is refused before it fills the memory."""
    text = io.BytesIO(b"<log><trace name='" + b"x" * (2 * MAX_PENDING))

    with pytest.raises(ParseError, match="a single tag is longer than"):
        list(read_xes(text))


def test_a_compressed_bomb_is_read_in_constant_memory(tmp_path: Path) -> None:
    """A small file that inflates to fifty megabytes of traces never holds more than a few of them."""
    trace = b"<trace><event><string key='concept:name' value='A'/></event>" + b" " * 100_000 + b"</trace>"
    with gzip.open(tmp_path / "log.xes.gz", "wb") as file:
        file.write(b"<log>")
        for _ in range(500):
            file.write(trace)
        file.write(b"</log>")

    tracemalloc.start()
    count = sum(1 for _ in read_event_log(tmp_path / "log.xes.gz"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 500 == count
    assert peak < 8_000_000


CSV = '''case,activity,timestamp,lifecycle,cost
1,A,2026-01-01T10:02:00Z,complete,7
2,"B, the ""second""",2026-01-01T10:00:00Z,START,
1,C,2026-01-01T10:01:00Z,,
1,D,2026-01-01T10:01:00Z,complete,
'''


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
def test_csv_is_grouped_and_sorted(tmp_path: Path, name: str) -> None:
    """Rows of a case are put together and sorted by time; of one time, the order of the file is kept."""
    first, second = log(tmp_path, name, CSV)

    assert ("1", ["C", "D", "A"]) == (first.case, [each.task for each in first.events])
    assert ("2", [('B, the "second"', "start")]) == (second.case, [each[:2] for each in second.events])
    assert 60_000_000 == (first.events[2].time or 0) - (first.events[0].time or 0)


def test_csv_may_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """With order "file", times do not matter to the order."""
    (tmp_path / "log.csv").write_text(CSV)

    first = next(read_event_log(tmp_path / "log.csv", order="file"))

    assert ["A", "C", "D"] == [each.task for each in first.events]


@pytest.mark.parametrize(
    "text",
    [
        "case:concept:name,concept:name\n1,A\n",
        "Case_ID;Activity\n1;A\n",
        "\ufefftask\tcase\r\nA\t1\r\n\r\n",
    ],
)
def test_columns_and_separators_are_recognised(tmp_path: Path, text: str) -> None:
    """Known names in any case, separated by commas, semicolons or tabs; without times and transitions all are completions."""
    assert [Trace("1", (LoggedEvent("A", "complete", None),))] == log(tmp_path, "log.csv", text)


def test_columns_may_be_named(tmp_path: Path) -> None:
    """What cannot be recognised is named, the separator included."""
    (tmp_path / "log.csv").write_text("order|what|when|how\n7|A|2026-01-01|complete\n")
    columns = Columns(case="order", task="what", time="when", lifecycle="how", separator="|")

    (trace,) = read_event_log(tmp_path / "log.csv", columns=columns)

    assert ("7", "A") == (trace.case, trace.events[0].task)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "log.csv, line 1: the log is empty; its first row names the columns"),
        (
            "id,task\n",
            "log.csv, line 1: no column for the case: name it, or call it one of case, case_id, case:concept:name; there are 'id', 'task'",
        ),
        ("case,task,case\n", "log.csv, line 1: more than one column is called 'case'"),
        ("case,task\n1,A\n1\n", "log.csv, line 3: the row has 1 values; the first row names 2 columns"),
        ('case,task\n"1\n",A\n,A\n', "log.csv, line 4, column case: is empty; every event has a case and a task"),
        ("case,task\n1,\n", "log.csv, line 2, column task: is empty; every event has a case and a task"),
        (
            "case,task,time\n1,A,31.12.2026\n",
            "log.csv, line 2, column time: '31.12.2026' is no time in ISO 8601, such as 2026-03-01T09:30:00+01:00",
        ),
        ('case,task\n1,"A"x\n', "log.csv, line 2: is no CSV: ',' expected after '\"'"),
        ('case,task\n1,"A\n', "log.csv, line 2: is no CSV: unexpected end of data"),
        (
            f"case,task\n1,{'x' * 1001}\n",
            "log.csv, line 2, column task: the name of the task has 1001 characters; at most 1000 are read",
        ),
        (b"case,task\n1,\xff\n", "log.csv: is not UTF-8: invalid start byte"),
    ],
)
def test_malformed_csv_is_refused_with_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    """Each malformed row is named by its line and column."""
    assert message == problem(tmp_path, "log.csv", text)


def test_csv_times_need_not_be_there_to_be_bad(tmp_path: Path) -> None:
    """An empty time in a column of times is malformed, since it could not be put in order."""
    assert "line 2, column time: '' is no time" in problem(tmp_path, "log.csv", "case,task,time\n1,A,\n")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(case="order"), "no column is called 'order'"),
        (Columns(task="x"), "more than one column is called 'x'"),
        (Columns(separator="ab"), "'ab' cannot separate values"),
        (Columns(separator=""), "'' cannot separate values"),
    ],
)
def test_wrong_columns_are_refused(columns: Columns, message: str) -> None:
    """A column that is not there, or is there twice, and a separator that cannot be one, are refused."""
    with pytest.raises(ParseError, match=message):
        list(read_csv(io.StringIO("case,task,x,x\n"), columns=columns, order="time"))


def test_a_record_without_end_is_refused() -> None:
    """A quoted value that goes on and on is refused before it fills the memory."""
    endless = io.StringIO("case,task\n" + '"\n",' * MAX_PENDING, newline="")

    with pytest.raises(ParseError, match="a single record is longer than"):
        list(read_csv(endless, columns=Columns(), order="time"))


@pytest.mark.parametrize("name", ["log.txt", "log", "log.gz", "log.xes.zip"])
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    """The suffix says the format."""
    with pytest.raises(ParseError, match="the suffix must be"):
        read_event_log(tmp_path / name)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    """A missing file is no malformed one."""
    with pytest.raises(FileNotFoundError):
        list(read_event_log(tmp_path / "none.xes"))


@pytest.mark.parametrize(
    "data", [b"plain text", gzip.compress(XES.encode(), mtime=0)[:-20], gzip.compress(b"x" * 99, mtime=0)[:30] + b"x"]
)
def test_a_broken_gzip_file_is_refused(tmp_path: Path, data: bytes) -> None:
    """What is not gzip, or ends early, is refused as such."""
    (tmp_path / "log.xes.gz").write_bytes(data)

    with pytest.raises(ParseError, match="is no whole gzip file"):
        list(read_event_log(tmp_path / "log.xes.gz"))


PIECES = st.sampled_from(
    [
        *(each.encode() for each in XES.split("<")),
        b"<",
        b"\x00",
        b"\xff\xfe",
        b'"',
        b"<!DOCTYPE",
        b"&",
        b"<![CDATA[",
        b"]]>",
    ]
)


@settings(deadline=None)
@given(data=st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=12).map(b"<".join)), bom=st.booleans())
def test_random_bytes_are_no_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes, bom: bool) -> None:
    """Whatever the bytes, reading gives traces or raises ParseError."""
    folder = tmp_path_factory.mktemp("logs")
    heads = (b"", b"<log><trace>") if bom else (b"\xef\xbb\xbf", b"case,task,time\n")
    for head in heads:
        for name in ("log.xes", "log.csv", "log.xes.gz", "log.csv.gz"):
            (folder / name).write_bytes(head + data)
            try:
                assert all(isinstance(each, Trace) for each in read_event_log(folder / name))
            except ParseError as error:
                assert name in str(error)
