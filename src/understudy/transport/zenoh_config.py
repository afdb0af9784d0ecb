"""Gives zenoh's configuration for one member, and plain words for what can be wrong with it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from understudy import limits
from understudy.config.parse import Address, parse_address
from understudy.errors import TransportError
from understudy.transport.envelope import ENVELOPE_BYTES_MAX
from understudy.transport.tls import TlsFiles, zenoh_section

LINK_LEASE_MS = 1_500
"""A link without a sign of life for so long is closed, or for ``lease_ms`` if that is longer; a quarter of it is the
interval of the signs."""
SEED_RETRY_MS = (200, 2_000)
"""First and longest pause between two tries to reach a seed; doubled each time. For ever."""
HANDSHAKE_MS_MAX = 3_000
"""A link that has not proved the secret by then gives its place to another."""


def zenoh_config(
    listen: Address,
    seeds: Sequence[Address],
    multicast: bool,
    me: tuple[str, str],
    logins_path: str,
    tls: TlsFiles | None = None,
    link_lease_ms: int = LINK_LEASE_MS,
) -> dict[str, Any]:
    """Gives zenoh's configuration; everything that is not named keeps zenoh's default."""
    first_ms, longest_ms = SEED_RETRY_MS
    kind = "tcp" if tls is None else "tls"
    return {
        "mode": "router",
        "listen": {"endpoints": [f"{kind}/{listen}"], "timeout_ms": 0, "exit_on_failure": True},
        "connect": {
            "endpoints": [f"{kind}/{seed}" for seed in seeds],
            "timeout_ms": -1,
            "exit_on_failure": False,
            "retry": {"period_init_ms": first_ms, "period_max_ms": longest_ms, "period_increase_factor": 2},
        },
        # Without these zenoh waits half a second at its start, for peers that we hear of anyway.
        "open": {"return_conditions": {"connect_scouted": False, "declares": False}},
        "scouting": {
            "delay": 0,
            "multicast": {"enabled": multicast, "listen": multicast, "autoconnect": {"router": ["router"]}},
            "gossip": {"enabled": True, "autoconnect": {"router": ["router"]}},
        },
        "timestamping": {"enabled": False},
        "adminspace": {"enabled": False},
        "transport": {
            "shared_memory": {"enabled": False},
            "unicast": {
                "open_timeout": HANDSHAKE_MS_MAX,
                "accept_timeout": HANDSHAKE_MS_MAX,
                "max_sessions": 2 * limits.MEMBERS_MAX,
            },
            "auth": {"usrpwd": {"user": me[0], "password": me[1], "dictionary_file": logins_path}},
            "link": {
                "protocols": [kind],
                "tls": {} if tls is None else zenoh_section(tls),
                "tx": {
                    "lease": link_lease_ms,
                    "keep_alive": 4,
                    "queue": {
                        "congestion_control": {
                            "drop": {
                                "wait_before_drop": 1_000,  # µs; zenoh's default: with 0, bursts lose half
                                "max_wait_before_drop_fragments": limits.BULK_WAIT_MS_MAX * 1_000,
                            }
                        }
                    },
                },
                # Bounds what a peer can make us gather; the rest is room for zenoh's own header.
                "rx": {"max_message_size": limits.FRAME_BYTES_MAX + ENVELOPE_BYTES_MAX + 65_536},
            },
        },
    }


def read_address(what: str, text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise TransportError(f"{what} {text!r} {error}") from error


def is_own(seed: Address, listen: Address) -> bool:
    """True when a seed is this member itself; other names for it are left to zenoh, which notices and goes on."""
    return seed == listen or (listen.wildcard and seed.port == listen.port and seed.loopback)


def accepts_connections(seed: Address) -> bool:
    try:
        with socket.create_connection((seed.host, seed.port), timeout=1):
            return True
    except OSError:
        return False


def why_not(listen: Address, reason: str) -> str:
    if "in use" in reason:
        return (
            f"cannot listen on {listen}: the address is in use; end the other process (perhaps an agent of this"
            " member that still runs: `understudy status`), or choose another `listen`"
        )
    if "assign requested address" in reason or "dns" in reason.lower() or "resolve" in reason:
        return f"cannot listen on {listen}: it is no address of this machine; correct `listen` in [cluster]"
    if "ermission denied" in reason:
        return f"cannot listen on {listen}: permission denied; choose a port above 1023 for `listen`"
    return f"cannot listen on {listen}: {reason.partition(' at /')[0]}"
