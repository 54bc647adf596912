"""The instances on a store, as it knows them: one document each, which its instance writes anew with every heartbeat."""

from __future__ import annotations

import json
import os
import secrets
import socket
from typing import Any, Final

import attrs

from knhk.ports import Document, Store
from knhk.work.outbox import all_documents

INSTANCES: Final = "instances"
"""The collection of the instances, by their ids."""

PARTITIONS: Final = "partitions"
"""The collection of the partitions, by their numbers; a document changes when its partition goes to somebody else."""

LIVE: Final = "live"
DRAINING: Final = "draining"
SILENT: Final = "silent"
_FREE: Final[dict[str, Any]] = {"owner": "", "run": ""}


def instance_name() -> str:
    """Return a name that no other instance has: host, process and a random part."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


@attrs.frozen(kw_only=True)
class Instance:
    """
    One instance as it said of itself.

    Args:
        id: its name, which no other instance on the store has.
        address: where it can be reached; "" where it did not say.
        region: where it is; "" where it did not say.
        started: when it joined, in milliseconds since the epoch, by its own clock.
        until: when it is late, by its own clock; for people, since nothing is decided by another machine's clock.
        state: live, draining (it gives its work away), or silent (it is late).
        partitions: how many of them it has.
    """

    id: str
    address: str
    region: str
    started: int
    until: int
    state: str
    partitions: int


def list_instances(store: Store, now: int) -> list[Instance]:
    """Return the instances on a store by their ids; those that were silent for long are no more among them."""
    # What somebody has was taken by one who was there before.
    owners = [(tree["owner"], tree["run"]) for tree in map(read_partition, all_documents(store, PARTITIONS))]
    found = []
    for each in all_documents(store, INSTANCES):
        tree = json.loads(each.value)
        run = tree.pop("run")
        if tree["until"] < now:
            tree["state"] = SILENT
        found.append(Instance(id=each.key, partitions=owners.count((each.key, run)), **tree))
    return found


def run_of(document: Document) -> str:
    """Return which run of its program an instance's document is of: a name may be used again, a run never."""
    run: str = json.loads(document.value)["run"]
    return run


def read_partition(document: Document) -> dict[str, Any]:
    """Return ``owner`` and ``run`` of a partition's document, both "" for nobody."""
    tree: dict[str, Any] = json.loads(document.value)
    return tree


def partition_key(number: int) -> str:
    """Return the key of a partition's document."""
    return f"{number:04d}"


def partition_document(number: int, before: Document | None, owner: str = "", run: str = "") -> Document:
    """Return the document that gives a partition to somebody, or to nobody; its version is the fencing epoch."""
    value = json.dumps({"owner": owner, "run": run} if owner else _FREE)
    version = 1 if before is None else before.version + 1
    return Document(collection=PARTITIONS, key=partition_key(number), value=value, version=version)
