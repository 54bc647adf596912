"""Templates: text with expressions in braces, as the URLs and headers of requests have them: ``/accounts/{data.account}``.

An expression may hold braces itself (maps, texts): a hole ends at the first closing brace that leaves a whole expression.
A brace that is none of a hole cannot be written; in a URL it is ``%7B`` and ``%7D`` anyway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import attrs

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
"""The methods of requests."""

WITHOUT_BODY: Final = ("GET", "HEAD")
"""Those whose requests have no body."""

HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
"""What the name of a header is made of (RFC 9110, 5.1)."""

OURS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "idempotency-key",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that a task does not choose: they frame the message, or say whose attempt it is."""

_AUTHORITY: Final = re.compile(r"(?i:https?)://[^/?#\s]+")


@attrs.frozen
class Hole:
    """An expression in a template, by its text."""

    text: str


def holes(template: str, faults: Callable[[str], Sequence[str]]) -> tuple[str | Hole, ...]:
    """
    Take a template apart.

    Args:
        template: its text.
        faults: what is wrong with an expression; nothing where it compiles.

    Returns:
        Text and holes in their order; no empty text.

    Raises:
        ValueError: a brace belongs to no hole, or what is in a hole is no expression.
    """
    parts: list[str | Hole] = []
    rest = template
    while rest:
        head, opened, behind = rest.partition("{")
        if "}" in head:
            raise ValueError('a "}" has no "{" before it')
        if head:
            parts.append(head)
        if not opened:
            break
        ends = [position for position, each in enumerate(behind) if each == "}"]
        if not ends:
            raise ValueError('a "{" has no "}" behind it')
        end = next((each for each in ends if not faults(behind[:each])), None)
        if end is None:
            raise ValueError(f"{{{behind[: ends[0]]}}}: {faults(behind[: ends[0]])[0]}")
        parts.append(Hole(behind[:end]))
        rest = behind[end + 1 :]
    return tuple(parts)


def url_problem(parts: Sequence[str | Hole]) -> str:
    """Say what keeps the template of a URL from naming whom it calls, whatever the data are; "" where nothing does."""
    first = parts[0] if parts else ""
    match = None if isinstance(first, Hole) else _AUTHORITY.match(first)
    if match is None or (len(parts) > 1 and match.end() == len(match.string)):
        return "must begin with http:// or https:// and a host, and no value may come before the path"
    if any("#" in each for each in parts if isinstance(each, str)):
        return "a part behind # is not sent: leave it out"
    return ""
