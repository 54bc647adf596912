"""Where the requests of all instances are counted together: on a Redis server (a storage of the library `limits`)."""

from __future__ import annotations

from typing import Final

from limits.storage import RedisStorage
from redis import ConnectionPool, SSLConnection
from redis.connection import Connection

from knhk.stores._redis_link import read_address

ANSWERS_WITHIN: Final = 1.0
"""Seconds that a request waits for the server at most, to be connected and to be answered."""


class CommonCounts(RedisStorage):
    """
    Counts on a server, each request by one script and by the server's clock.

    Args:
        url: the server, as a store on Redis has it; its keys begin with the namespace and ``-rates``, and expire.

    Raises:
        StoreError: it is no such URL.
    """

    STORAGE_SCHEME = ["knhk-common-counts"]  # noqa: RUF012 - as the library has it

    def __init__(self, url: str) -> None:
        address = read_address(url)
        self._pool = ConnectionPool(
            connection_class=SSLConnection if address.secure else Connection,
            socket_timeout=ANSWERS_WITHIN,
            socket_connect_timeout=ANSWERS_WITHIN,
            **address.options,
        )
        super().__init__(
            "redis://", connection_pool=self._pool, wrap_exceptions=True, key_prefix=f"{address.namespace}-rates"
        )
        self.shown = address.shown

    def close(self) -> None:
        """Give the connections back."""
        self._pool.disconnect()
