"""``understudy demo``: starts the members and the pages, says where they are, and ends everything at Ctrl-C."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
import threading
import time
from collections.abc import Sequence

from understudy.demo import check, places, processes
from understudy.demo.cluster import NAMES, Cluster
from understudy.demo.control import ControlPage
from understudy.demo.doors import HOST, free_ports, is_free
from understudy.errors import UnderstudyError

EXIT_OK, EXIT_FAILED, EXIT_CANNOT = 0, 1, 2
APPLICATION = "understudy.demo.shop:app"
PORT_MAX = 65_535
STARTED_LINE = "Starting members {names}, each an agent and gunicorn with two workers …"


class CannotRun(UnderstudyError):
    """The demo lacks something on this machine; the message says what, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until Ctrl-C or SIGTERM, or with ``--check`` until it is known whether all holds. Gives the exit code."""
    given = _parser().parse_args(arguments)
    try:
        _maybe_refuse()
        ports = _ports(given.port)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupted)
        return _check(ports) if given.check else _show(ports)
    except KeyboardInterrupt:
        return EXIT_OK if not given.check else EXIT_FAILED
    except (UnderstudyError, OSError) as error:
        print(f"understudy demo: {error}", file=sys.stderr)
        return EXIT_CANNOT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="understudy demo",
        description="Three members on this machine, a small shop on each, and a page with buttons that kill a member.",
        epilog="Exit code of --check: 0 when all held, 1 when something did not, 2 when it could not be run.",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="without a person: kill a member under load, count what is lost (must be 0), and end",
    )
    parser.add_argument(
        "--port",
        type=int,
        metavar="BASE",
        help=f"control page at BASE, shops at the {len(NAMES)} ports after it (default: free ones)",
    )
    return parser


def _maybe_refuse() -> None:
    missing = [name for name in ("flask", "gunicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotRun(f"{' and '.join(missing)} is not installed here; run: pip install 'understudy[demo]'")
    if not processes.is_supported():
        raise CannotRun("it finds the processes that it kills in /proc, which this system does not have; use Linux")


def _ports(base: int | None) -> list[int]:
    """The control page's and the shops'."""
    count = 1 + len(NAMES)
    if base is None:
        return free_ports(count)
    wanted = range(base, base + count)
    if base < 1 or wanted[-1] > PORT_MAX:
        raise CannotRun(f"--port {base}: it and the {count - 1} ports after it must be within 1 and {PORT_MAX}")
    if busy := [str(port) for port in wanted if not is_free(port)]:
        raise CannotRun(
            f"port {', '.join(busy)} of {HOST} is in use or not allowed; give another --port BASE, of which"
            f" {count} ports are free, or leave it out"
        )
    return list(wanted)


def _cluster(ports: list[int]) -> Cluster:
    control, shops = ports[0], dict(zip(NAMES, ports[1:], strict=True))
    urls = {name: f"http://{HOST}:{port}" for name, port in shops.items()}
    return Cluster(
        APPLICATION,
        NAMES,
        environment=places.variables(urls, f"http://{HOST}:{control}"),
        ports=list(shops.values()),
    )


def _check(ports: list[int]) -> int:
    with _cluster(ports) as cluster:
        try:
            report = check.run(cluster, _say)
        except UnderstudyError as error:
            # A member that does not start, or does not recover, is what the check is there to find.
            _say(f"NOT all held: {error}")
            return EXIT_FAILED
    return EXIT_OK if report.holds else EXIT_FAILED


def _show(ports: list[int]) -> int:
    with _cluster(ports) as cluster:
        _say(STARTED_LINE.format(names=", ".join(NAMES)))
        began_s = time.monotonic()
        cluster.start()
        cluster.wait_ready()
        page = ControlPage(cluster, ports[0], places.COOKIE_NAME)
        try:
            _say(_welcome(cluster, page, time.monotonic() - began_s))
            threading.Event().wait()
        except KeyboardInterrupt:
            # A second one while the members hand over ends the demo at once: closing the cluster kills what is left.
            _say("\nEnding: each member finishes its requests and hands over …")
            page.close()
            cluster.stop()
            _say("Ended. Nothing is left behind.")
    return EXIT_OK


def _welcome(cluster: Cluster, page: ControlPage, seconds: float) -> str:
    shops = "\n".join(f"    shop on {name}     {member.url}/" for name, member in cluster.members.items())
    first = next(iter(cluster.members.values()))
    return f"""\
Ready after {seconds:.1f} s. Open these in one browser:

{shops}
    control page  {page.url}/

Try this:
    1. Log in at {first.url}/ and put something into the cart.
    2. The three boxes show who is primary, backup and proxy for your session. Click another member's name:
       you are logged in there, too, with the same cart.
    3. Kill the primary on the control page (kill -9 of all its processes), and go on shopping on another member.
    4. Start it again: it comes back with its old store, and stands in as a copy.

Members' files and logs are in {cluster.base}. Ctrl-C ends everything."""


def _interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, flush=True)
