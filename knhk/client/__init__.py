"""The client of the service (``pip install 'knhk[client]'``).

The map, from below: `balancing` which endpoint a call goes to; `results` what is answered; `problems` what is raised;
`pacing` how long to wait; `transport` one call with its attempts; `client` the operations; `leases` when work is to be kept,
`claimed` what a handler is given, `worker` who calls it.
"""

from __future__ import annotations

from knhk.client.balancing import Balancing
from knhk.client.claimed import ClaimedWork
from knhk.client.client import Client
from knhk.client.results import (
    Case,
    CaseLine,
    Claim,
    DeadLetter,
    Delivered,
    Event,
    Extended,
    Item,
    Page,
    Registered,
    Workflow,
)
from knhk.client.worker import Worker

__all__ = [
    "Balancing",
    "Case",
    "CaseLine",
    "Claim",
    "ClaimedWork",
    "Client",
    "DeadLetter",
    "Delivered",
    "Event",
    "Extended",
    "Item",
    "Page",
    "Registered",
    "Worker",
    "Workflow",
]
