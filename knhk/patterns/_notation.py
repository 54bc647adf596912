"""How the nets of the catalogue are written: the native document format, with four words for what repeats in it.

Each word gives plain members of the format, nothing that the format does not have.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

Document = dict[str, Any]


def person(role: str, **members: Any) -> Document:
    """Return a task for somebody of a role, with its further members."""
    return {"manual": {"roles": [role]}, **members}


def chain(*elements: str) -> list[Document]:
    """Return the flows that lead from each element to the next."""
    return [{"from": source, "to": target} for source, target in pairwise(elements)]


def fan(source: str, *targets: str, weight: int = 1) -> list[Document]:
    """Return a flow from one element to each of several."""
    more = {} if weight == 1 else {"weight": weight}
    return [{"from": source, "to": target, **more} for target in targets]


def gather(target: str, *sources: str) -> list[Document]:
    """Return a flow to one element from each of several."""
    return [{"from": source, "to": target} for source in sources]
