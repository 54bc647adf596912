"""
Texts in PostgreSQL, which holds every character but NUL.

A NUL is stored as two characters U+0001, and a U+0001 as U+0001 U+0002.
So every text comes back as it was, two texts are in the same order as before, and one begins with another as before.
"""

from __future__ import annotations

import re
from typing import Final

_NUL: Final = "\x00"
_MARK: Final = "\x01"
_PAIR: Final = re.compile("\x01([\x01\x02])")


def inward(text: str) -> str:
    """Return a text as it is stored."""
    if _NUL in text or _MARK in text:
        return text.replace(_MARK, "\x01\x02").replace(_NUL, "\x01\x01")
    return text


def outward(text: str) -> str:
    """Return a stored text as it was."""
    return _PAIR.sub(_single, text) if _MARK in text else text


def _single(pair: re.Match[str]) -> str:
    return _NUL if pair[1] == _MARK else _MARK
