"""The client of the service (``pip install 'knhk[client]'``).

The map, from below: `balancing` which endpoint a call goes to; `pacing` how long to wait; `results` what is answered; `problems`
what is raised; `core` one call with its attempts, without sending; `watching` the events of a case; `transport` (HTTP), `grpc_sends`
and `async_transport` send; `operations` what can be asked; `client` and `async_client` put them together; `leases` when work is to be
kept, `claimed` what a handler is given, `worker` who calls it.
"""

from __future__ import annotations

from knhk.client.async_client import AsyncClient
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
    "AsyncClient",
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
