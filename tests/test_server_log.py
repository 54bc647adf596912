"""The log: one JSON object a line, with the names that everything has, in its trace, and without secrets."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from knhk.server.observing import MASK, in_trace, log_as_json, log_call, log_traces, redacted
from tests.served import SECRET, served

SIGNED = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmVkLXdpdGgtbm90aGluZw"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What the log says; the logger is afterwards as it was."""
    root = logging.getLogger("knhk")
    before = root.handlers[:], root.level, root.propagate
    stream = io.StringIO()
    log_as_json("info", stream, secrets=[SECRET, ""], instance="one")
    yield lambda: [json.loads(each) for each in stream.getvalue().splitlines()]
    root.handlers[:], root.propagate = before[0], before[2]
    root.setLevel(before[1])


def test_a_call_has_every_name(lines: Lines) -> None:
    """A call's line says which workflow, case, pattern and operation it was about, how long it took, and its trace, also where the address does not say it."""
    with served() as service:
        service.register()
        case = service.case()
        item = service.item(case)
        service.ask("GET", f"/workitems/{item}")
        service.ask("POST", "/patterns/4/execute", body={})

    told = {each["operation"]: each for each in lines() if each["message"] == "call"}
    names = {"workflow_id", "case_id", "pattern_id"}
    assert {"workflow_id": "order", "case_id": case} == {
        name: value for name, value in told["case.create"].items() if name in names
    }
    assert {"workflow_id": "order"} == {
        name: value for name, value in told["workflow.register"].items() if name in names
    }
    assert case == told["item.get"]["case_id"]
    assert 4 == told["pattern.execute"]["pattern_id"]
    for each in told.values():
        assert re.fullmatch("[0-9a-f]{32}", each["trace_id"])
        assert each["duration_ms"] > 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each["time"])


def test_work_and_letters_name_their_case(lines: Lines) -> None:
    """The line of a call about claimed work or a dead letter has the case that its id begins with."""
    for part in ("work_id", "letter_id", "item_id"):
        log_call(operation="x", status=200, seconds=0.1, path={part: "c-1:7"}, trace="t")

    assert ["c-1"] * 3 == [each["case_id"] for each in lines()]


@pytest.mark.parametrize(
    "subject", ["ann", "Ünal", 'a"b\\c', SIGNED, f"x{SECRET}", "password=hunter22", "Bearer abcdef123456"]
)
def test_line_of_a_call_is_as_any_other(subject: str, lines: Lines) -> None:
    """The line of a call has what the same members have in any other line: names, escapes and masks."""
    about = {"operation": "x", "status": 200, "subject": subject}
    with in_trace("a" * 32):
        log_call(operation="x", status=200, seconds=0.1, path={}, trace="a" * 32, subject=subject)
        logging.getLogger("knhk.server").info("call", extra={**about, "duration_ms": 100.0})

    call, other = ({name: value for name, value in each.items() if name != "time"} for each in lines())
    assert other == call


def test_lines_are_in_the_trace_that_they_were_written_in(lines: Lines) -> None:
    """Whatever is logged during a request has its trace id; where spans are made, the current span's."""
    logger = logging.getLogger("knhk.work")
    with in_trace("a" * 32):
        logger.warning("inside")
    logger.warning("outside")
    log_traces(lambda: ("b" * 32, "c" * 16))
    logger.warning("in a span")
    with in_trace("a" * 32):
        logger.warning("its own", extra={"trace_id": "d" * 32})

    assert [("a" * 32, None), (None, None), ("b" * 32, "c" * 16), ("d" * 32, "c" * 16)] == [
        (each.get("trace_id"), each.get("span_id")) for each in lines()
    ]


TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJlLW9mLXRoaXMtdG9rZW4"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abcdef123456.x-y", "abcdef123456"),
        (f"the token {SIGNED} does not count", SIGNED.rpartition(".")[2]),
        ("GET https://ann:hunter22@bank.example/x failed", "hunter22"),
        ('{"password": "hunter22", "user": "ann"}', "hunter22"),
        ("connect host=db password=hunter22 user=ann", "hunter22"),
        ("https://bank.example/x?api_key=k-123456&page=1", "k-123456"),
        ("client_secret: s3cr3t-value", "s3cr3t-value"),
        (f"key {SECRET} loaded", SECRET),
    ],
)
def test_secrets_are_masked(text: str, secret: str, lines: Lines) -> None:
    """What is, looks like, or is named as a secret is in no line: not in its text, its members or a traceback."""
    logger = logging.getLogger("knhk.server")
    logger.warning(text)
    logger.warning("members", extra={"deep": [{"x": text}], "why": (text,)})
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("a bug")

    written = json.dumps(lines())
    assert secret not in written
    assert written.count(MASK) >= 3
    assert "Traceback" in written


def test_members_that_are_named_as_secrets_are_masked_whole(lines: Lines) -> None:
    """A member called a password, token or key is masked whatever it holds, and what only sounds like one is not."""
    extra = {"password": 1234, "db_password": "x", "X-Api-Key": "y", "jwt_secret": "", "headers": {"Cookie": "a=b"}}
    logging.getLogger("knhk.server").warning("x", extra={**extra, "tokens": 3, "keyboard": "z"})

    (line,) = lines()
    assert (MASK, MASK, MASK, "", {"Cookie": MASK}) == tuple(line[each] for each in extra)
    assert (3, "z") == (line["tokens"], line["keyboard"])


@pytest.mark.parametrize(
    "text", ["3 tokens are in condition p", "the secret has 5 bytes", "case 0197:aa is set aside: x"]
)
def test_plain_words_stay(text: str) -> None:
    """Text that speaks of secrets and shows none stays as it is."""
    assert text == redacted(text)
