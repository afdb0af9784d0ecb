"""``understudy run``: the agent first, then the command; the command stops first, then the agent hands over and ends.

The agent is in a process group of its own, so that Ctrl-C reaches the command and not it. It is started so that it
would end by itself without workers, and this process holds one connection to it: should this process be killed, no
agent stays behind without workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from understudy import limits
from understudy.agent import files
from understudy.agent.arguments import as_variables
from understudy.agent.control import Control
from understudy.agent.socket import SUPERVISOR
from understudy.config import Config, load, open_directory, read_secrets
from understudy.errors import AgentUnavailable, UnderstudyError

AGENT = (sys.executable, "-m", "understudy.agent", "--linger", "--quiet")
AGENT_ANSWERS_S = 60.0
"""How long a new agent may take until its socket answers; a store that must be verified after a crash takes longer."""
READY_S_MORE = 30.0
"""Beyond ``cold_start``: how long the command is held back until the member is ready. Its agent's start alone takes
some seconds where other starts keep the machine busy."""
POLL_S = 0.05
AGAIN_S = (0.2, 5.0)
"""First and longest pause before an agent that ended is started again; doubled each time it ends young."""
YOUNG_S = 10.0
DRAIN_S = limits.DRAIN_MS_MAX / 1000 + 5
EXIT_NOT_FOUND, EXIT_NOT_EXECUTABLE, EXIT_SIGNAL = 127, 126, 128
"""As shells say it."""


class Refused(Exception):
    """The agent ended at its start with this exit code; it has said why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run(flags: Mapping[str, str], command: Sequence[str]) -> int:
    """Run ``command`` beside this member's agent; without a cluster alone. Gives the command's exit code.

    Raises: UnderstudyError for what is wrong with configuration, secret or directory, before anything is started.
    """
    config = load(flags=flags)
    environ = {**os.environ, **as_variables(flags)}
    supervisor = Supervisor(config, environ)
    if config.clustered:
        directory = open_directory(config)
        read_secrets(config, directory)
        supervisor.directory = directory
    else:
        _say("no `listen` and no `seeds`: sessions stay on this machine, and no agent is needed")
    return asyncio.run(supervisor.run(command))


class Supervisor:
    """The two processes of one member, as far as ``understudy run`` has started them."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self.directory: Path | None = None
        """The member's; None when there is no agent to look after."""
        self._config = config
        self._environ = dict(environ)
        self._command: asyncio.subprocess.Process | None = None
        self._agent: asyncio.subprocess.Process | None = None
        self._held: Control | None = None
        self._signals = 0
        self._is_ending = False
        self._stopping = asyncio.Event()

    async def run(self, command: Sequence[str]) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)  # to gunicorn it means: reload
        keeper: asyncio.Task[None] | None = None
        try:
            if self.directory is not None:
                await self._first_agent()
                keeper = asyncio.create_task(self._keep_agent())
            return EXIT_SIGNAL + signal.SIGTERM if self._stopping.is_set() else await self._run_command(command)
        except Refused as refused:
            return refused.code
        finally:
            if keeper is not None:
                keeper.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await keeper
            await self._end_agent()

    # --- the command --------------------------------------------------------------------------------------------------

    async def _run_command(self, command: Sequence[str]) -> int:
        try:
            process = await asyncio.create_subprocess_exec(*command, env=self._environ)
        except FileNotFoundError:
            _say(f"there is no command {command[0]!r}; write it after `--`, as one that the shell would find")
            return EXIT_NOT_FOUND
        except OSError as error:
            _say(f"the command {command[0]!r} cannot be started ({error.strerror})")
            return EXIT_NOT_EXECUTABLE
        self._command = process
        if self._stopping.is_set():
            self._pass_on(signal.SIGTERM)
        ended = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        try:
            code = await asyncio.wait_for(ended, None if ended.done() else limits.COMMAND_STOP_MS_MAX / 1000)
        except TimeoutError:
            _say(f"the command did not end within {limits.COMMAND_STOP_MS_MAX // 1000} s; it is killed")
            self._kill_command()
            code = await process.wait()
        return code if code >= 0 else EXIT_SIGNAL - code

    def _signalled(self, number: int) -> None:
        """First: let the command end. Again: at once."""
        self._signals += 1
        self._stopping.set()
        if self._signals > 1:
            self._kill_command()
            if self._is_ending and self._agent is not None:
                _send(self._agent, signal.SIGTERM)
        elif not (number == signal.SIGINT and _is_foreground()):
            self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: signal.Signals) -> None:
        if self._command is not None:
            _send(self._command, number)

    def _kill_command(self) -> None:
        """And all that it has started: workers that nobody looks after would serve on, and start an agent again."""
        if self._command is not None and self._command.returncode is None:
            for pid in _with_descendants(self._command.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    # --- the agent ----------------------------------------------------------------------------------------------------

    async def _first_agent(self) -> None:
        """Start the agent and wait until the member is ready, or a while. Raises: Refused."""
        give_up_s = time.monotonic() + self._config.cold_start_ms / 1000 + READY_S_MORE
        while not self._stopping.is_set():
            if self._held is None:
                await self._start_agent()
            if await asyncio.to_thread(self._is_ready):
                return
            if time.monotonic() > give_up_s:
                _say(
                    "the member is not ready yet (`understudy status` tells more); the command is started all the same"
                )
                return
            await asyncio.sleep(POLL_S)

    async def _start_agent(self) -> None:
        """Start an agent and attach to it, or to one that runs already. Raises: Refused."""
        if self._agent is None or self._agent.returncode is not None:
            self._agent = await asyncio.create_subprocess_exec(
                *AGENT, env=self._environ, stdin=asyncio.subprocess.DEVNULL, process_group=0
            )
        give_up_s = time.monotonic() + AGENT_ANSWERS_S
        while not await asyncio.to_thread(self._attach):
            code = self._agent.returncode
            if code:
                raise Refused(code)
            if time.monotonic() > give_up_s:
                _say(f"no agent answers after {AGENT_ANSWERS_S:.0f} s; its log is in {self.directory}")
                return
            await asyncio.sleep(POLL_S)

    async def _keep_agent(self) -> None:
        """Start the agent again whenever it ends; a worker may be quicker, then its agent is ours."""
        pause_s = AGAIN_S[0]
        while True:
            began_s = time.monotonic()
            await self._held_ends()
            self._let_go()
            if time.monotonic() - began_s > YOUNG_S:
                pause_s = AGAIN_S[0]
            _say(f"the agent has ended; it is started again in {pause_s:.1f} s")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, AGAIN_S[1])
            with contextlib.suppress(Refused):
                await self._start_agent()

    async def _held_ends(self) -> None:
        """Wait for the end of the agent that we are attached to: it sends nothing that we did not ask for."""
        held, loop = self._held, asyncio.get_running_loop()
        if held is None:
            return
        ended = asyncio.Event()
        loop.add_reader(held.fileno(), ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(held.fileno())

    async def _end_agent(self) -> None:
        """Have whichever agent is there hand over and end; then make sure that ours is gone."""
        if self.directory is None:
            return
        self._is_ending = True
        agent = self._agent
        if self._signals < 2:
            await asyncio.to_thread(self._drain)
        self._let_go()
        if agent is None or agent.returncode is not None:
            return
        drained_s = DRAIN_S if self._signals < 2 else 1.0
        for number, patience_s in (
            (None, 1.0),
            (signal.SIGTERM, drained_s),
            (signal.SIGTERM, 2.0),
            (signal.SIGKILL, None),
        ):
            if number is not None:
                _send(agent, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(agent.wait(), patience_s)
                return

    def _attach(self) -> bool:
        assert self.directory is not None
        try:
            self._held = Control(self.directory, kind=SUPERVISOR)
        except AgentUnavailable:
            return False
        return True

    def _is_ready(self) -> bool:
        try:
            return self._held is not None and bool(self._held.ask("status").get("ready"))
        except AgentUnavailable:
            self._let_go()
            return False

    def _drain(self) -> None:
        assert self.directory is not None
        try:
            with Control(self.directory) as control:
                answer = control.ask("drain", timeout_s=DRAIN_S)
                if not answer.get("drained"):
                    _say(f"not everything was handed over: {answer.get('detail', '')}")
                control.wait_for_end(2.0)
        except UnderstudyError as error:
            if files.agent_pid(self.directory) is not None:
                _say(f"the agent could not be asked to hand over: {error}")

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


def _with_descendants(pid: int) -> Iterator[int]:
    """The process, then those below it. What a thread but the first has started, and other systems, are not seen."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        below = []
    yield pid
    for child in below:
        yield from _with_descendants(int(child))


def _is_foreground() -> bool:
    """True when a Ctrl-C at the terminal has reached the command too."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _say(message: str) -> None:
    print(f"understudy run: {message}", file=sys.stderr, flush=True)
