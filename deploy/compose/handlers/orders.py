"""Handlers of the example: the work of the workflow in order.json that no person does."""

from __future__ import annotations

from typing import Any


def register(engine: Any) -> None:
    """Register them; called for the engine of each tenant."""

    @engine.handler("charge")
    def charge(work: Any) -> dict[str, Any]:
        return {"charged": work.data["amount"]}
