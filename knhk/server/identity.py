"""Who calls: tokens, checked strictly, and what they say about their bearer.

A token is a JWT (RFC 7519), signed with the one algorithm that is configured; what its header says of algorithms and keys
chooses at most among the configured keys (RFC 8725).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from knhk.errors import KnhkError, MissingExtra
from knhk.server.configuration import Algorithm, Configuration
from knhk.server.rights import ROLES

try:
    import jwt
except ImportError as error:
    raise MissingExtra("server", "the service") from error

DEFAULT_TENANT: Final = "default"
LEEWAY: Final = 30
"""Seconds by which the clocks of issuer and service may differ."""

LONGEST_TOKEN: Final = 8_192
LONGEST_LIFE: Final = 366 * 86_400
"""Seconds between `iat`, or now, and `exp` at the most."""

KEPT_FOR: Final = 300.0
"""Seconds after which the issuer's keys are looked at again."""

AGAIN_AFTER: Final = 10.0
"""Seconds between looks that unknown key ids cause."""

MOST_KNOWN: Final = 1_024
"""Tokens whose signatures are not computed again while they count."""

LOG: Final = logging.getLogger("knhk.server")
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_LONGEST_SUBJECT: Final = 256


class Unauthenticated(KnhkError):
    """The call has no token, or none that counts; why is for the log, not for the caller."""


@attrs.frozen(kw_only=True)
class Caller:
    """
    Who calls.

    Args:
        subject: the name that the token gives.
        tenant: whose cases he sees.
        roles: what he may do.
        groups: all that the token calls him: work may be for one of these.
    """

    subject: str
    tenant: str = DEFAULT_TENANT
    roles: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    @property
    def client(self) -> str:
        """The name under which his requests are counted."""
        return f"{self.tenant}/{self.subject}"


@attrs.frozen
class _Known:
    """A token that was checked: who sends it, when it counts, and the key that it was checked with."""

    caller: Caller
    times: Mapping[str, Any]
    key_id: str
    key: Any


ANONYMOUS: Final = Caller(subject="anonymous", roles=frozenset({"admin"}))
"""Everybody, where authentication is switched off."""


class Verifier:
    """
    Checks tokens.

    A token that was found good is known again by the hash of all its characters, so that its signature is computed once.
    Its times are looked at each time, and so is whether its key is still the one that it was checked with.

    Args:
        algorithm: how they must be signed.
        key_of: gives the key for a key id ("" where the token names none); raises KeyError for an unknown one.
        issuer, audience: what they must say; "" for any.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        key_of: Callable[[str], Any],
        *,
        issuer: str = "",
        audience: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._algorithm = algorithm.value
        self._key_of = key_of
        self._issuer = issuer
        self._audience = audience
        self._now = now
        self._jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})
        self._known: dict[bytes, _Known] = {}
        self._keeping = threading.Lock()

    def caller(self, authorization: str | None) -> Caller:
        """
        Return who sent this ``Authorization`` header.

        Raises:
            Unauthenticated: there is none, or it does not count.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or len(token) > LONGEST_TOKEN or not _SHAPE.fullmatch(token):
            raise Unauthenticated("no bearer token")
        digest = hashlib.sha256(token.encode()).digest()
        try:
            known = self._known.get(digest)
            if known is None or self._key_of(known.key_id) is not known.key:
                known = self._checked(token)
                self._keep(digest, known)
            self._check_times(known.times)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            raise Unauthenticated(f"{type(error).__name__}: {error}") from error
        return known.caller

    def _keep(self, digest: bytes, known: _Known) -> None:
        """Know a token again; those that were found good first are forgotten first."""
        with self._keeping:
            while len(self._known) >= MOST_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[digest] = known

    def _checked(self, token: str) -> _Known:
        if any(_encoded(_decoded(each)) != each for each in token.split(".")):
            raise ValueError("a part is written in another way than encoders do")
        header = _part(token, 0)
        if header.get("alg") != self._algorithm or header.keys() & {
            "crit",
            "b64",
            "zip",
            "enc",
            "jwk",
            "jku",
            "x5u",
            "x5c",
        }:
            raise ValueError("the header asks for what is not configured")
        if str(header.get("typ", "JWT")).lower() not in {"jwt", "at+jwt"} or "cty" in header:
            raise ValueError("another type of token")
        key_id = header.get("kid", "")
        if not isinstance(key_id, str):
            raise TypeError("kid is no text")
        claims = _part(token, 1)
        key = self._key_of(key_id)
        self._jwt.decode(
            token,
            key,
            algorithms=[self._algorithm],
            issuer=self._issuer or None,
            audience=self._audience or None,
            # Times are checked below, by our clock and more strictly.
            options={
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_aud": bool(self._audience),
                "verify_iss": bool(self._issuer),
                "require": ["exp", "sub"],
                "strict_aud": False,
            },
        )
        times: dict[str, Any] = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
        for name, value in times.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name} is no time")
        self._check_times(times)
        return _Known(_caller(claims), times, key_id, key)

    def _check_times(self, times: Mapping[str, Any]) -> None:
        now = self._now()
        if times["exp"] <= now - LEEWAY:
            raise ValueError("expired")
        if times.get("nbf", now) > now + LEEWAY or times.get("iat", now) > now + LEEWAY:
            raise ValueError("not valid yet")
        if not times.get("iat", now - LEEWAY) < times["exp"] <= min(times.get("iat", now), now) + LONGEST_LIFE:
            raise ValueError("its life is too long, or no time at all")


def _decoded(part: str) -> bytes:
    return jwt.utils.base64url_decode(part)


def _encoded(content: bytes) -> str:
    return jwt.utils.base64url_encode(content).decode()


def _part(token: str, number: int) -> dict[str, Any]:
    """Return a part of a token, read strictly: an object in which no member is there twice."""
    text = _decoded(token.split(".")[number]).decode()

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            raise ValueError("a member is there twice")
        return members

    tree = json.loads(text, object_pairs_hook=once)
    if not isinstance(tree, dict):
        raise TypeError("no object")
    return tree


def _caller(claims: Mapping[str, Any]) -> Caller:
    subject, tenant, roles = claims.get("sub"), claims.get("tenant", DEFAULT_TENANT), claims.get("roles", [])
    if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
        raise Unauthenticated("sub is no name")
    if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
        raise Unauthenticated("tenant is no name")
    if not isinstance(roles, list):
        roles = []
    # What is not exactly one of ours gives no right.
    groups = frozenset(each for each in roles if isinstance(each, str))
    return Caller(subject=subject, tenant=tenant, roles=groups & ROLES, groups=groups)


class PublishedKeys:
    """
    The public keys that an issuer publishes (JWKS, RFC 7517), kept for a while.

    A token with an unknown key id makes it look again, as after a change of keys, but not more often than `AGAIN_AFTER`: whoever
    makes key ids up must not make the service call the issuer each time.

    Args:
        url: where they are.
        seconds: a monotonic clock.
    """

    def __init__(self, url: str, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._client = jwt.PyJWKClient(url, cache_keys=False, cache_jwk_set=False, timeout=5)
        self._seconds = seconds
        self._lock = threading.Lock()
        self._keys: dict[str, Any] = {}
        self._looked_at = -math.inf

    def key(self, key_id: str) -> Any:
        """
        Return the key of this id.

        Raises:
            KeyError: there is none.
        """
        if key_id in self._keys and self._seconds() - self._looked_at < KEPT_FOR:
            return self._keys[key_id]
        # While one looks, the others take what is known.
        if self._lock.acquire(blocking=key_id not in self._keys):
            try:
                if self._seconds() - self._looked_at >= (KEPT_FOR if key_id in self._keys else AGAIN_AFTER):
                    self._look()
            finally:
                self._lock.release()
        return self._keys[key_id]

    def _look(self) -> None:
        self._looked_at = self._seconds()
        try:
            found = self._client.get_signing_keys()
        except jwt.PyJWTError as error:
            LOG.warning("the issuer's keys cannot be read; those that are known go on", exc_info=error)
        else:
            self._keys = {each.key_id: each.key for each in found if each.key_id}


def verifier_of(settings: Configuration, secret: bytes) -> Verifier:
    """
    Return what checks tokens as configured.

    Args:
        settings: the configuration.
        secret: the key of HS256, configured or made.

    Raises:
        ValueError: the public key cannot be read.
    """
    key: Any
    if settings.jwt_algorithm is Algorithm.HS256:
        key = secret
    elif settings.jwt_public_key_file:
        key = _public_key(Path(settings.jwt_public_key_file).read_bytes(), settings.jwt_algorithm)
    else:
        return Verifier(
            settings.jwt_algorithm,
            PublishedKeys(settings.jwt_jwks_url).key,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
        )
    return Verifier(settings.jwt_algorithm, lambda _: key, issuer=settings.jwt_issuer, audience=settings.jwt_audience)


def _public_key(pem: bytes, algorithm: Algorithm) -> Any:
    algorithms = jwt.algorithms.get_default_algorithms()
    try:
        key = algorithms[algorithm.value].prepare_key(pem)
    except (jwt.PyJWTError, TypeError) as error:
        raise ValueError(f"the file has no public key of {algorithm.value}") from error
    if hasattr(key, "private_numbers"):
        raise ValueError("the file has a private key: the service needs the public one")
    return key


def make_token(
    secret: bytes,
    *,
    subject: str,
    roles: list[str],
    tenant: str = DEFAULT_TENANT,
    seconds: int = 3_600,
    issuer: str = "",
    audience: str = "",
    now: float | None = None,
) -> str:
    """Return a token signed with HS256, for development."""
    issued = int(time.time() if now is None else now)
    claims: dict[str, Any] = {"sub": subject, "roles": roles, "tenant": tenant, "iat": issued, "exp": issued + seconds}
    if issuer:
        claims["iss"] = issuer
    if audience:
        claims["aud"] = audience
    return jwt.encode(claims, secret, algorithm=Algorithm.HS256.value)
