"""The client of the service (``pip install 'knhk[client]'``).

The map, from below: `balancing` which endpoint a call goes to; `results` what is answered; `problems` what is raised;
`transport` one call with its attempts; `client` the operations.
"""

from __future__ import annotations

from knhk.client.balancing import Balancing
from knhk.client.client import Client
from knhk.client.results import Case, CaseLine, Claim, DeadLetter, Delivered, Event, Item, Page, Registered, Workflow

__all__ = [
    "Balancing",
    "Case",
    "CaseLine",
    "Claim",
    "Client",
    "DeadLetter",
    "Delivered",
    "Event",
    "Item",
    "Page",
    "Registered",
    "Workflow",
]
