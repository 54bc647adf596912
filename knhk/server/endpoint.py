"""Where spans are to go: an address, and which of the two protocols of OTLP it speaks."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import attrs

GRPC_PORT: Final = 4317
HTTP_PORT: Final = 4318
"""The ports that OTLP has by its specification: whoever names one of them means its protocol."""

_SCHEMES: Final = {"http": False, "grpc": False, "https": True, "grpcs": True}
_TRACES: Final = "/v1/traces"


@attrs.frozen(kw_only=True)
class Endpoint:
    """
    A collector.

    Args:
        grpc: whether it speaks OTLP over gRPC; else over HTTP.
        secure: whether by TLS.
        address: the host and the port.
        url: where HTTP requests go.
    """

    grpc: bool
    secure: bool
    address: str
    url: str


def read_endpoint(text: str) -> Endpoint:
    """
    Read the address of a collector: port 4317 is gRPC, 4318 is HTTP, else the scheme says it.

    Raises:
        ValueError: it is none.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"is no URL: {error}") from None
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ValueError("must be a URL like http://collector:4317, with http, https, grpc or grpcs")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("must not hold a user, a password, a query or a fragment")
    secure = _SCHEMES[parts.scheme]
    named = {GRPC_PORT: True, HTTP_PORT: False}.get(port or 0)
    grpc = parts.scheme.startswith("grpc") if named is None else named
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"{host}:{port or (GRPC_PORT if grpc else 443 if secure else 80)}"
    path = parts.path.rstrip("/")
    path = path if path.endswith(_TRACES) else path + _TRACES
    return Endpoint(grpc=grpc, secure=secure, address=address, url=f"{'https' if secure else 'http'}://{address}{path}")
