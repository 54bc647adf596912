"""What is asked of etcd, as messages of its API (``_etcd_api.proto``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Generic, TypeVar

import attrs

from knhk.errors import MissingExtra, StoreError

try:
    import grpc
    from google.protobuf.message import Message

    from knhk.stores import _etcd_api_pb2 as api
except ImportError as error:
    raise MissingExtra("etcd", "a store on etcd") from error

_NARROWEST: Final = 2
_Answer = TypeVar("_Answer", bound=Message)

__all__ = [
    "GRANT",
    "LOGIN",
    "RANGE",
    "STATUS",
    "TRANSACTION",
    "Message",
    "Method",
    "api",
    "delete",
    "folded",
    "grpc",
    "keep",
    "keys_from",
    "nested",
    "put",
    "read",
    "transaction",
    "unchanged",
    "unchanged_since",
]


def put(key: bytes, value: bytes, lease: int = 0) -> api.RequestOp:
    """Return an operation that writes a key."""
    return api.RequestOp(request_put=api.PutRequest(key=key, value=value, lease=lease))


def keep(key: bytes) -> api.RequestOp:
    """Return an operation that takes a key from its lease: it stays, as it is."""
    return api.RequestOp(request_put=api.PutRequest(key=key, ignore_value=True))


def delete(key: bytes) -> api.RequestOp:
    """Return an operation that removes a key."""
    return api.RequestOp(request_delete_range=api.DeleteRangeRequest(key=key))


def read(key: bytes, end: bytes = b"", *, limit: int = 0, revision: int = 0) -> api.RequestOp:
    """Return an operation that reads what `keys_from` asks for."""
    return api.RequestOp(request_range=keys_from(key, end, limit=limit, revision=revision))


def keys_from(
    key: bytes, end: bytes = b"", *, limit: int = 0, revision: int = 0, backwards: bool = False
) -> api.RangeRequest:
    """Return the question for a key, or those from it up to but not `end`, at a revision or as they are."""
    order = api.RangeRequest.DESCEND if backwards else api.RangeRequest.NONE
    return api.RangeRequest(key=key, range_end=end, limit=limit, revision=revision, sort_order=order)


def unchanged(key: bytes, revision: int) -> api.Compare:
    """Return a condition: the key was last written at this revision; 0: it is not there."""
    return api.Compare(result=api.Compare.EQUAL, target=api.Compare.MOD, key=key, mod_revision=revision)


def unchanged_since(key: bytes, end: bytes, revision: int) -> api.Compare:
    """Return a condition: none of the keys from here to before `end` was written after this revision."""
    return api.Compare(
        result=api.Compare.LESS, target=api.Compare.MOD, key=key, range_end=end, mod_revision=revision + 1
    )


def transaction(
    compare: Iterable[api.Compare], success: Iterable[api.RequestOp], failure: Iterable[api.RequestOp] = ()
) -> api.TxnRequest:
    """Return a transaction: what is done where all conditions hold, and where they do not."""
    return api.TxnRequest(compare=compare, success=success, failure=failure)


def nested(body: api.TxnRequest) -> api.RequestOp:
    """Return a transaction as an operation of another."""
    return api.RequestOp(request_txn=body)


def folded(operations: Sequence[api.RequestOp], wide: int, most: int) -> list[api.RequestOp]:
    """
    Return operations as so many transactions within a transaction, of which etcd counts each by itself.

    Args:
        operations: what is to be done.
        wide: how many transactions.
        most: how many operations each may have, counting those of the transactions within it.
    """
    size = -(-len(operations) // wide)
    parts = [operations[at : at + size] for at in range(0, len(operations), size)]
    if size > most < _NARROWEST:
        raise StoreError(
            "a step has more operations than etcd takes: give it a higher --max-txn-ops and say so in the URL"
        )
    inner = most // 2
    return [nested(transaction((), each if len(each) <= most else folded(each, inner, most - inner))) for each in parts]


@attrs.frozen
class Method(Generic[_Answer]):
    """
    What can be asked of a cluster.

    Args:
        name: service and method.
        answer: the class of its answers.
    """

    name: str
    answer: type[_Answer]


RANGE: Final = Method("KV/Range", api.RangeResponse)
TRANSACTION: Final = Method("KV/Txn", api.TxnResponse)
GRANT: Final = Method("Lease/LeaseGrant", api.LeaseGrantResponse)
LOGIN: Final = Method("Auth/Authenticate", api.AuthenticateResponse)
STATUS: Final = Method("Maintenance/Status", api.StatusResponse)
