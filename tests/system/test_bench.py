"""The benchmark runs, measures what its table says, and refuses to run without what it compares with."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.patience import TEST_S_MAX

ROOT = Path(__file__).resolve().parents[2]
RUN = (sys.executable, str(ROOT / "bench" / "request_path.py"))
THEIRS = ("redis GET", "redis SET", "redis SET + WAIT 1", "redis SET, WAIT 1 in a pipeline")
OURS = {
    "clean read": "redis GET",
    "clean read, whole request": "redis GET",
    "clean read, a new browser's first": "redis GET",
    'write, "none"': "redis SET",
    'write, "local"': "redis SET",
    'write, "backup"': "redis SET + WAIT 1",
    "read on a proxy": "redis GET",
    "write on a proxy": "redis SET + WAIT 1",
    "create": "redis SET + WAIT 1",
    "delete": "redis SET + WAIT 1",
    'write, "backup", same times': "redis SET, WAIT 1 in a pipeline",
}
NUMBER = r"(\d+(?:\.\d+)?)"


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    environ |= {"PYTHONPATH": str(ROOT / "src"), **variables}
    return subprocess.run([*RUN, *arguments], env=environ, capture_output=True, text=True, timeout=TEST_S_MAX)


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
            assert all(value > 0 for value in found[:3]), table  # a ratio of a busy machine may round to nothing
    assert "of 12 reads" in result.stdout


def test_a_busy_neighbour_is_measured_beside_a_stranger() -> None:
    """S50: what a busy worker costs another is given as the ratio to the same threads in a process without sessions,
    for reads and writes, with an agent and without.
    """
    command = (sys.executable, str(ROOT / "bench" / "neighbours.py"), "--rounds", "1", "--count", "3")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    environ |= {"PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=TEST_S_MAX)
    assert result.returncode == 0, result.stderr
    _, *tables = result.stdout.split("\n\n")
    assert [table.partition(" ")[0] for table in tables] == ["with", "LocalManager;"]
    for table in tables:
        for name in ("read", "write"):
            pattern = (
                rf"{NUMBER} +{NUMBER} +3 +{NUMBER} +\({NUMBER} to {NUMBER}\) +{NUMBER} +{name}, beside a stranger$"
            )
            assert all(value > 0 for value in numbers(table, pattern, f"{name}, beside a busy worker")), table


def test_the_cost_of_a_write_is_counted_for_each_process() -> None:
    """A protected write is two transactions at the primary and one at the backup, and costs every process something;
    the agents' own code, looked at in one process, takes three turns and has a time for each part.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    environ |= {"PYTHONPATH": str(ROOT / "src")}
    given = {}
    for script in ("write_cost.py", "write_parts.py"):
        command = (sys.executable, str(ROOT / "bench" / script), "--writes", "200")
        result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=TEST_S_MAX)
        assert result.returncode == 0, result.stderr
        given[script] = result.stdout
    for process, transactions in (("worker", 0), ("agent a", 2), ("agent b", 1)):
        cpu_us, wakeups, counted = numbers(given["write_cost.py"], rf"{NUMBER} +{NUMBER} +{NUMBER} ", process)
        assert cpu_us > 0 and wakeups > 0 and transactions <= counted < transactions + 0.5
    assert "2.00 turns at the primary, 1.00 at the backup" in given["write_parts.py"]
    parts = [
        float(us) for us in re.findall(rf"^    [a-z ]+: [a-z/]+ +{NUMBER} µs$", given["write_parts.py"], re.MULTILINE)
    ]
    assert len(parts) == 4 and sum(parts) > 0, given[
        "write_parts.py"
    ]  # of few writes one may take no time that is seen


def test_the_parts_of_re_protection_are_measured() -> None:
    """S36: 200 sessions lose their second copy and get another one, many in a turn; both agents' times are told."""
    command = (sys.executable, str(ROOT / "bench" / "reprotection_parts.py"), "--sessions", "200")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    environ |= {"PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=TEST_S_MAX)
    assert result.returncode == 0, result.stderr
    for where in ("at the primary's agent:", "at the new holder's:"):
        took_us, in_a_turn = numbers(result.stdout, rf"{NUMBER} µs, {NUMBER} in a turn", where)
        assert took_us > 0 and in_a_turn > 4


def test_without_redis_nothing_is_measured(tmp_path: Path) -> None:
    """Without redis-server the benchmark measures nothing, and says what to install."""
    result = run(PATH=str(tmp_path))
    assert (result.returncode, result.stdout) == (2, "")
    assert "apt-get install redis-server" in result.stderr


def test_a_failover_is_measured_for_reads_and_writes() -> None:
    """S22: `make bench-failover` kills a member and has a row each for reads and writes elsewhere; all are right."""
    command = (sys.executable, str(ROOT / "bench" / "failover.py"), "--tries", "1", "--ways", "kill")
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=TEST_S_MAX)
    for what in ("read", "write"):
        found = numbers(result.stdout, rf"1 +{NUMBER} +{NUMBER} +{NUMBER} +{NUMBER}   ", f"kill, {what}")
        assert found[0] == 4 and 0 < found[1] <= found[3], result.stdout
    assert "0 answers were wrong" in result.stdout and "WRONG" not in result.stdout


def section(tmp_path: Path, file: str, *arguments: str) -> dict[str, Any]:
    """What a benchmark hands over for the page."""
    path = tmp_path / "section.json"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    result = subprocess.run(
        [sys.executable, str(ROOT / "bench" / file), *arguments, "--json", str(path)],
        env=environ | {"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, timeout=TEST_S_MAX,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def rows(found: dict[str, Any], title: str) -> dict[str, list[Any]]:
    """The rows of one table by their names."""
    table = next(table for table in found["tables"] if table["title"].startswith(title))
    return {row[0]: row[1:] for row in table["rows"]}


def test_growth_is_counted_and_compared_with_its_model(tmp_path: Path) -> None:
    """Simulated clusters of several sizes have a row for each operation, and messages are as the formulas say."""
    found = section(tmp_path, "growth.py", "--members", "3", "5")
    create, read = (rows(found, "round-robin")[name] for name in ("create", "read"))
    assert (create[0], create[2], create[5], read[0]) == (3, 5, "0%", 0)
    assert rows(found, "DeltaManager")["write"][2] > rows(found, "rendezvous")["write"][2] == 2
    assert rows(found, "What a member's coming")["rendezvous: a member dies"][0] > 0
    assert {plot["name"] for plot in found["plots"]} >= {"growth-create", "growth-memory"}


def probe(code: str) -> subprocess.CompletedProcess[str]:
    """Python in which the benchmarks' modules can be imported."""
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'bench'}"}
    return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=TEST_S_MAX)


def skip_where_nothing_is_apart() -> None:
    """Machines at a distance need root, and a kernel that has TUN devices."""
    if reason := probe("import distance; print(distance.why_not() or '')").stdout.strip():
        pytest.skip(reason)


DISTANCE_PROBE = """
import os, socket, subprocess, sys, threading, time
from distance import Distance

BYTES, DELAY_S = 3_000_000, 0.004
with Distance(("here", "there"), DELAY_S * 1000) as distance:
    place = distance.places()["there"]
    echo = (
        "import socket; s = socket.create_server((%r, 7000)); print('up', flush=True); c, _ = s.accept()\\n"
        "while data := c.recv(65536): c.sendall(data)"
    ) % place.host
    server = subprocess.Popen([*place.enter, sys.executable, "-c", echo], stdout=subprocess.PIPE)
    try:
        assert server.stdout.readline() == b"up\\n"
        distance.enter("here")
        began_s = time.monotonic()
        connection = socket.create_connection((place.host, 7000), 20)
        assert time.monotonic() - began_s >= 2 * DELAY_S, "there and back"
        sent, received = os.urandom(BYTES), bytearray()
        threading.Thread(target=connection.sendall, args=(sent,), daemon=True).start()
        while len(received) < BYTES:
            received += connection.recv(65536)
        assert received == sent
    finally:
        server.kill()
assert not os.path.exists(place.enter[1].partition("=")[2])
"""


def test_machines_are_some_time_apart() -> None:
    """What is sent to another machine comes later, and whole; nothing is left of the machines afterwards."""
    skip_where_nothing_is_apart()
    result = probe(DISTANCE_PROBE)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed: apt-get install redis-server"
)
def test_a_path_over_a_distance_takes_the_ways_that_it_must(tmp_path: Path) -> None:
    """With 5 ms each way a protected write takes one way to the copy and one back, redis' SET and WAIT three times as
    many, and what is read in place none.

    (Once a second redis' replica acknowledges unasked, which shortens a WAIT that is under way, but not the median.)
    """
    skip_where_nothing_is_apart()
    found = section(tmp_path, "apart.py", "--delay-ms", "5", "--rounds", "1", "--count", "5")
    for size in (190, 1000):
        medians_us = {name: row[0] for name, row in rows(found, f"Sessions of {size}").items()}
        assert set(medians_us) == {*THEIRS, *OURS}
        ways_ms = {"redis GET": 10, "redis SET + WAIT 1": 30, 'write, "backup"': 10, "read on a proxy": 10}
        for name, at_least_ms in ways_ms.items():
            assert medians_us[name] >= 1_000 * at_least_ms, (name, medians_us)
        assert medians_us["clean read"] > 0


def test_a_hop_is_measured_among_more_and_more_members(tmp_path: Path) -> None:
    """Reads and writes at the primary and at another member have a row for each size of the cluster."""
    found = section(tmp_path, "hops.py", "--members", "3", "4", "--rounds", "1", "--count", "4")
    measured = rows(found, "A request where the primary is")
    assert set(measured) == {f"{n}, {kind}" for n in (3, 4) for kind in ("read", "write")}
    assert all(here > 0 and elsewhere > 0 for here, elsewhere, *_ in measured.values()), measured


def test_a_full_store_is_filled_three_times_and_started_over(tmp_path: Path) -> None:
    """`make bench-million` (here with fewer) fills, expires and fills again, looks sessions up, and starts an agent."""
    found = section(tmp_path, "million.py", "--sessions", "2000")
    steps = rows(found, "Filled, expired")
    assert [steps[name][0] for name in ("empty", "filled", "all expired", "filled a third time")] == [0, 2000, 0, 2000]
    assert steps["filled"][5] > 0 and steps["all expired"][5] is None
    assert all(ready_ms > 0 for ready_ms, _ in rows(found, "Start of an agent").values())


def test_a_store_is_measured_under_workers_and_filled_again(tmp_path: Path) -> None:
    """S50: the store's benchmark measures one of several workers, and tells whether a store that was filled, emptied
    and filled again grew.
    """
    found = section(tmp_path, "store.py", "--sessions", "2000", "--seconds", "0.05", "--workers", "1", "3")
    workers = rows(found, "One of so many workers, LocalManager")
    assert set(workers) >= {"1, all at their pace", "3, two of them compute", "3, beside strangers that compute"}
    assert all(figure > 0 for row in workers.values() for figure in row)
    filled = rows(found, "Filled, expired")
    assert [filled[name][0] for name in ("empty", "filled", "all expired", "filled a third time")] == [0, 2000, 0, 2000]
    assert any("filling three times" in claim["what"] for claim in found["claims"])


@pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed: apt-get install redis-server"
)
def test_the_tax_on_a_page_is_measured_beside_other_libraries(tmp_path: Path) -> None:
    """Every library serves the page, reads and writes, without an error; each has requests a second and CPU time."""
    found = section(tmp_path, "web_tax.py", "--rounds", "1", "--seconds", "0.1", "--clients", "2", "--mixes", "50/50")
    table = rows(found, "50/50")
    assert len(table) == 11 and {"Flask-Session on Redis", "Django's cached_db, SQLite and Redis"} <= set(table)
    assert all(row[0] > 0 and row[1] > 0 and row[3] > 0 for row in table.values()), table
    assert "Answers that were not 200: 0." in found["prose"]


def test_protection_after_a_loss_is_measured(tmp_path: Path) -> None:
    """S36: the time until every session has its second copy again is told, beside what requests took meanwhile."""
    found = section(tmp_path, "reprotection.py", "--sessions", "300")
    times = rows(found, "Time until")
    assert all(seconds > 0 for seconds, _ in times.values())
    requests = rows(found, "A worker's requests")
    assert all(count > 0 for count, *_ in requests.values()), requests
    assert "Requests that failed: 0." in found["prose"][1]


def test_the_agent_is_measured_by_itself(tmp_path: Path) -> None:
    """Commits at once cost each process some CPU time, an agent takes memory, and importing an adapter takes time."""
    found = section(tmp_path, "agent.py", "--seconds", "0.3")
    assert all(spent_us > 0 for spent_us, _ in rows(found, "Protected commits").values())
    assert all(claim["measured"] > 0 for claim in found["claims"])


def test_without_tomcat_nothing_is_measured(tmp_path: Path) -> None:
    """Where Tomcat (or the network that it is put in) cannot be had, its benchmark says what to install."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PATH": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "beside_tomcat.py")],
        env=environ, capture_output=True, text=True, timeout=TEST_S_MAX,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (2, "")
    assert "apt-get install tomcat10" in result.stderr


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
        env=environ | {"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, timeout=TEST_S_MAX,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    printed = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert len(printed) > 10
    missing = [line for line in printed if line not in (ROOT / "README.md").read_text("utf-8").splitlines()]
    assert not missing, "\n".join(["not in README.md:", *missing])
