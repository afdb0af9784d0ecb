"""Starts and ends an agent: lock, log, store, network, socket, in this order, and back.

    0  ended cleanly, or another agent of this member runs already
    1  died of a broken invariant; the log has the traceback
    2  could not start or go on: configuration, name, address, store; the message says what to do

Nothing depends on a clean end: a killed agent leaves a lock that the kernel has given up, a socket that the next one
removes, and a store that is whole.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib.util
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from understudy import limits
from understudy.agent import files
from understudy.agent.arguments import MEMBER_OPTIONS, VARIABLES_HELP, add_options, flags_of
from understudy.agent.control import Control
from understudy.agent.executor import Executor
from understudy.agent.log import LOG_NAME, Journal, open_log
from understudy.agent.process import Agent, Life, NetworkFailed
from understudy.agent.status import own_version
from understudy.agent.takeover import Taken, chooser_of, first_id, give_back, open_store, take_over
from understudy.config import SOCKET_NAME, Config, agreed, load, open_directory, read_secrets
from understudy.config.parse import Address
from understudy.errors import AgentUnavailable, ConfigurationError, DirectoryError, UnderstudyError
from understudy.model.ids import Keys
from understudy.protocol.commands import Settings
from understudy.store.leases import LeaseBoard
from understudy.store.lmdb import LmdbStore
from understudy.transport import Peer, Transport
from understudy.transport.direct import DirectPaths
from understudy.transport.tls import TlsFiles
from understudy.transport.zenoh import ZenohTransport
from understudy.transport.zenoh_config import LINK_LEASE_MS

EXIT_OK, EXIT_DIED, EXIT_REFUSED = 0, 1, 2
LOCK_TRIES = 10
LOCK_TRY_S = 0.05
"""Others hold the lock for moments: an agent that is about to end, a worker that looks whether there is one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m understudy.agent``."""
    parser = argparse.ArgumentParser(
        prog="understudy agent",
        description="Run this member's agent until it is told to end (SIGTERM: hand over first; twice: at once).",
        epilog=VARIABLES_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--linger",
        action="store_true",
        dest="lingers",
        help="end when no worker has been attached for the time `linger`",
    )
    parser.add_argument(
        "--detach", action="store_true", help="outlive the terminal and whoever started it; say nothing"
    )
    parser.add_argument("--quiet", action="store_true", help="say only warnings on stderr; the log file has everything")
    # The duration of that name is not a flag here: --linger says that it applies at all.
    add_options(parser, [option for option in MEMBER_OPTIONS if option.name != "linger"])
    given = parser.parse_args(arguments)
    level = logging.WARNING if given.quiet else logging.INFO
    return run_agent(flags_of(given), Manner(given.lingers, given.detach, level))


class Manner(NamedTuple):
    """How an agent was started."""

    lingers: bool = False
    """It ends when no worker has been attached for a while: nobody else would end it."""
    detaches: bool = False
    terminal_level: int = logging.INFO
    """From where on the log goes to stderr too, unless it detaches."""


def run_agent(flags: Mapping[str, str], manner: Manner) -> int:
    """Be the agent of the member that file, environment and ``flags`` describe. Gives the exit code."""
    directory: Path | None = None
    try:
        config = load(flags=flags)
        if not config.clustered:
            raise ConfigurationError(
                "an agent has nothing to do here: neither `listen` nor `seeds` is given, so workers keep their sessions"
                ' in the store by themselves; set `listen = "HOST:PORT"` in [cluster] or UNDERSTUDY_LISTEN'
            )
        directory = open_directory(config)
        lock = _take_lock(directory)
        if lock is None:
            pid = files.agent_pid(directory)
            print(
                f"understudy: the agent of {config.member} is already running, pid {pid}; it goes on", file=sys.stderr
            )
            return EXIT_OK
        umask = os.umask(0o077)
        try:
            return _run_locked(config, directory, lock, manner)
        finally:
            lock.release()
            os.umask(umask)
    except UnderstudyError as error:
        # On stderr for a person, in the directory for the worker that waits for an agent.
        print(f"understudy: {error}", file=sys.stderr)
        if directory is not None:
            files.note_start_error(directory, str(error))
        return EXIT_REFUSED


def _run_locked(config: Config, directory: Path, lock: files.AgentLock, manner: Manner) -> int:
    try:
        lock.sign()
        logger = open_log(directory, terminal_level=None if manner.detaches else manner.terminal_level)
    except OSError as error:
        raise DirectoryError(f"directory {directory} cannot be written ({error.strerror}); free space on it") from error
    if manner.detaches:
        _detach(directory)
    with contextlib.suppress(OSError):  # not everybody may
        os.nice(-limits.AGENT_NICE)
    journal = Journal(config.member, logger)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_live(config, directory, journal, lingers=manner.lingers))
    except NetworkFailed as error:
        journal.fail("ended", f"{error}; a new agent takes over")
        print(f"understudy: {error}", file=sys.stderr, flush=True)
        logging.shutdown()
        os._exit(EXIT_DIED)  # at an ordinary exit the interpreter would wait for that library
    except UnderstudyError as error:
        journal.fail("ended", str(error))
        raise
    except Exception as error:
        # Its successor begins with a clean memory over the same store.
        logger.exception("died of a broken invariant")
        print(f"understudy: died of a broken invariant ({error!r}); see {directory / LOG_NAME}", file=sys.stderr)
        return EXIT_DIED
    finally:
        logging.shutdown()
    return EXIT_OK


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop where that is installed (the extra ``uvloop``): it does the same for less. Else asyncio's own."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return factory


async def _live(config: Config, directory: Path, journal: Journal, *, lingers: bool) -> None:
    """One life, from the store's opening to its closing. Raises: what ended it."""
    me = Peer(config.member, secrets.randbelow((1 << 63) - 1) + 1)
    link_keys = Keys.from_secrets(read_secrets(config, directory)).link_keys()
    transport = _transport(config, me, link_keys)
    store = open_store(config, directory)
    board: LeaseBoard | None = None
    try:
        taken = take_over(store, config.member, me.incarnation)
        board = LeaseBoard(directory, writable=True)
        board.reset()
        linger_s = config.linger_ms / 1000 if lingers else None
        life = Life(me, config.name, own_version(), taken.own_lives, linger_s)
        agent = Agent(life, store, journal)
        settings = _settings(config, me.incarnation, chooser_of(link_keys[0], *me), taken)
        executor = Executor(
            store,
            settings,
            send=agent.send,
            reply=agent.server.reply,
            publish=board.publish,
            tell=agent.tell,
            poisoned=taken.poisoned,
        )
        _say_start(journal, config, store, taken)
        expects_peers = config.multicast or any(seed != config.listen for seed in config.seeds)
        agent.heed_signals()
        agent.begin(executor, transport, taken.started(expects_peers))
        if await _serve(agent, transport, config, directory):
            give_back(store)
    finally:
        # zenoh's threads may keep an interpreter that ends without it for ever.
        transport.close()
        if board is not None:
            board.reset()
            board.close()
        store.close()
    journal.say("ended")


def _transport(config: Config, me: Peer, link_keys: tuple[bytes, ...]) -> Transport:
    tls = None
    if config.tls_cert is not None:
        assert config.tls_key is not None and config.tls_ca is not None
        tls = TlsFiles(config.tls_cert, config.tls_key, config.tls_ca, config.tls_verify_names)
    routed = ZenohTransport(
        cluster=config.name,
        me=me,
        listen=str(config.listen),
        seeds=[str(seed) for seed in config.seeds],
        link_keys=link_keys,
        multicast=config.multicast,
        tls=tls,
        link_lease_ms=max(LINK_LEASE_MS, config.lease_ms),
    )
    assert config.listen is not None
    listen = config.direct_listen or Address(config.listen.host, 0)
    return DirectPaths(routed, me=me, listen=listen, link_keys=link_keys, dials=config.direct, tls=tls)


async def _serve(agent: Agent, transport: Transport, config: Config, directory: Path) -> bool:
    """Open the network, then the socket; True after a clean end."""
    socket = directory / SOCKET_NAME
    try:
        transport.start(agent.inbox)
        await agent.server.start(socket)
        files.forget_start_error(directory)
        agent.journal.say("listening", f"members at {config.listen}, workers at {socket}")
        gc.collect()
        gc.freeze()  # what a start has made stays: the collector need not look at it again in the middle of a turn
        return await agent.serve()
    finally:
        agent.rest()
        await agent.server.close()
        transport.leave()


def _settings(config: Config, incarnation: int, chooser: int, taken: Taken) -> Settings:
    return Settings(
        member=config.member,
        incarnation=incarnation,
        chooser=chooser,
        copies=config.copies,
        everywhere=config.manager_class == "DeltaManager",
        placement=config.placement,
        zone=config.zone or "",
        members_expected=config.members_expected if config.partition == "refuse" else 0,
        move_after=config.move_after,
        lease_ms=config.lease_ms,
        dead_ms=config.dead_ms,
        claim_ms=config.claim_ms,
        backup_timeout_ms=config.backup_timeout_ms,
        commit_timeout_ms=config.commit_timeout_ms,
        sweep_delay_ms=config.sweep_delay_ms,
        cold_start_ms=config.cold_start_ms,
        drain_timeout_ms=limits.DRAIN_MS_MAX,
        lost_after_ms=config.lost_after_ms,
        forget_ms=config.forget_ms,
        patrol_ms=config.patrol_every_ms,
        grace_ms=config.rotation_grace_ms,
        bytes_max=config.session_bytes_max,
        first_id=first_id(incarnation),
        agreed=agreed(config),
        lives=taken.own_lives,
    )


def _say_start(journal: Journal, config: Config, store: LmdbStore, taken: Taken) -> None:
    journal.say("started", f"version {own_version()}, pid {os.getpid()}, cluster {config.name}")
    if store.set_aside is not None:
        journal.warn("store set aside", f"it was damaged when the machine went down; it is kept as {store.set_aside}")
    for key in sorted(taken.poisoned):
        journal.warn(
            "entry quarantined",
            f"{key.hex()}: agents died of it twice; `understudy check` tells what it is, others may hold it",
        )
    if taken.adopted:
        journal.say("entries adopted", f"{taken.adopted} were written here without an agent")


def _take_lock(directory: Path) -> files.AgentLock | None:
    """The lock, or None when another agent runs: one that answers, or one that keeps the lock."""
    for attempt in range(LOCK_TRIES):
        if attempt:
            time.sleep(LOCK_TRY_S)
        lock = files.AgentLock.take(directory)
        if lock is not None:
            return lock
        with contextlib.suppress(AgentUnavailable):
            Control(directory).close()
            return None
    return None


def _detach(directory: Path) -> None:
    """Outlive the worker that started us: no terminal, no descriptors of its own, no directory held."""
    with contextlib.suppress(PermissionError):  # we lead our process group already
        os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir(directory)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)
