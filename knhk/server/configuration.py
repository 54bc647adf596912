"""What the environment says: the variables ``WORKFLOW_*``, each checked, named where it is wrong, and told with its origin."""

from __future__ import annotations

import enum
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from knhk.errors import KnhkError
from knhk.ports import Durability
from knhk.server.endpoint import read_endpoint
from knhk.stores import without_password
from knhk.work.instances import instance_name
from knhk.work.ownership import LEASE

PREFIX: Final = "WORKFLOW_"
CLIENT_TOKEN: Final = "WORKFLOW_TOKEN"
"""With what commands ask a service: no setting of it, and no mistake beside those."""

SHORTEST_SECRET: Final = 32
"""Bytes that an HS256 secret has at least (RFC 7518, section 3.2)."""

MASK: Final = "********"
_HIGHEST_PORT: Final = 65_535
_LONGEST_LEASE: Final = 3600.0


class ConfigurationError(KnhkError):
    """The environment cannot be used; every variable that is wrong is named."""

    def __init__(self, findings: list[str]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(["the configuration cannot be used:", *(f"  - {each}" for each in findings)]))


class Shared(enum.Enum):
    """Whether an instance shares its store with others; ``AUTO``: where the store is one that several machines reach."""

    AUTO = "auto"
    TRUE = "true"
    FALSE = "false"


class Algorithm(enum.Enum):
    """How tokens are signed; configured, never taken from a token (RFC 8725, section 3.1)."""

    HS256 = "HS256"
    RS256 = "RS256"
    ES256 = "ES256"


def _port(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not 0 <= value <= _HIGHEST_PORT:
        raise ValueError(f"{attribute.name} must be 0 to {_HIGHEST_PORT}, not {value}")


def _lease(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 < value <= _LONGEST_LEASE:
        raise ValueError(f"{attribute.name} must be more than 0 and at most {_LONGEST_LEASE:g}, not {value}")


def _positive(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if value <= 0:
        raise ValueError(f"{attribute.name} must be more than 0, not {value}")


def _not_negative(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if value < 0:
        raise ValueError(f"{attribute.name} must be 0 or more, not {value}")


def _collector(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if value:
        try:
            read_endpoint(value)
        except ValueError as error:
            raise ValueError(f"{attribute.name} {error}") from None


@attrs.frozen(kw_only=True)
class Configuration:
    """
    The service's settings; each member is the variable ``WORKFLOW_`` and its name in capitals.

    Args:
        state_path: a directory for the embedded store, or the address of a store.
        api_host, api_port: where REST is served; port 0 picks one and prints it.
        fortune5_enabled: the enterprise profile: auth, audit and rate limit are on, or off by name; no unknown variable.
        otel_endpoint: the collector that spans are sent to; see `knhk.server.endpoint`.
        audit_enabled, rate_limit_enabled, auth_enabled: false is a warning.
        audit_key_file: the key that signs the record, where there is no state directory to keep one in.
        audit_retention: days after which calls go from the store into the archive; 0 for never.
        spiffe_enabled, multi_region: not built; true refuses the start.
        trust_domain: checked and shown; used by nothing yet.
        region: stamped on logs and metrics.
        instance_id: the name of this instance among those on one store.
        shared: whether it shares the store with others: then automatic work is shared out among them.
        lease: seconds within which the work of an instance that died is taken over.
        handlers: modules to import that register handlers, separated by commas.
        durability: what an acknowledged command survives.
        jwt_secret, jwt_secret_file: the key of HS256.
        jwt_public_key_file, jwt_jwks_url: the keys of RS256 and ES256.
        jwt_algorithm, jwt_issuer, jwt_audience: what a token must say.
        tls_cert, tls_key, tls_client_ca: files; with a client CA every client needs a certificate of it.
        rate_limit: requests a second and client.
        rate_limit_overrides: other rates, as ``tenant/subject=rate`` separated by commas.
        rate_limit_store: the Redis on which all instances count requests together; "" for the store itself where it is a Redis
            that is shared, else for none; "none": each counts for itself.
        grpc_port: where gRPC is served, on the same address; None: nowhere; port 0 picks one and prints it.
        grpc_reflection: whether the gRPC service describes itself to whoever asks.
        log_level: of the lines on stderr.
        drain_timeout: seconds that an end may take.
        insecure: serve without TLS, though with auth, on an address that others reach, without a warning.
    """

    state_path: str = "/var/lib/workflow-engine"
    api_host: str = "127.0.0.1"
    api_port: int = attrs.field(default=8080, validator=_port)
    fortune5_enabled: bool = False
    otel_endpoint: str = attrs.field(default="", validator=_collector)
    audit_enabled: bool = True
    audit_key_file: str = ""
    audit_retention: float = attrs.field(default=0.0, validator=_not_negative)
    rate_limit_enabled: bool = True
    auth_enabled: bool = True
    spiffe_enabled: bool = False
    trust_domain: str = ""
    multi_region: bool = False
    region: str = ""
    instance_id: str = attrs.field(factory=instance_name)
    shared: Shared = Shared.AUTO
    lease: float = attrs.field(default=LEASE, validator=_lease)
    handlers: str = ""
    durability: Durability = Durability.FULL
    jwt_secret: str = ""
    jwt_secret_file: str = ""
    jwt_public_key_file: str = ""
    jwt_jwks_url: str = ""
    jwt_algorithm: Algorithm = Algorithm.HS256
    jwt_issuer: str = ""
    jwt_audience: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    rate_limit: float = attrs.field(default=100.0, validator=_positive)
    rate_limit_overrides: str = ""
    rate_limit_store: str = ""
    grpc_port: int | None = attrs.field(default=None, validator=attrs.validators.optional(_port))
    grpc_reflection: bool = False
    log_level: str = "info"
    drain_timeout: float = attrs.field(default=30.0, validator=_positive)
    insecure: bool = False

    @property
    def store(self) -> str:
        """The address of the store: as it is written, or a file in the state directory."""
        if "://" in self.state_path or self.state_path.startswith(("memory:", "log:")):
            return self.state_path
        return str(Path(self.state_path) / "knhk.db")

    @property
    def embedded(self) -> bool:
        """Whether the store is a file, a directory or in memory, so that at most the processes of one machine share it."""
        return "://" not in self.store or self.store.startswith("sqlite:")

    @property
    def shares(self) -> bool:
        """Whether this instance is one of several on its store."""
        return not self.embedded if self.shared is Shared.AUTO else self.shared is Shared.TRUE

    @property
    def counts(self) -> str:
        """The address of the Redis on which all instances count requests together; "" where each counts for itself."""
        if self.rate_limit_store == "none":
            return ""
        return self.rate_limit_store or (self.store if self.shares and _on_redis(self.store) else "")

    @property
    def rates(self) -> dict[str, float]:
        """The rates of the clients that have their own."""
        pairs = (each.strip().rpartition("=") for each in self.rate_limit_overrides.split(",") if each.strip())
        return {client: float(rate) for client, _, rate in pairs}


def _on_redis(address: str) -> bool:
    return address.lower().startswith(("redis://", "rediss://"))


_KINDS: Final = typing.get_type_hints(Configuration)
_TRUTHS: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_SECRET: Final = frozenset({"jwt_secret"})
_RATES: Final = re.compile(r"(\s*[^=,\s]+/[^=,\s]+=[0-9]+(\.[0-9]+)?\s*(,|$))*")
_TRUST_DOMAIN: Final = re.compile(r"spiffe://[a-z0-9][a-z0-9._-]{0,254}")
_INSTANCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_LEVELS: Final = ("debug", "info", "warning", "error")


@attrs.frozen(kw_only=True)
class Loaded:
    """
    A configuration and how it came about.

    Args:
        settings: the values.
        origins: by member, the variable that gave it, or "default".
        warnings: what is allowed and should be known.
    """

    settings: Configuration
    origins: Mapping[str, str]
    warnings: tuple[str, ...]

    def table(self) -> list[tuple[str, str, str]]:
        """Return (variable, value, origin) of every setting, secrets masked."""
        return [
            (variable(name), _shown(name, getattr(self.settings, name)), self.origins[name])
            for name in (each.name for each in attrs.fields(Configuration))
        ]


def variable(name: str) -> str:
    """Return the name of a setting's variable."""
    return f"{PREFIX}{name.upper()}"


def load(environment: Mapping[str, str]) -> Loaded:
    """
    Read the environment.

    Raises:
        ConfigurationError: a value cannot be used, or values contradict each other; all are named.
    """
    names = {variable(each.name): each.name for each in attrs.fields(Configuration)}
    given = {names[key]: value for key, value in environment.items() if key in names}
    unknown = sorted(key for key in environment if key.startswith(PREFIX) and key not in names and key != CLIENT_TOKEN)
    findings: list[str] = []
    values: dict[str, Any] = {}
    for each in attrs.fields(Configuration):
        if each.name in given:
            try:
                values[each.name] = _converted(_KINDS[each.name], given[each.name])
                if each.validator is not None:
                    each.validator(None, each, values[each.name])
            except (ValueError, TypeError) as error:
                findings.append(f"{variable(each.name)}={_shown(each.name, given[each.name])!r}: {error}")
    if findings:
        raise ConfigurationError(findings)
    settings = Configuration(**values)
    findings = _contradictions(settings)
    if settings.fortune5_enabled:
        # Misspelt, a variable leaves what it was to protect as it was.
        findings += [
            f"{each}: is no variable of this service; {variable('fortune5_enabled')}=true has none of them"
            for each in unknown
        ]
    if findings:
        raise ConfigurationError(findings)
    return Loaded(
        settings=settings,
        origins={name: key if name in given else "default" for key, name in names.items()},
        warnings=(
            *(f"{each} is no variable of this service; it has no effect" for each in unknown),
            *_warnings(settings),
        ),
    )


def _converted(kind: Any, text: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(text.strip().lower() if kind in (Durability, Shared) else text.strip())
        except ValueError:
            allowed = ", ".join(each.value for each in kind)
            raise ValueError(f"must be one of {allowed}") from None
    if kind == int | None:
        return _converted(int, text) if text.strip() else None
    if kind in (int, float):
        try:
            number = kind(text.strip())
        except ValueError:
            raise ValueError(f"must be a {'whole ' if kind is int else ''}number") from None
        if number != number or number in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN is not itself
            raise ValueError("must be a finite number")
        return number
    if kind is bool:
        if text.strip().lower() not in _TRUTHS:
            raise ValueError("must be true or false")
        return _TRUTHS[text.strip().lower()]
    return text.strip()


def _contradictions(settings: Configuration) -> list[str]:
    found = []
    if settings.spiffe_enabled:
        found.append(f"{variable('spiffe_enabled')}=true: workload identity is not built yet; set it to false")
    if settings.multi_region:
        found.append(f"{variable('multi_region')}=true: replication between regions is not built yet; set it to false")
    if not _INSTANCE.fullmatch(settings.instance_id):
        found.append(f"{variable('instance_id')}={settings.instance_id!r}: must be letters, digits and . _ : - alone")
    if settings.audit_retention and settings.store == settings.state_path:
        found.append(f"{variable('audit_retention')}: the archive is in the state directory, and there is none")
    if settings.log_level.lower() not in _LEVELS:
        found.append(f"{variable('log_level')}={settings.log_level!r}: must be one of {', '.join(_LEVELS)}")
    if bool(settings.tls_cert) != bool(settings.tls_key):
        found.append(f"{variable('tls_cert')} and {variable('tls_key')} go together: give both, or none")
    if settings.tls_client_ca and not settings.tls_cert:
        found.append(f"{variable('tls_client_ca')} needs {variable('tls_cert')} and {variable('tls_key')}")
    if settings.trust_domain and not _TRUST_DOMAIN.fullmatch(settings.trust_domain):
        found.append(f"{variable('trust_domain')}={settings.trust_domain!r}: must be spiffe:// and a domain")
    for name in ("jwt_secret_file", "jwt_public_key_file", "tls_cert", "tls_key", "tls_client_ca", "audit_key_file"):
        path = getattr(settings, name)
        if path and not Path(path).is_file():
            found.append(f"{variable(name)}={path!r}: there is no such file")
    if not found:
        found += _key_findings(settings) + _sharing_findings(settings)
    if not _RATES.fullmatch(settings.rate_limit_overrides) or not all(settings.rates.values()):
        found.append(f"{variable('rate_limit_overrides')}: must be tenant/subject=rate, separated by commas")
    if settings.counts and not _on_redis(settings.counts):
        shown = _shown("rate_limit_store", settings.counts)
        found.append(f"{variable('rate_limit_store')}={shown!r}: must be the address of a Redis, or none")
    return found


def _key_findings(settings: Configuration) -> list[str]:
    symmetric = settings.jwt_algorithm is Algorithm.HS256
    keys = [
        each
        for each in ("jwt_secret", "jwt_secret_file", "jwt_public_key_file", "jwt_jwks_url")
        if getattr(settings, each)
    ]
    if len(keys) > 1:
        return [f"{' and '.join(map(variable, keys))}: one key is used, give one of them"]
    if not keys:
        return []
    if symmetric != keys[0].startswith("jwt_secret"):
        needed = "a secret" if symmetric else "a public key"
        return [f"{variable(keys[0])}: {variable('jwt_algorithm')}={settings.jwt_algorithm.value} needs {needed}"]
    if symmetric and len(secret_of(settings)) < SHORTEST_SECRET:
        return [f"{variable(keys[0])}: the secret has {len(secret_of(settings))} bytes; it needs {SHORTEST_SECRET}"]
    return []


def on_port(settings: Configuration, grpc_port: int) -> Configuration:
    """Return a configuration with the port of gRPC that was picked."""
    return attrs.evolve(settings, grpc_port=grpc_port)


def shared_by(settings: Configuration, processes: int) -> Configuration:
    """
    Return a configuration for several processes on one port.

    Raises:
        ConfigurationError: they cannot share its store.
    """
    if settings.shared is Shared.FALSE:
        raise ConfigurationError([f"{variable('shared')}=false: {processes} workers share their store; leave it out"])
    changed = attrs.evolve(settings, shared=Shared.TRUE)
    findings = _sharing_findings(changed)
    if findings:
        raise ConfigurationError(findings)
    return changed


def _sharing_findings(settings: Configuration) -> list[str]:
    if not settings.shares:
        return []
    scheme = settings.store.partition(":")[0]
    if settings.embedded and scheme in ("memory", "log"):
        return [
            f"{variable('shared')}=true: a {scheme!r} store is one process's; take a file, or a store with an address"
        ]
    if settings.embedded:
        return []
    found = []
    keyless = not (settings.jwt_secret or settings.jwt_secret_file)
    if settings.auth_enabled and settings.jwt_algorithm is Algorithm.HS256 and keyless:
        found.append(f"{variable('jwt_secret')}: instances that share {scheme}: need one secret; give all the same")
    if settings.audit_enabled and not settings.audit_key_file:
        found.append(
            f"{variable('audit_key_file')}: instances that share {scheme}: sign one record; give all the same key"
        )
    return found


def secret_of(settings: Configuration) -> bytes:
    """Return the configured HS256 secret, or nothing."""
    if settings.jwt_secret_file:
        return Path(settings.jwt_secret_file).read_bytes().strip()
    return settings.jwt_secret.encode()


def _warnings(settings: Configuration) -> list[str]:
    off = [each for each in ("auth_enabled", "audit_enabled", "rate_limit_enabled") if not getattr(settings, each)]
    warnings = [f"{variable(each)}=false: anybody can do what it would stop" for each in off]
    local = settings.api_host in {"127.0.0.1", "::1", "localhost"}
    if settings.auth_enabled and not settings.tls_cert and not local and not settings.insecure:
        warnings.append(
            f"tokens travel in the clear on {settings.api_host}: set {variable('tls_cert')} and {variable('tls_key')}, or put a "
            f"proxy with TLS in front and say {variable('insecure')}=true"
        )
    return warnings


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _SECRET:
        return MASK if value else ""
    if name in ("state_path", "rate_limit_store"):
        return without_password(str(value))
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
