"""Which work items may stand in the row of their case: see `knhk.stores.migrations`."""

from __future__ import annotations

import json
from typing import Final

from knhk._lower import ANYONE
from knhk.ports import ItemRow

OFFERED: Final = "offered"
"""The state of such an item."""

OPEN_TO_ANYONE: Final = json.dumps([ANYONE])
"""The audience of such an item, as it is stored."""

_ANYONE: Final = (ANYONE,)


def is_offer(item: ItemRow) -> bool:
    """Say whether an item is open to anyone, and nothing else is to be told of it."""
    return (
        item.audience == _ANYONE and item.state == OFFERED and not (item.by or item.roles or item.topic or item.details)
    )
