"""Case data as they are kept: plain JSON, shared with nobody, and no larger than a stated limit."""

from __future__ import annotations

import json
from typing import Any, Final, cast

from knhk._hot import copy_tree
from knhk.errors import DataError, LimitExceeded

MAX_PAYLOAD: Final = 4 * 1024 * 1024
"""Bytes that one piece of data has at the most where nobody says otherwise (`knhk.Limits.payload`)."""

_ANY_SIZE: Final = 2**62

_WIDEST: Final = 6
"""Bytes that a character of text has at most, written in JSON: ``\\u0001``."""


def whole_copy(data: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of data that are known to be plain, however large they have grown."""
    return plain_data(data, "the case data", _ANY_SIZE)


def plain_data(data: object, what: str, limit: int = MAX_PAYLOAD) -> dict[str, Any]:
    """
    Return a copy of case data that is certainly JSON: no NaN, no lone surrogates, string keys, no foreign objects.

    Args:
        data: a mapping, or None for an empty one.
        what: what it is, for the message.
        limit: bytes that it may have, written as JSON.

    Raises:
        DataError: it is not JSON; nothing has happened.
        LimitExceeded: it is larger; nothing has happened.
    """
    if data is None:
        return {}
    if type(data) is dict:
        copy = copy_tree(data, limit // _WIDEST)
        if copy is not None:
            return cast("dict[str, Any]", copy)
    try:
        text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode())
        tree = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{what} is not JSON data: {error}"
        raise DataError(message) from error
    if size > limit:
        message = f"{what} has {size:,} bytes; keep what is large elsewhere, and its address in the case"
        raise LimitExceeded(message, limit="payload", maximum=limit)
    if not isinstance(tree, dict):
        message = f"{what} must be a mapping, not {type(data).__name__}"
        raise DataError(message, value=data)
    return tree
