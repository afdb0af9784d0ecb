"""Gives durations, sizes and addresses from what a person writes; every refusal says what would be right.

All functions raise ``ValueError`` without saying where the text stood: the caller knows that and adds it.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta

from msgspec import Struct

_DURATION = re.compile(
    r"(?:(?P<d>[0-9]{1,9})d)?\s*(?:(?P<h>[0-9]{1,9})h)?\s*(?:(?P<m>[0-9]{1,9})m)?\s*"
    r"(?:(?P<s>[0-9]{1,12})s)?\s*(?:(?P<ms>[0-9]{1,15})ms)?"
)
_UNIT_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_SECONDS = re.compile(r"[0-9]{1,12}")
_DURATION_HINT = 'write it like "30m", "250ms", "1h30m", "24h" or "7d", or as a number of seconds'

_SIZE = re.compile(r"([0-9]{1,18})\s*([A-Za-z]*)")
_SIZE_UNIT_BYTES = {
    "": 1,
    "b": 1,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_SIZE_HINT = 'write it like "512MiB" or "1GiB", or as a number of bytes'

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?")
_ADDRESS_HINT = 'write it like "10.0.0.1:7400", "web1.internal:7400" or "[fd00::1]:7400"'


class Address(Struct, frozen=True, order=True):
    """A host and a port; ``str()`` gives HOST:PORT, with brackets around an IPv6 host."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """True when nobody outside this machine can be meant; a host name is never looked up for this."""
        ip = _ip(self.host)
        return self.host.lower() == "localhost" if ip is None else ip.is_loopback

    @property
    def wildcard(self) -> bool:
        """True for 0.0.0.0 and [::], on which one can listen but to which nobody can connect."""
        ip = _ip(self.host)
        return ip is not None and ip.is_unspecified


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return ip if mapped is None else mapped


def parse_duration(value: object) -> int:
    """Gives milliseconds from text with units, a ``timedelta``, or a number of seconds (also as text).

    Raises: ValueError with what to write instead.
    """
    if isinstance(value, timedelta):
        ms = value // timedelta(milliseconds=1)
    elif isinstance(value, int) and not isinstance(value, bool):
        ms = value * 1000
    elif isinstance(value, str):
        ms = _duration_text(value.strip())
    else:
        raise ValueError(f"is {_kind(value)}, not a duration; {_DURATION_HINT}")
    if ms < 0:
        raise ValueError(f"is negative; {_DURATION_HINT}")
    return ms


def _duration_text(text: str) -> int:
    if _SECONDS.fullmatch(text):
        return int(text) * 1000
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise ValueError(f"is not a duration; {_DURATION_HINT}")
    return sum(int(amount) * _UNIT_MS[unit] for unit, amount in match.groupdict().items() if amount)


def parse_milliseconds(value: object) -> int:
    """Gives milliseconds from a number of milliseconds (also as text) or from a duration with its unit.

    Raises: ValueError with what to write instead.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _SECONDS.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, str | timedelta):
        return parse_duration(value)
    raise ValueError(f'is {_kind(value)}, not a number of milliseconds; write it like 250 or "250ms"')


def parse_size(value: object) -> int:
    """Gives bytes from text like "512MiB" or from a number of bytes.

    Raises: ValueError with what to write instead.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"is negative; {_SIZE_HINT}")
        return value
    if not isinstance(value, str):
        raise ValueError(f"is {_kind(value)}, not a size; {_SIZE_HINT}")
    match = _SIZE.fullmatch(value.strip())
    if match is None or match[2].lower() not in _SIZE_UNIT_BYTES:
        raise ValueError(f"is not a size; {_SIZE_HINT}")
    return int(match[1]) * _SIZE_UNIT_BYTES[match[2].lower()]


def parse_address(value: object) -> Address:
    """Gives host and port from "HOST:PORT"; nothing is looked up.

    Raises: ValueError with what to write instead.
    """
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError(f"is {_kind(value)}, not an address; {_ADDRESS_HINT}")
    host, colon, port_text = value.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (bracketed and ":" not in host) or (":" in host and not bracketed):
        raise ValueError(f"is not HOST:PORT; {_ADDRESS_HINT}")
    host = host[1:-1] if bracketed else host
    if bracketed or re.fullmatch(r"[0-9.]+", host):
        if _ip(host) is None:
            raise ValueError(f"has a host that is no IP address; {_ADDRESS_HINT}")
    elif len(host) > 253 or not _HOST_NAME.fullmatch(host):
        raise ValueError(f"has a host that is no host name; {_ADDRESS_HINT}")
    if not re.fullmatch(r"[0-9]{1,5}", port_text) or not 1 <= int(port_text) <= 65_535:
        raise ValueError(f"has no port from 1 to 65535; {_ADDRESS_HINT}")
    return Address(host, int(port_text))


def format_duration(ms: int) -> str:
    """Gives the shortest text that ``parse_duration`` reads as that many milliseconds."""
    parts = []
    rest = ms
    for unit, unit_ms in _UNIT_MS.items():
        amount, rest = divmod(rest, unit_ms)
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"


def format_size(size_bytes: int) -> str:
    """Gives the shortest exact text that ``parse_size`` reads as that many bytes."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        unit_bytes = _SIZE_UNIT_BYTES[unit.lower()]
        if size_bytes and size_bytes % unit_bytes == 0:
            return f"{size_bytes // unit_bytes}{unit}"
    return str(size_bytes)


def _kind(value: object) -> str:
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number with a fraction",
        str: "text",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), f"a {type(value).__name__}")
