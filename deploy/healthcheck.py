"""
Ask the instance in this container whether it is alive; the exit status is 0 where it is, else 1.

It is at the address that the variables ``WORKFLOW_*`` name.
Where every client needs a certificate, this has none: that the port is listened on has to do.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import sys
from collections.abc import Mapping

PATIENCE = 3.0
"""Seconds that the answer may take."""

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is listened on, and where to ask then


def alive(environment: Mapping[str, str]) -> bool:
    """Ask ``/health/live``; raises OSError or HTTPException where nobody answers."""
    host = environment.get("WORKFLOW_API_HOST", "127.0.0.1")
    address = (_ANY.get(host, host), int(environment.get("WORKFLOW_API_PORT", "8080")))
    if environment.get("WORKFLOW_TLS_CLIENT_CA"):
        with socket.create_connection(address, timeout=PATIENCE):
            return True
    connection = _connection(address, tls=bool(environment.get("WORKFLOW_TLS_CERT")))
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == http.HTTPStatus.OK
    finally:
        connection.close()


def _connection(address: tuple[str, int], *, tls: bool) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection(*address, timeout=PATIENCE)
    # It asks itself: the name in the certificate is that of the outside.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(*address, timeout=PATIENCE, context=context)


if __name__ == "__main__":
    try:
        sys.exit(0 if alive(os.environ) else 1)
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"not alive: {error}")
