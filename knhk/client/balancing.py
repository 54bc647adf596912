"""Which endpoint a call goes to: pure functions over names, loads and keys; nothing here asks anybody anything.

Each returns every candidate in the order in which they are to be tried, so that the second is where a call goes that the first
did not take.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Final

BOUND: Final = 1.25
"""How much more than its even share an endpoint takes of the calls under way before a key goes to the next of its order."""


class Balancing(enum.Enum):
    """How calls are spread over the endpoints."""

    ROUND_ROBIN = "round-robin"
    LEAST_CONNECTIONS = "least-connections"
    CONSISTENT_HASHING = "consistent-hashing"


def round_robin(names: Sequence[str], turn: int) -> tuple[str, ...]:
    """
    Return the names beginning with the one whose turn it is.

    Args:
        names: the candidates.
        turn: how many calls there have been.
    """
    if not names:
        return ()
    first = turn % len(names)
    return (*names[first:], *names[:first])


def least_connections(loads: Mapping[str, int], turn: int) -> tuple[str, ...]:
    """
    Return the names by how many calls each has under way, fewest first; among equals in turn.

    Args:
        loads: calls under way by name.
        turn: how many calls there have been.
    """
    return tuple(sorted(round_robin(tuple(loads), turn), key=loads.__getitem__))


def by_weight(names: Sequence[str], key: str) -> tuple[str, ...]:
    """
    Return the names by their weight for a key, greatest first.

    Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): a name that joins takes
    over 1/N of the keys and moves no other, a name that leaves gives its keys to all others, whatever order the names come in.
    """
    return tuple(sorted(names, key=lambda name: (_weight(name, key), name), reverse=True))


def consistent(loads: Mapping[str, int], key: str, *, bound: float = BOUND) -> tuple[str, ...]:
    """
    Return the names by their weight for a key, those that are full last.

    Full is who has `bound` times the even share of the calls under way, this one included (Mirrokni, Thorup and Zadimoghaddam,
    "Consistent hashing with bounded loads", 2018): a key that everybody asks for does not drown one endpoint.

    Args:
        loads: calls under way by name.
        key: what is asked for.
        bound: above 1.

    Raises:
        ValueError: the bound is not above 1.
    """
    if not bound > 1:
        raise ValueError(f"the bound must be above 1, not {bound}")
    if not loads:
        return ()
    most = math.ceil(bound * (sum(loads.values()) + 1) / len(loads))
    return tuple(sorted(by_weight(tuple(loads), key), key=lambda name: loads[name] >= most))


def assign(names: Sequence[str], keys: Sequence[str], *, bound: float = BOUND) -> dict[str, str]:
    """Return the name for each key, were they all under way at once, begun in this order."""
    loads = dict.fromkeys(names, 0)
    homes: dict[str, str] = {}
    for key in keys:
        homes[key] = consistent(loads, key, bound=bound)[0]
        loads[homes[key]] += 1
    return homes


def _weight(name: str, key: str) -> bytes:
    return hashlib.blake2b(f"{name}\0{key}".encode(), digest_size=8).digest()
