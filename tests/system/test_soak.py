"""A short soak: the faults that need no long time, on every run; `make soak` is the long one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.patience import TEST_S_MAX

ROOT = Path(__file__).resolve().parents[2]


def soak(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.system.soak", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TEST_S_MAX)


def test_kills_at_random_moments() -> None:
    """S22, S23, S24: kill -9 of workers, agents and whole members at random moments under load: no acknowledged change
    is lost, no session is lost or brought back, nobody goes back, no living member shows an error page.
    """
    result = soak("--seed", "1", "--only", "kills", "--faults", "8", "--seconds", "90")
    assert result.returncode == 0, result.stdout + result.stderr
    found = re.search(r"acknowledged changes +(\d+)", result.stdout)
    assert found is not None and int(found.group(1)) > 100, result.stdout
    for kind in ("an acknowledged change is lost", "a reader went back", "an ended session came back"):
        assert re.search(rf"{kind}: +0$", result.stdout, re.MULTILINE), result.stdout


def test_an_unknown_fault_is_refused() -> None:
    """A misspelt fault is named, and nothing is started."""
    result = soak("--only", "agent-kiled")
    assert (result.returncode, "agent-kiled" in result.stderr) == (2, True)
