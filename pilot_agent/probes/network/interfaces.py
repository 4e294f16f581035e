"""The node's own side of the network: addresses from the kernel (rtnetlink), routes and name servers from files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pilot_agent.model import Json
from pilot_agent.probes.parsing import parse_integer

# linux/route.h and linux/ipv6_route.h.
_RTF_UP, _RTF_REJECT = 0x1, 0x200
# linux/rtnetlink.h, linux/netlink.h and linux/if_addr.h.
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_TENTATIVE, _IFA_F_DADFAILED = 0x40, 0x08
_NETLINK_SECONDS = 1.0
_MOST_BYTES = 1 << 20

# First address, length of the prefix in bits, and scope: RFC 1918, RFC 6598 (shared by providers' translators) and
# RFC 4193; then link-local and loopback.
_RANGES: tuple[tuple[bytes, int, str], ...] = (
    (bytes([10, 0, 0, 0]), 8, "private"),
    (bytes([172, 16, 0, 0]), 12, "private"),
    (bytes([192, 168, 0, 0]), 16, "private"),
    (bytes([100, 64, 0, 0]), 10, "private"),
    (b"\xfc" + bytes(15), 7, "private"),
    (bytes([169, 254, 0, 0]), 16, "link"),
    (b"\xfe\x80" + bytes(14), 10, "link"),
    (bytes([127, 0, 0, 0]), 8, "loopback"),
    (bytes(15) + b"\x01", 128, "loopback"),
)
_MAPPED = bytes(10) + b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Route:
    """A default route; ``gateway`` is empty where the interface itself leads on."""

    interface: str
    gateway: str
    metric: int
    family: int


def scope_of(address: str) -> str | None:
    """``global``, ``private``, ``link`` or ``loopback``; None for what is no address."""
    import socket

    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError):
        return None
    packed = packed.removeprefix(_MAPPED) if len(packed) == 16 else packed
    bits = len(packed) * 8
    for first, prefix, scope in _RANGES:
        if len(first) == len(packed) and _number(packed) >> (bits - prefix) == _number(first) >> (bits - prefix):
            return scope
    return "global"


def _number(packed: bytes) -> int:
    return int.from_bytes(packed, "big")


def parse_routes(text: str) -> list[Route]:
    """The IPv4 default routes of ``/proc/net/route``, the preferred one first; damaged lines are left out.

    Addresses there are the kernel's own words in hexadecimal: little-endian on every architecture that pilots run on.
    """
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[1] != "00000000" or fields[7] != "00000000":
            continue
        gateway, flags, metric = _hexadecimal(fields[2], 8), _hexadecimal(fields[3], 0), parse_integer(fields[6])
        if gateway is not None and flags is not None and metric is not None and _leads_on(flags, fields[0]):
            octets = gateway.to_bytes(4, "little")
            found.append(Route(fields[0], ".".join(map(str, octets)) if gateway else "", metric, 4))
    return sorted(found, key=lambda route: route.metric)


def parse_routes6(text: str) -> list[Route]:
    """The IPv6 default routes of ``/proc/net/ipv6_route``, the preferred one first; damaged lines are left out."""
    import socket

    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) != 10 or fields[:2] != ["0" * 32, "00"]:
            continue
        gateway, metric, flags = _hexadecimal(fields[4], 32), _hexadecimal(fields[5], 8), _hexadecimal(fields[8], 8)
        if gateway is not None and metric is not None and flags is not None and _leads_on(flags, fields[9]):
            shown = socket.inet_ntop(socket.AF_INET6, gateway.to_bytes(16, "big"))
            found.append(Route(fields[9], shown if gateway else "", metric, 6))
    return sorted(found, key=lambda route: route.metric)


def _leads_on(flags: int, interface: str) -> bool:
    return bool(flags & _RTF_UP) and not flags & _RTF_REJECT and interface != "lo"


def _hexadecimal(text: str, digits: int) -> int | None:
    """The number in exactly so many hexadecimal digits (0: up to eight); None for anything else."""
    right = len(text) == digits if digits else 0 < len(text) <= 8
    return int(text, 16) if right and all(mark in "0123456789abcdefABCDEF" for mark in text) else None


def parse_resolver(text: str) -> tuple[list[str], list[str]]:
    """The name servers (three at most are asked) and the search list of resolv.conf(5); the last list counts."""
    servers: list[str] = []
    search: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or line[:1] in "#;":
            continue
        if words[0] == "nameserver" and len(servers) < 3:
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = words[1:7]
    return servers, search


def parse_hosts(text: str, name: str) -> str | None:
    """The full name that hosts(5) has for a short one: the first name with a dot on a line that lists it."""
    for line in text.splitlines():
        names = line.partition("#")[0].split()[1:]
        if name in names:
            return next((full for full in names if full.startswith(f"{name}.") and full.strip(".") != name), None)
    return None


def ask_addresses() -> Json:
    """The addresses of all interfaces as ``{interface, address, family, prefix}``: one request to the kernel, no
    packet. Raises ``OSError`` where netlink is forbidden or does not answer."""
    import socket
    import struct

    found: list[Json] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
        kernel.settimeout(_NETLINK_SECONDS)
        kernel.bind((0, 0))
        # An nlmsghdr, and an ifaddrmsg for every family.
        kernel.send(struct.pack("=IHHII8x", 24, _RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0))
        received = 0
        while received < _MOST_BYTES:
            content = kernel.recv(65536)
            received += len(content)
            for kind, body in _messages(content):
                if kind == _NLMSG_DONE:
                    return found
                if kind == _NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    raise OSError(code, "the kernel refused to list addresses")
                entry = _address(body) if kind == _RTM_NEWADDR else None
                if entry is not None:
                    found.append(entry)
    return found


def _messages(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The netlink messages in one datagram as (type, payload), netlink(7)."""
    import struct

    while len(content) >= 16:
        length, kind = struct.unpack_from("=IH", content)
        if not 16 <= length <= len(content):
            return
        yield kind, content[16:length]
        content = content[(length + 3) & ~3 :]


def _address(body: bytes) -> Json:
    """One address of an ifaddrmsg and its attributes (rtnetlink(7)); None for one that is of no use."""
    import socket
    import struct

    if len(body) < 8:
        return None
    family, prefix, flags, _, index = struct.unpack_from("=BBBBI", body)
    sizes = {socket.AF_INET: (4, 4), socket.AF_INET6: (6, 16)}
    if family not in sizes or flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED):
        return None
    version, size = sizes[family]
    attributes: dict[int, bytes] = {}
    rest = body[8:]
    while len(rest) >= 4:
        length, kind = struct.unpack_from("=HH", rest)
        if not 4 <= length <= len(rest):
            break
        attributes[kind] = rest[4:length]
        rest = rest[(length + 3) & ~3 :]
    # On a point-to-point link IFA_ADDRESS is the other end.
    raw = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS, b""))
    if len(raw) != size:
        return None
    try:
        name = socket.if_indextoname(index)
    except OSError:
        name = str(index)
    return {"interface": name, "address": socket.inet_ntop(family, raw), "family": version, "prefix": prefix}
