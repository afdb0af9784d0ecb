"""The command line ``understudy``: which subcommands there are, and how errors end.

Exit codes: 0 yes or done; 1 no (not ready, unknown key, problems found, not drained); 2 wrong usage or configuration,
with a message that says what to do. ``run`` gives its command's code.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence

from understudy.agent.arguments import MEMBER_OPTIONS, VARIABLES_HELP, add_options, flags_of, options_named
from understudy.agent.status import own_version
from understudy.cli.balancer import KINDS
from understudy.errors import UnderstudyError

EXIT_OK, EXIT_NO, EXIT_WRONG = 0, 1, 2

DESCRIPTION = "HTTP sessions in the memory of the machines that serve them, with a copy on a second one."
WHERE = ("name", "member", "listen", "seeds")
"""Options by which a tool finds the member whose directory it looks into."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; gives the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(given)
    except UnderstudyError as error:
        print(f"understudy: {error}", file=sys.stderr)
        return EXIT_WRONG
    except BrokenPipeError:
        # Whoever read our output has enough of it; the interpreter must not complain at its end.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_OK
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _dispatch(given: list[str]) -> int:
    if given[:1] == ["agent"]:
        from understudy.agent.main import main as agent_main

        return agent_main(given[1:])
    if given[:1] == ["demo"]:
        return _demo(given[1:])
    if given[:1] == ["simulate"]:
        from understudy.sim.main import main as simulate_main

        return simulate_main(given[1:])
    command: list[str] | None = None
    if given[:1] == ["run"] and "--" in given:
        # By hand: argparse of different Pythons disagrees about what "--" means below a subcommand.
        cut = given.index("--")
        given, command = given[:cut], given[cut + 1 :]
    parser = _parser()
    found = parser.parse_args(given)
    if found.handler is None:
        parser.print_help()
        return EXIT_WRONG
    if found.handler is _run:
        found.command = command
    handler: Callable[[argparse.Namespace], int] = found.handler
    return handler(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="understudy",
        description=DESCRIPTION,
        epilog=VARIABLES_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"understudy {own_version()}")
    parser.set_defaults(handler=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, handler: Callable[[argparse.Namespace], int], text: str, usage: str | None = None) -> _Parser:
        added = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            usage=usage,
            epilog=VARIABLES_HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(handler=handler)
        return added

    run = add("run", _run, "run a command beside this member's agent", "understudy run [options] -- COMMAND …")
    add_options(run, MEMBER_OPTIONS)
    commands.add_parser("agent", help="run this member's agent alone", add_help=False)
    status = add("status", _status, "show members, their standing, and sessions by role")
    status.add_argument("--json", action="store_true", help="the whole document, for programs")
    locate = add("locate", _locate, "say where a session is: its role here, its primary, its backups")
    locate.add_argument(
        "what", metavar="COOKIE_OR_KEY", help="value of a session cookie, or a key of 32 hex digits; - reads it"
    )
    locate.add_argument("--json", action="store_true", help="for programs")
    drain = add(
        "drain", _drain, "have the agent hand over every session, then end; exit code 0 when all was handed over"
    )
    ready = add("ready", _ready, "exit with 0 if this member is ready, else with 1")
    check = add("check", _check, "verify the whole store; exit with 1 if anything is wrong")
    doctor = add("doctor", _doctor, "show each setting with where it came from, and what stands in the way")
    for tool in (status, drain, ready, check):
        add_options(tool, options_named(*WHERE))
    add_options(locate, options_named(*WHERE, "secret_file", "application"))
    add_options(doctor, MEMBER_OPTIONS)
    _balancer_arguments(add("balancer", _balancer, "print a load balancer's configuration for the members"))
    commands.add_parser("demo", help="a cluster of three members on this machine, with a shop to click", add_help=False)
    commands.add_parser("simulate", help="random histories of a small cluster, from seeds", add_help=False)
    return parser


_Parser = argparse.ArgumentParser


def _balancer_arguments(balancer: _Parser) -> None:
    balancer.add_argument("kind", choices=sorted(KINDS), help="which balancer")
    balancer.add_argument(
        "members",
        metavar="NAME=HOST:PORT",
        nargs="*",
        help="each member's name and its web server; none: those that the agent here sees, at hosts of their names",
    )
    balancer.add_argument("--bind", metavar="HOST:PORT", default="0.0.0.0:80", help="where it listens [%(default)s]")
    balancer.add_argument("--port", default="8000", help="of members that are not named here [%(default)s]")
    balancer.add_argument(
        "--check",
        metavar="PATH",
        default="",
        help="what answers 2xx while a member is ready [none: it can be connected]",
    )
    add_options(balancer, options_named(*WHERE, "cookie_name"))


def _run(given: argparse.Namespace) -> int:
    from understudy.agent.supervise import run

    if not given.command:
        print("understudy run: no command; write it after `--`: understudy run -- gunicorn app:app", file=sys.stderr)
        return EXIT_WRONG
    return run(flags_of(given), given.command)


def _status(given: argparse.Namespace) -> int:
    from understudy.cli.tools import status

    return status(flags_of(given), as_json=given.json)


def _locate(given: argparse.Namespace) -> int:
    from understudy.cli.tools import locate

    what = sys.stdin.readline() if given.what == "-" else given.what
    return locate(flags_of(given), what.strip(), as_json=given.json)


def _drain(given: argparse.Namespace) -> int:
    from understudy.cli.tools import drain

    return drain(flags_of(given))


def _ready(given: argparse.Namespace) -> int:
    from understudy.cli.tools import ready

    return ready(flags_of(given))


def _check(given: argparse.Namespace) -> int:
    from understudy.cli.tools import check_store

    return check_store(flags_of(given))


def _doctor(given: argparse.Namespace) -> int:
    from understudy.cli.doctor import doctor

    return doctor(flags_of(given))


def _balancer(given: argparse.Namespace) -> int:
    from understudy.cli.tools import balancer

    return balancer(
        flags_of(given), given.kind, given.members, bind=given.bind, check_path=given.check, port=given.port
    )


def _demo(arguments: Sequence[str]) -> int:
    try:
        from understudy.demo import main as demo_main
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("understudy"):
            raise
        print(
            f"understudy demo: the library {error.name!r} is not installed; run `pip install 'understudy[demo]'`",
            file=sys.stderr,
        )
        return EXIT_WRONG
    return demo_main(list(arguments))
