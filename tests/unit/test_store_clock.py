"""Store time: pure arithmetic of boot clock, recorded time and wall clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from understudy.store.clock import Now, Recorded, boot_id, boot_ms, now, offset_ms

FORGET_MS = 86_400_000
MS = st.integers(0, 1 << 42)
DATES = st.integers(-(1 << 42), 1 << 42)


@given(boot=MS, wall=DATES)
def test_a_new_store_begins_above_zero(boot: int, wall: int) -> None:
    """0 means "never" in entries: no instant may be 0, not even at the moment of boot."""
    assert boot + offset_ms(None, Now("x", boot, wall), FORGET_MS) > 0


@given(offset=DATES, store=MS, recorded_wall=DATES, boot=MS, wall=DATES)
def test_a_jump_of_the_wall_clock_changes_nothing_in_one_boot(
    offset: int, store: int, recorded_wall: int, boot: int, wall: int
) -> None:
    """S47: as long as the machine runs, only the boot clock counts."""
    recorded = Recorded("this", offset, store, recorded_wall)
    assert offset_ms(recorded, Now("this", boot, wall), FORGET_MS) == offset


@given(store=MS, recorded_wall=DATES, boot=MS, wall=DATES)
def test_after_a_reboot_time_goes_on_within_bounds(store: int, recorded_wall: int, boot: int, wall: int) -> None:
    """S47: whatever the wall clock says after a reboot, store time never goes back and never runs ahead by more than
    ``forget_ms``."""
    recorded = Recorded("before", 5, store, recorded_wall)
    time_ms = boot + offset_ms(recorded, Now("this", boot, wall), FORGET_MS)
    assert store <= time_ms <= store + FORGET_MS


def test_after_a_reboot_the_time_away_is_what_the_wall_clock_says() -> None:
    """An hour away is an hour of store time, so that a session that was idle meanwhile has expired."""
    recorded = Recorded("before", 5, 1_000_000, 50_000_000)
    assert 7_000 + offset_ms(recorded, Now("this", 7_000, 53_600_000), FORGET_MS) == 1_000_000 + 3_600_000


def test_this_machine_has_one_boot_and_a_clock_that_runs() -> None:
    """Two looks name the same boot, and the second is not earlier."""
    first = now()
    assert first.boot_id == boot_id() != ""
    assert first.boot_ms <= boot_ms()
