"""How long tests wait for what must come, in one place: no test may fail because the machine is slow or busy.

A test waits for a condition, never for a time, and only a test that fails waits to the end of these bounds. What a
test compares is an order, a count or a state, not an instant.
"""

from __future__ import annotations

PATIENCE_S = 120.0
"""For one state, one answer, one process' end: many times what two starved cores have been seen to take."""
TEST_S_MAX = 1_200.0
"""For a whole system test: some have twenty states to wait for."""

PATIENT = {"UNDERSTUDY_AGENT_TIMEOUT_MS": "60000", "UNDERSTUDY_COMMIT_TIMEOUT_MS": "60000"}
"""For members: requests that an idle machine answers in time are not given up on a busy one, with a 503 or without a
copy. Who can take no copy answers at once all the same, and a lost member is still noticed as soon as by default."""

LONG_LEASES = {"UNDERSTUDY_LEASE_MS": "5000", "UNDERSTUDY_DEAD_MS": "60000"}
"""For members of which none is lost: one that is starved is not taken for one that died. Where members are killed the
tests keep the default: nobody serves in the place of another before that one's lease is over."""
