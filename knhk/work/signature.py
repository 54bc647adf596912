"""Signatures of webhook messages: who holds the secret made this body, and not long ago.

The header ``Knhk-Signature`` reads ``t=1700000000,v1=5257a8...``: the time in seconds since the epoch, and the HMAC-SHA256, in
hexadecimal, of that time, a point and the body, byte for byte.
The time is under the signature, so an old message cannot be sent again as a new one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from typing import Final

from knhk.errors import InvalidSignature

HEADER: Final = "Knhk-Signature"
"""The name of the header."""

_TIME: Final = re.compile(r"[0-9]{1,12}")


def sign(body: bytes, secret: str, *, at: int) -> str:
    """
    Return the header's value.

    Args:
        body: the message, byte for byte.
        secret: what sender and receiver share.
        at: the time, in seconds since the epoch.
    """
    return f"t={at},v1={_digest(body, secret, str(at))}"


def verify_signature(
    header: str, body: bytes, secret: str | Sequence[str], *, tolerance: float = 300, now: float | None = None
) -> None:
    """
    Refuse a message that the holder of the secret did not make, or made too long ago.

    How long it takes does not tell how much of a signature is right.

    Args:
        header: the value of ``Knhk-Signature``.
        body: the body as it arrived, before anything read it.
        secret: the subscription's, or several while they change.
        tolerance: the seconds that a message may be away from now.
        now: seconds since the epoch; None: what the machine's clock says.

    Raises:
        InvalidSignature: says why.
    """
    parts = [each.partition("=")[::2] for each in header.split(",")]
    times = [value for name, value in parts if name.strip() == "t"]
    signatures = [value for name, value in parts if name.strip() == "v1"]
    if len(times) != 1 or _TIME.fullmatch(times[0]) is None or not signatures:
        raise InvalidSignature("the signature has not the form t=...,v1=...")
    secrets = (secret,) if isinstance(secret, str) else tuple(secret)
    good = False
    for each in secrets:
        expected = _digest(body, each, times[0]).encode()
        for signature in signatures:
            good |= hmac.compare_digest(expected, signature.encode("utf-8", "surrogateescape"))
    if not good:
        raise InvalidSignature("the signature is not that of this body under this secret")
    away = abs((time.time() if now is None else now) - int(times[0]))
    if away > tolerance:
        raise InvalidSignature(f"the message was signed {away:.0f} s away from now; {tolerance:g} s are allowed")


def _digest(body: bytes, secret: str, at: str) -> str:
    return hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
