"""Words in a picture: made harmless, shortened, broken into lines, and measured without a font."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

ELLIPSIS: Final = "\u2026"
REPLACEMENT: Final = "\ufffd"
LONGEST: Final = 600
"""Characters of a text that is shown in full."""

_JOINERS: Final = "\u200c\u200d"  # between letters of scripts that need them, and inside emoji
_REFUSED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PIECE: Final = re.compile(r"\s+|[^\s_./:-]*[_./:-]+|[^\s_./:-]+")
_NARROW: Final = frozenset("iljtfrI.,:;'|!()[]{}`-/\\ ")
_WIDE: Final = frozenset("mwMW@%&")


def harmless(text: str) -> str:
    """
    Return a text that XML can hold and that keeps to its place.

    White space becomes a space; control characters, marks that turn the direction of writing, and what is no character become
    U+FFFD.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_harmless(each) for each in text)


def _harmless(character: str) -> str:
    if character.isspace():
        return " "
    if character in _JOINERS or unicodedata.category(character) not in _REFUSED:
        return character
    return REPLACEMENT


def shortened(text: str, length: int = LONGEST) -> str:
    """Return a harmless text of at most `length` characters."""
    # Only what can be seen of it is looked at: a text may be megabytes.
    shown = harmless(text[: length + 1])
    return shown if len(shown) <= length else shown[: length - 1].rstrip() + ELLIPSIS


def times(count: int) -> str:
    """Return how often something happened."""
    return "once" if count == 1 else f"{count:,} times"


def width(text: str, size: float) -> float:
    """Return about how wide a text is in a sans-serif font of this size, rather too wide than too narrow."""
    return size * sum(_advance(each) for each in text)


def _advance(character: str) -> float:
    if character in _NARROW:
        return 0.39
    if character in _WIDE:
        return 0.98
    if unicodedata.combining(character) or character in _JOINERS:
        return 0.0
    if unicodedata.east_asian_width(character) in ("W", "F"):
        return 1.05
    return 0.74 if character.isupper() else 0.63


def fitted(text: str, room: float, size: float) -> str:
    """Return a text that is no wider than `room`, with an ellipsis where it was cut."""
    text = shortened(text)
    if width(text, size) <= room:
        return text
    room -= width(ELLIPSIS, size)
    kept = 0
    for character in text:
        room -= size * _advance(character)
        if room < 0:
            break
        kept += 1
    return text[:kept].rstrip() + ELLIPSIS


def wrapped(text: str, room: float, size: float, lines: int) -> tuple[str, ...]:
    """Return a text as at most `lines` lines that are no wider than `room`; what does not fit is cut."""
    done: list[str] = []
    line = ""
    for piece in _pieces(shortened(text), room, size):
        if width((line + piece).rstrip(), size) <= room:
            line += piece
            continue
        if len(done) == lines - 1:
            return (*done, _continued(line, room, size))
        if line.strip():
            done.append(line.strip())
        line = piece.lstrip()
    return (*done, line.strip()) if line.strip() or not done else tuple(done)


def _pieces(text: str, room: float, size: float) -> Iterator[str]:
    """Yield the places where a line may break; a word that no line holds breaks anywhere."""
    for piece in _PIECE.findall(text):
        rest = piece
        while width(rest, size) > room:
            kept = next(n for n in range(1, len(rest) + 1) if width(rest[: n + 1], size) > room)
            yield rest[:kept]
            rest = rest[kept:]
        yield rest


def _continued(line: str, room: float, size: float) -> str:
    while line and width(line + ELLIPSIS, size) > room:
        line = line[:-1]
    return line.rstrip() + ELLIPSIS
