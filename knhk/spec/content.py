"""What a specification is, as one number: two registrations are the same if their hashes are.

The hash is over the canonical document (RFC 8785 in spirit: members sorted, no blanks, whole numbers without a point).
It does not depend on how the text was laid out: JSON or YAML, the order of members, tasks as a list or as a map,
defaults written or left out, ``90m`` or ``1.5h``.
It does depend on the order of flows, which is the order in which predicates are looked at, and on every other order in
a list.
The order of tasks and conditions means nothing and is sorted away.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from knhk.spec.document import to_document
from knhk.spec.model import SpecificationData


def content_hash(specification: SpecificationData) -> str:
    """
    Name the content of a specification.

    Returns:
        SHA-256 over its canonical form, in hexadecimal.
    """
    document = to_document(specification)
    for net in (document, *document.get("subnets", {}).values()):
        for kind in ("tasks", "conditions"):
            if kind in net:
                net[kind] = sorted(net[kind], key=lambda each: str(each["id"]))
    canonical = json.dumps(_plain(document), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """The same value with whole numbers as integers, since JSON does not tell 1.0 from 1."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
