"""What an engine says of a specification that was registered."""

from __future__ import annotations

import attrs

from knhk.spec.verdict import Verdict


@attrs.frozen(kw_only=True)
class Registration:
    """What registering a specification gave: its name and content hash, whether it was new, and whether it is sound."""

    spec_id: str
    version: str
    content_hash: str
    new: bool
    soundness: Verdict
