"""What `knhk doctor` reads: how long things take, from the figures, and what is wrong with a token, from its text."""

from __future__ import annotations

import base64
import binascii
import importlib
import json
import math
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any, Final

SLOW: Final = {"knhk_store_seconds": 0.1, "knhk_pattern_seconds": 0.5}
"""By histogram, the seconds within which nineteen of twenty should be."""

_SHARE: Final = 0.95
_ENOUGH: Final = 20
_PARTS: Final = 3


def slow_series(text: str, name: str) -> tuple[int, dict[str, float]]:
    """
    Return what a histogram says.

    Args:
        text: the figures, in Prometheus's format.
        name: the histogram, with one label.

    Returns:
        How many were measured, and by the label's value the seconds that a twentieth takes longer than, where those are more than
        `SLOW` allows.
    """
    families = importlib.import_module("prometheus_client.parser").text_string_to_metric_families(text)
    buckets: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for family in families:
        for sample in family.samples if family.name == name else ():
            if sample.name == f"{name}_bucket":
                (label,) = (value for key, value in sample.labels.items() if key != "le")
                buckets[label].append((float(sample.labels["le"]), sample.value))
    measured, slow = 0, {}
    for label, counts in buckets.items():
        ordered = sorted(counts)
        total = ordered[-1][1]
        measured += int(total)
        within = max((bound for bound, count in ordered if count < _SHARE * total), default=0.0)
        if total >= _ENOUGH and within >= SLOW[name]:
            slow[label] = within
    return measured, slow


def token_fault(bearer: str, now: float) -> str:
    """
    Return what is wrong with the text of a token, whoever signed it; "" where nothing is to be seen.

    Args:
        bearer: the token.
        now: seconds since the epoch.
    """
    parts = bearer.split(".")
    if len(parts) != _PARTS:
        return f"a token has three parts with points between them, this has {len(parts)}"
    header, claims = _object(parts[0]), _object(parts[1])
    if header is None or claims is None:
        return "its header or its claims are no JSON in base64url: was it copied whole?"
    if not isinstance(claims.get("sub"), str) or not claims["sub"]:
        return "it says no subject (`sub`)"
    expires, begins = claims.get("exp"), claims.get("nbf", -math.inf)
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        return "it says not until when it counts (`exp`, a number)"
    if expires <= now:
        return f"it counted until {_time(expires)}: get a new one"
    if isinstance(begins, int | float) and begins > now:
        return f"it counts from {_time(begins)} on"
    if not isinstance(claims.get("roles"), list) or not claims["roles"]:
        return "it has no `roles`, a list, so that it may do nothing"
    return ""


def _object(part: str) -> dict[str, Any] | None:
    """Return a part of a token; None where it is none."""
    try:
        tree = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError):
        return None
    return tree if isinstance(tree, dict) else None


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return repr(seconds)
