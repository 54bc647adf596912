"""Messages of webhooks that nobody takes any more, without a receiver that refuses them."""

from __future__ import annotations

import json

from knhk import Engine
from knhk.ports import Document
from knhk.work.delivery import DEAD
from knhk.work.outbox import OUTBOX


def messages_die(engine: Engine) -> None:
    """Let every message that waits be one whose attempts are used up."""
    for waiting in [*engine.store.documents(OUTBOX)]:
        tree = {**json.loads(waiting.value), "attempts": 1, "error": "gone", "kind": "ResponseRefused", "died": 0}
        engine.store.write([Document(collection=DEAD, key=waiting.key, value=json.dumps(tree))], [waiting])
