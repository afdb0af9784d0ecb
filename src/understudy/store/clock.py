"""Decides what time it is in a store: milliseconds that run on through reboots and never follow the wall clock.

Store time is the boot clock (which counts suspended time too) plus an offset that the store keeps beside the boot's
id. Only after a reboot does the wall clock take part: it tells how long the machine was away, within bounds.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BOOT_GRAIN_S = 60
"""Where the system names no boot, its instant does, to the minute: finer, and each look would find another boot."""

RECORD_EVERY_MS = 10_000
"""How often store time and wall time are recorded together, with writes that happen anyway."""


class Recorded(NamedTuple):
    """What a store remembers of its clock."""

    boot_id: str
    offset_ms: int
    """Store time minus boot clock, valid for that boot."""
    store_ms: int
    """The last recorded store time, and ..."""
    wall_ms: int
    """... the wall clock at the same moment."""


class Now(NamedTuple):
    """What the machine's clocks say."""

    boot_id: str
    boot_ms: int
    wall_ms: int


def offset_ms(recorded: Recorded | None, now: Now, forget_ms: int) -> int:
    """The offset that turns the boot clock into store time.

    Args:
        recorded: None for a new store.
        forget_ms: the longest time away that is believed; tombstones live no longer anyway.

    Guarantee: within one boot always the same; after a reboot store time is never below the recorded one and never
    more than ``forget_ms`` above it. Store time is above 0.
    """
    if recorded is None:
        return 1
    if recorded.boot_id == now.boot_id:
        return recorded.offset_ms
    away_ms = min(max(now.wall_ms - recorded.wall_ms, 0), forget_ms)
    return recorded.store_ms + away_ms - now.boot_ms


def boot_ms() -> int:
    """Milliseconds since this machine's boot. Cost: about 0.2 µs."""
    return time.clock_gettime_ns(_CLOCK) // 1_000_000


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def boot_id() -> str:
    """A name of this boot. Without the kernel's (macOS) it is derived, and a jump of the wall clock changes it."""
    try:
        return _BOOT_ID_FILE.read_text().strip()
    except OSError:
        return f"at-{round((time.time() - boot_ms() / 1000) / _BOOT_GRAIN_S)}"


def now() -> Now:
    return Now(boot_id(), boot_ms(), wall_ms())
