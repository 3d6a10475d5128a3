"""Which addresses are under a prefix, and which lead into the cluster or its machines.

Decided by the text alone. What a name of the public DNS resolves to, and where a server redirects,
only the network can forbid: `egress` of a FineTuneProfile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_ADDRESS = re.compile(
    r"(?P<scheme>[a-z0-9]+)://(?P<host>[-._A-Za-z0-9]+|\[[0-9a-fA-F:.]+\])?(:(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(/[-_~+=,@:A-Za-z0-9][-._~+=,@:A-Za-z0-9]*)*)/?"
)
_PORTS = {"http": 80, "https": 443}
# Names that only a cluster's or a machine's own DNS knows.
_INNER_ENDINGS = (".svc", ".local", ".localhost", ".internal", ".localdomain", ".arpa", ".onion")
# IPv4 addresses in disguise: NAT64, and the oldest of the forms.
_TRANSLATED = (ip_network("64:ff9b::/96"), ip_network("::/96"))


@dataclass(frozen=True, slots=True)
class Address:
    """An address in its parts; the host as it is compared."""

    scheme: str
    host: str
    port: int
    segments: tuple[str, ...]


def parse_address(text: str) -> Address | None:
    """The parts of a plain address; None for one that could be read in two ways."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return None
    scheme, host = match["scheme"], match["host"] or ""
    if scheme in _PORTS:  # names of hosts; buckets and owners are taken as they are
        host = host.lower().rstrip(".")
    port = int(match["port"] or _PORTS.get(scheme, 0))
    return Address(scheme, host, port, tuple(match["path"].split("/")[1:]))


def is_under(text: str, prefix: str) -> bool:
    """Whether an address is under a prefix of a FineTuneProfile; see `spec.allow` there."""
    address, start = parse_address(text), parse_address(prefix)
    if address is None or start is None or not address.host or address.scheme != start.scheme:
        return False
    if not start.host:
        return True
    return (address.host, address.port) == (start.host, start.port) and address.segments[
        : len(start.segments)
    ] == start.segments


def names_host(prefix: str) -> bool:
    """Whether a prefix is more than a scheme."""
    start = parse_address(prefix)
    return start is not None and bool(start.host)


def find_inner(url: str) -> str:
    """Why an address of http or https is not a public one, in words; "" for a public one."""
    address = parse_address(url)
    if address is None or not address.host:
        return "cannot be read without doubt"
    host = address.host
    if host.startswith("["):
        return _find_inner_ip(host[1:-1])
    last = host.rpartition(".")[2]
    # Resolvers take 127.1, 2130706433 and 0x7f000001 for addresses, too.
    if last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last):
        return _find_inner_ip(host)
    if "." not in host:
        return "names a machine or Service of the cluster's own network"
    if host.endswith(_INNER_ENDINGS):
        return "is a name inside the cluster or its network"
    return ""


def _find_inner_ip(text: str) -> str:
    try:
        ip = ip_address(text)
    except ValueError:
        return "cannot be read without doubt"
    if isinstance(ip, IPv6Address):
        ip = _unwrap(ip)
    if ip.is_global and not ip.is_multicast:
        return ""
    return "is a private, loopback, link-local or reserved address"


def _unwrap(ip: IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, if it stands for one."""
    if any(ip in block for block in _TRANSLATED):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    teredo = ip.teredo
    return ip.ipv4_mapped or ip.sixtofour or (teredo[1] if teredo else ip)
