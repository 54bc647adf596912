"""JSON text to tree and back, strictly (RFC 8259 and I-JSON, RFC 7493).

What `json.loads` lets pass is refused with line and column: duplicate members, ``NaN`` and ``Infinity``, numbers beyond
64 bits or beyond a double, halves of surrogate pairs, a byte order mark, bytes that are not UTF-8, and nesting deeper
than `MAX_DEPTH`, which `json.loads` answers with a `RecursionError`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from knhk.errors import ParseError, Problem
from knhk.spec.places import Report, shown
from knhk.spec.values import MAX_DEPTH, WrittenNumber

MAX_CHARACTERS = 32 * 2**20
"""The longest text that is read."""

MAX_DIGITS = 100
"""The longest number that is read, in characters."""

_TOKEN = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"?'  # a string, to the end of the text if it is not closed
    r"|[\[\]{}:]|NaN|Infinity|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


def position(text: str, offset: int) -> str:
    """Where an offset is, as a person counts: ``line 3, column 7``."""
    line_start = text.rfind("\n", 0, offset) + 1
    return f"line {text.count(chr(10), 0, offset) + 1}, column {offset - line_start + 1}"


def decoded(text: str | bytes) -> str:
    """
    The text of a file or request, checked for its encoding and size.

    Raises:
        ParseError: it is not UTF-8, or too long.
    """
    if len(text) > MAX_CHARACTERS * (4 if isinstance(text, bytes) else 1):
        raise ParseError([Problem("", f"the text is longer than {MAX_CHARACTERS:,} characters")])
    try:
        if isinstance(text, bytes):
            return text.decode()
        text.encode()
    except UnicodeDecodeError as error:
        before = bytes(text[: error.start]).decode() if isinstance(text, bytes) else ""
        raise ParseError([Problem(position(before, len(before)), "the text is not UTF-8")]) from None
    except UnicodeEncodeError as error:
        raise ParseError([Problem(position(str(text), error.start), "half of a surrogate pair")]) from None
    return text


def read_json(text: str | bytes) -> Any:
    """
    Read a JSON text.

    Args:
        text: a text, or its UTF-8 bytes.

    Returns:
        The tree; decimal numbers are floats that remember their spelling.

    Raises:
        ParseError: it is not JSON, or not strictly so; each finding has its line and column.
    """
    text = decoded(text)
    report = Report()
    for offset, message in _findings(text):
        report.add(position(text, offset), message)
    if report.count:
        raise ParseError(report.problems())
    duplicates = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal duplicates
        tree = dict(pairs)
        duplicates |= len(tree) < len(pairs)
        return tree

    try:
        tree = json.loads(text, object_pairs_hook=members, parse_float=WrittenNumber)
    except json.JSONDecodeError as error:
        raise ParseError([Problem(position(text, error.pos), f"not JSON: {error.msg}")]) from None
    if duplicates:
        for offset, message in _duplicates(text):
            report.add(position(text, offset), message)
        raise ParseError(report.problems())
    return tree


def _findings(text: str) -> Iterator[tuple[int, str]]:
    """What `json.loads` would let pass, or would not survive."""
    if text.startswith("\ufeff"):
        yield 0, "the text starts with a byte order mark; save it as UTF-8 without one"
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token[0] == '"':
            if "\\u" in token and (offset := _half_pair(token)) is not None:
                yield match.start() + offset, "half of a surrogate pair"
        elif token in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                yield match.start(), f"nested deeper than {MAX_DEPTH}"
                return
        elif token in "]}":
            depth -= 1
        elif token in ("NaN", "Infinity"):
            yield match.start(), f"{token} is not a JSON number"
        elif (len(token) > 15 or "e" in token or "E" in token) and (problem := _number_problem(token)):
            yield match.start(), problem


def _half_pair(token: str) -> int | None:
    """The offset of an escaped surrogate without its other half."""
    high: re.Match[str] | None = None
    for match in _ESCAPE.finditer(token):
        code = int(match[1], 16) if match[1] else 0
        if high is not None:
            if high.end() == match.start() and 0xDC00 <= code < 0xE000:
                high = None
                continue
            return high.start()
        if 0xDC00 <= code < 0xE000:
            return match.start()
        if 0xD800 <= code < 0xDC00:
            high = match
    return high.start() if high is not None else None


def _number_problem(token: str) -> str:
    if len(token) > MAX_DIGITS:
        return f"the number is longer than {MAX_DIGITS} characters"
    if token.lstrip("-").isdigit():
        fits = len(token) <= 21 and -(2**63) <= int(token) < 2**64
        return "" if fits else "the number does not fit into 64 bits"
    return "" if math.isfinite(float(token)) else "the number is too large"


def _duplicates(text: str) -> Iterator[tuple[int, str]]:
    """The members that stand twice in their object; `text` is known to be JSON."""
    seen: list[set[str]] = []
    last: re.Match[str] | None = None
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token[0] == '"':
            last = match
        elif token in "[{":
            seen.append(set())
        elif token in "]}":
            seen.pop()
        elif token == ":" and last is not None:
            member = json.loads(last[0])
            if member in seen[-1]:
                yield last.start(), f"the member {shown(member)} is there twice"
            seen[-1].add(member)


def write_json(tree: object, *, indent: int | None = 2) -> str:
    """Write a tree as JSON text, with members in the order of the tree."""
    return json.dumps(tree, ensure_ascii=False, allow_nan=False, indent=indent)
