"""Measures what sessions cost a page: requests per second and p99 under gunicorn, beside the libraries one would take.

    python bench/web_tax.py [--clients 1 8 64] [--rounds N] [--seconds S] [--json FILE]

All servers run at once, on one Redis; one at a time is under load. Every round measures each of them in a new order
for each number of clients and each mix, so that whatever else the machine does hits all alike.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import web_apps
from load_client import Order
from report import Meter, cpu_us, load, machine, quietness
from section import Claim, Plot, Section, Table, add_option, hand_over, series, table
from started import REDIS_SERVER, Started, StartError
from understudy.demo.doors import HOST
from web import BENCH, LoadClient, Summary, gunicorn, load_client, summary

CLIENTS = (1, 8, 64)
MIXES = {"read-only": 0.0, "90/10": 0.1, "50/50": 0.5}


class Subject(NamedTuple):
    """One server: who keeps the sessions, and of which framework."""

    name: str
    framework: str
    kind: str
    acknowledge: str = ""
    helpers: tuple[str, ...] = ()
    """Processes that work for its sessions."""


AGENTS, REDIS = ("agent a", "agent b"), ("redis",)
FLASK_NONE = Subject("Flask, no session", "Flask", web_apps.FLASK)
FLASK_LOCAL = Subject('Flask, Understudy, "local"', "Flask", web_apps.FLASK_OURS, "local", AGENTS)
FLASK_BACKUP = Subject('Flask, Understudy, "backup"', "Flask", web_apps.FLASK_OURS, "backup", AGENTS)
FLASK_COOKIE = Subject("Flask's signed cookie", "Flask", web_apps.FLASK_COOKIE)
FLASK_REDIS = Subject("Flask-Session on Redis", "Flask", web_apps.FLASK_SESSION, "", REDIS)
DJANGO_NONE = Subject("Django, no session", "Django", web_apps.DJANGO)
DJANGO_LOCAL = Subject('Django, Understudy, "local"', "Django", web_apps.DJANGO_OURS, "local", AGENTS)
DJANGO_BACKUP = Subject('Django, Understudy, "backup"', "Django", web_apps.DJANGO_OURS, "backup", AGENTS)
DJANGO_CACHE = Subject("Django's cache engine, Redis", "Django", "django-cache", "", REDIS)
DJANGO_CACHED = Subject("Django's cached_db, SQLite and Redis", "Django", "django-cached_db", "", REDIS)
DJANGO_DB = Subject("Django's db, SQLite", "Django", "django-db")
SUBJECTS = (
    FLASK_NONE, FLASK_LOCAL, FLASK_BACKUP, FLASK_COOKIE, FLASK_REDIS,
    DJANGO_NONE, DJANGO_LOCAL, DJANGO_BACKUP, DJANGO_CACHE, DJANGO_CACHED, DJANGO_DB,
)  # fmt: skip
BASES = {"Flask": FLASK_NONE, "Django": DJANGO_NONE}

Place = tuple[str, int, Subject]
"""Mix, number of clients, server."""


class Once(NamedTuple):
    """One measurement of one round."""

    summary: Summary
    cpu_us: float
    """Of the server and of what works for its sessions, for each request."""


Measured = dict[Place, list[Once]]


def main() -> int:
    parser = argparse.ArgumentParser(description="What sessions cost a page, under gunicorn.")
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS), help="at once (1 8 64)")
    parser.add_argument("--mixes", nargs="+", default=list(MIXES), choices=list(MIXES), help="all of them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each measurement (0.4)")
    add_option(parser)
    options = parser.parse_args()
    if shutil.which(REDIS_SERVER) is None:
        print("bench: redis-server is not installed: sudo apt-get install redis-server", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load_before = load()
    try:
        with Started() as started, load_client() as client:
            ports = _servers(started)
            meter = Meter()
            measured = _measure(started, client, ports, options)
            others = meter.others()
    except (StartError, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    run = (*machine(), f"load average: {load_before} before, {load()} after",
           quietness(others),
           f"run: {options.rounds} rounds, {options.seconds} s each; medians of the rounds")  # fmt: skip
    hand_over(_section(run, measured, others), options.json)
    return 0


def _servers(started: Started) -> dict[Subject, int]:
    """Each of them, with its port."""
    started.members()
    redis_url = f"redis://{HOST}:{started.redis_alone()}/0"
    database = started.directory("django") / "sessions.sqlite3"
    common = {"BENCH_REDIS_URL": redis_url, "BENCH_DATABASE": str(database)}
    _make_tables(database, common)
    ours = started.variables["a"]
    return {
        subject: gunicorn(
            started,
            f"web-{number}",
            subject.kind,
            {**common, **ours, "UNDERSTUDY_ACKNOWLEDGE": subject.acknowledge} if subject.acknowledge else common,
        )
        for number, subject in enumerate(SUBJECTS)
    }


def _make_tables(database: Path, variables: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-c", "import web_apps; web_apps.make_tables()"],
        env={**os.environ, **variables, "BENCH_KIND": "django-db"}, cwd=BENCH, check=True, timeout=60,
    )  # fmt: skip
    assert database.exists()


def _measure(started: Started, client: LoadClient, ports: dict[Subject, int], options: argparse.Namespace) -> Measured:
    measured: Measured = {}
    pids = {
        subject: [started.pids[name] for name in (f"web-{number}", *subject.helpers)]
        for number, subject in enumerate(SUBJECTS)
    }
    order = random.Random(1)
    for number in range(options.rounds + 1):
        for mix, clients in itertools.product(options.mixes, options.clients):
            for subject in order.sample(SUBJECTS, len(SUBJECTS)):
                if number == 0 and (mix, clients) != (options.mixes[-1], options.clients[-1]):
                    continue  # the first round warms everybody up, once
                before_us = cpu_us(pids[subject])
                found = client.run(Order((ports[subject],), clients, options.seconds, MIXES[mix], key=subject.name))
                spent_us = cpu_us(pids[subject]) - before_us
                if number > 0:
                    once = Once(summary(found), spent_us / max(1, found.answered))
                    measured.setdefault((mix, clients, subject), []).append(once)
        print(f"web_tax: round {number} of {options.rounds}", file=sys.stderr)
    return measured


# --- what it says ----------------------------------------------------------------------------------------------------


def _per_s(measured: Measured, place: Place) -> float:
    return statistics.median(one.summary.per_s for one in measured[place])


def _p99_ms(measured: Measured, place: Place) -> float:
    return statistics.median(one.summary.p99_ms for one in measured[place])


def _cpu_us(measured: Measured, place: Place) -> float:
    return statistics.median(one.cpu_us for one in measured[place])


def _ratio(measured: Measured, mix: str, clients: int, subject: Subject, beside: Subject) -> float:
    """Of requests per second: the median of the rounds' ratios, each of one moment of the machine."""
    pairs = zip(measured[mix, clients, subject], measured[mix, clients, beside], strict=True)
    return statistics.median(one.summary.per_s / other.summary.per_s for one, other in pairs if other.summary.per_s)


def _section(run: tuple[str, ...], measured: Measured, others: float) -> Section:
    mixes = list(dict.fromkeys(mix for mix, _, _ in measured))
    clients = list(dict.fromkeys(count for _, count, _ in measured))
    failed = sum(one.summary.failures for found in measured.values() for one in found)
    return Section(
        "web_tax",
        "Web tax",
        run,
        (
            "Requests per second of one small page, and the time that one request in a hundred exceeds, under gunicorn"
            " with two workers of eight threads. The client keeps its connections and has one request on each of them"
            " at a time; it takes a part of the same processors, the same for everybody. Sessions hold 1 kB. A read"
            " shows an attribute; a write adds one to a number. “No session” is the same page on a dictionary of its"
            " own.",
            "Redis is one process without a replica and without a file, so what it answers is on one machine, like"
            ' Understudy\'s `"local"`; under `"backup"` a write is on two before the answer leaves. A signed cookie'
            " is kept nowhere: it travels with each request, cannot be ended, and shows its content to its bearer."
            " SQLite writes ahead (WAL) and does not wait for the disk.",
            "The last columns: CPU time of the server and of all processes that work for its sessions (two agents, or"
            " redis), for each request. It leaves out waiting, and is what is left where a machine is not quiet.",
            f"Answers that were not 200: {failed}.",
        ),
        tuple(_tables(measured, mixes, clients)),
        tuple(_plots(measured, mixes, clients)),
        tuple(_claims(measured, mixes, clients)),
        tuple(_worse(measured, mixes, clients)),
        others,
    )  # fmt: skip


def _clients(count: int) -> str:
    return f"{count} client{'s' * (count > 1)}"


def _tables(measured: Measured, mixes: list[str], clients: list[int]) -> Iterable[Table]:
    for mix in mixes:
        yield table(
            f"{mix}: requests per second, p99 in ms, share of the page without session; CPU time in µs",
            (
                "",
                *(f"{what}, {_clients(count)}" for count in clients for what in ("/s", "p99", "share")),
                *(f"CPU, {_clients(count)}" for count in clients),
            ),
            [
                (
                    subject.name,
                    *(
                        value
                        for count in clients
                        for value in (
                            _per_s(measured, (mix, count, subject)),
                            _p99_ms(measured, (mix, count, subject)),
                            f"{_ratio(measured, mix, count, subject, BASES[subject.framework]):.0%}",
                        )
                    ),
                    *(_cpu_us(measured, (mix, count, subject)) for count in clients),
                )
                for subject in SUBJECTS
            ],
        )


def _plots(measured: Measured, mixes: list[str], clients: list[int]) -> Iterable[Plot]:
    mix = mixes[-1]
    for framework in BASES:
        yield Plot(
            f"web-{framework.lower()}", f"{framework}, {mix}: requests per second", "clients", "requests per second",
            tuple(
                series(subject.name.removeprefix(f"{framework}, "), [
                    (count, _per_s(measured, (mix, count, subject))) for count in clients])
                for subject in SUBJECTS
                if subject.framework == framework
            ),
            log_x=True,
        )  # fmt: skip


def _claims(measured: Measured, mixes: list[str], clients: list[int]) -> Iterable[Claim]:
    if "50/50" not in mixes:
        return
    for beside, wanted in ((FLASK_NONE, 0.9), (FLASK_COOKIE, 1.0), (FLASK_REDIS, 1.3)):
        for count in clients:
            yield Claim(
                f'50/50, {_clients(count)}: Flask with Understudy, "local", beside {beside.name}',
                _ratio(measured, "50/50", count, FLASK_LOCAL, beside), wanted, "× as many requests a second",
                at_least=True, target="page",
            )  # fmt: skip


def _worse(measured: Measured, mixes: list[str], clients: list[int]) -> Iterable[str]:
    """Each library that serves more, by more than measurements scatter."""
    for subject in (FLASK_LOCAL, FLASK_BACKUP, DJANGO_LOCAL, DJANGO_BACKUP):
        for beside in SUBJECTS:
            if beside.framework != subject.framework or beside.acknowledge or beside is BASES[beside.framework]:
                continue
            lower = [
                f"{ratio:.2f} × with {mix} and {_clients(count)}"
                for mix, count in itertools.product(mixes, clients)
                if (ratio := _ratio(measured, mix, count, subject, beside)) < 0.98
            ]
            if lower:
                yield f"{subject.name} serves fewer requests than {beside.name}: {', '.join(lower)}"


if __name__ == "__main__":
    sys.exit(main())
