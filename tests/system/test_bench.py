"""The benchmark runs, measures what its table says, and refuses to run without what it compares with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = (sys.executable, str(ROOT / "bench" / "request_path.py"))
RUN_S_MAX = 120.0
THEIRS = ("redis GET", "redis SET", "redis SET + WAIT 1", "redis SET, WAIT 1 in a pipeline")
OURS = {
    "clean read": "redis GET",
    "clean read, whole request": "redis GET",
    'write, "none"': "redis SET",
    'write, "local"': "redis SET",
    'write, "backup"': "redis SET + WAIT 1",
    'write, "backup", same times': "redis SET, WAIT 1 in a pipeline",
}
NUMBER = r"(\d+(?:\.\d+)?)"


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    environ |= {"PYTHONPATH": str(ROOT / "src"), **variables}
    return subprocess.run([*RUN, *arguments], env=environ, capture_output=True, text=True, timeout=RUN_S_MAX)


@pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed: apt-get install redis-server"
)
def test_every_operation_has_a_row() -> None:
    """`make bench` gives for both sizes each operation's median, p99 and ratio to redis', beside machine and commit."""
    result = run("--rounds", "1", "--count", "3")
    assert result.returncode == 0, result.stderr
    head, *tables = result.stdout.split("\nsessions of ")
    assert [table.partition(" ")[0] for table in tables] == ["190", "1000"]
    for line in ("machine: ", "versions: ", "commit: ", "load average"):
        assert line in head
    for table in tables:
        for name in THEIRS:
            assert all(value > 0 for value in numbers(table, rf"{NUMBER} +{NUMBER} +{NUMBER}$", name)), table
        for name, beside in OURS.items():
            ratios = rf"{NUMBER} +\({NUMBER} to {NUMBER}\) +{NUMBER}"
            found = numbers(table, rf"{NUMBER} +{NUMBER} +{NUMBER} +{ratios} +{re.escape(beside)}$", name)
            assert all(value > 0 for value in found), table
    assert "of 12 reads" in result.stdout


def test_a_busy_neighbour_is_measured_beside_a_stranger() -> None:
    """S50: what a busy worker costs another is given as the ratio to the same threads in a process without sessions,
    for reads and writes, with an agent and without.
    """
    command = (sys.executable, str(ROOT / "bench" / "neighbours.py"), "--rounds", "1", "--count", "3")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    environ |= {"PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=RUN_S_MAX)
    assert result.returncode == 0, result.stderr
    _, *tables = result.stdout.split("\n\n")
    assert [table.partition(" ")[0] for table in tables] == ["with", "LocalManager;"]
    for table in tables:
        for name in ("read", "write"):
            pattern = (
                rf"{NUMBER} +{NUMBER} +3 +{NUMBER} +\({NUMBER} to {NUMBER}\) +{NUMBER} +{name}, beside a stranger$"
            )
            assert all(value > 0 for value in numbers(table, pattern, f"{name}, beside a busy worker")), table


def test_without_redis_nothing_is_measured(tmp_path: Path) -> None:
    """Without redis-server the benchmark measures nothing, and says what to install."""
    result = run(PATH=str(tmp_path))
    assert (result.returncode, result.stdout) == (2, "")
    assert "apt-get install redis-server" in result.stderr


def test_a_failover_is_measured_for_reads_and_writes() -> None:
    """S22: `make bench-failover` kills a member and has a row each for reads and writes elsewhere; all are right."""
    command = (sys.executable, str(ROOT / "bench" / "failover.py"), "--tries", "1", "--ways", "kill")
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=RUN_S_MAX)
    for what in ("read", "write"):
        found = numbers(result.stdout, rf"1 +{NUMBER} +{NUMBER} +{NUMBER} +{NUMBER}   ", f"kill, {what}")
        assert found[0] == 4 and 0 < found[1] <= found[3], result.stdout
    assert "0 answers were wrong" in result.stdout and "WRONG" not in result.stdout


def numbers(table: str, pattern: str, name: str) -> list[float]:
    """The numbers in the line of that name."""
    found = re.search(rf"^{re.escape(name)} +{pattern}", table, re.MULTILINE)
    assert found is not None, f"no line for {name}:\n{table}"
    return [float(value) for value in found.groups()]


@pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed: apt-get install redis-server"
)
def test_the_race_table_in_the_readme_is_what_is_printed() -> None:
    """`make races` asks every library every question, and each answer is the README's."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    result = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "races.py")],
        env=environ | {"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, timeout=RUN_S_MAX,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    printed = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert len(printed) > 10
    missing = [line for line in printed if line not in (ROOT / "README.md").read_text("utf-8").splitlines()]
    assert not missing, "\n".join(["not in README.md:", *missing])
