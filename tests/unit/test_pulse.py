"""Whether the network's library still works, as its calls tell."""

from __future__ import annotations

from understudy.transport.pulse import LOOKS_MAX, Pulse, is_panic


def look(pulse: Pulse, times: int) -> str:
    said = ""
    for _ in range(times):
        said = pulse.look()
    return said


def test_it_fails_when_nothing_proves_that_it_works() -> None:
    """S23: not before the looks for it are over; each proof counts them anew."""
    pulse = Pulse()
    assert not look(pulse, LOOKS_MAX)
    pulse.proved()
    assert not look(pulse, LOOKS_MAX)
    assert "did not answer" in pulse.look() and not pulse.is_broken


def test_a_panic_is_enough() -> None:
    """S23: at once, whatever was proved before or after; the first one is told."""
    pulse = Pulse()
    pulse.proved()
    pulse.panicked(RuntimeError("a poisoned lock"))
    pulse.panicked(RuntimeError("another"))
    pulse.proved()
    assert pulse.look() == "it panicked (a poisoned lock)" and pulse.is_broken


def test_a_panic_is_known_by_its_name() -> None:
    """Its class is made when the library is loaded, and no ordinary error is taken for it."""
    panic = type("PanicException", (BaseException,), {})
    assert is_panic(panic("poisoned"))
    for error in (RuntimeError("poisoned"), KeyboardInterrupt()):
        assert not is_panic(error)
