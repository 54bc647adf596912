"""Which addresses lie outside: the IANA special-purpose registries (RFC 6890), as of 2025, and what clouds answer at."""

from __future__ import annotations

import ipaddress
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _table(*rows: tuple[str, str]) -> tuple[tuple[Network, str], ...]:
    return tuple((ipaddress.ip_network(text), what) for text, what in rows)


METADATA: Final = _table(
    ("169.254.169.254/32", "a cloud's metadata service"),
    ("169.254.170.2/32", "a cloud's metadata service"),
    ("169.254.170.23/32", "a cloud's metadata service"),
    ("100.100.100.200/32", "a cloud's metadata service"),
    ("168.63.129.16/32", "a cloud's metadata service"),
    ("192.0.0.192/32", "a cloud's metadata service"),
    ("fd00:ec2::254/128", "a cloud's metadata service"),
    ("fd00:ec2::23/128", "a cloud's metadata service"),
    ("fd20:ce::254/128", "a cloud's metadata service"),
)
"""Where clouds give secrets to whoever asks from inside; a list of allowed networks opens these only by name."""

_DENIED: Final = _table(
    ("0.0.0.0/8", "this host"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a provider"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "for documentation"),
    ("192.88.99.0/24", "a 6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "this host"),
    ("::1/128", "loopback"),
    ("::/96", "an obsolete form of an IPv4 address"),
    ("64:ff9b:1::/48", "private"),
    ("100::/64", "discarded"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "for documentation"),
    ("2002::/16", "6to4, which may lead to any IPv4 address"),
    ("3fff::/20", "for documentation"),
    ("5f00::/16", "for segment routing"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_LAST_32_BITS: Final = 0xFFFF_FFFF


def inner(address: Address) -> Address:
    """Return the IPv4 address to which an IPv6 address leads (mapped, RFC 4291; NAT64, RFC 6052), else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & _LAST_32_BITS)
    return address


def is_metadata(address: Address) -> bool:
    """Whether a cloud gives out secrets at this address."""
    return any(address in network for network, _ in METADATA)


def why_denied(address: Address) -> str:
    """Say what keeps an address from being one of the public Internet; "" where nothing does."""
    for network, what in (*METADATA, *_DENIED):
        if address in network:
            return what
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_V6:
        return "not one of the public Internet"
    return ""
