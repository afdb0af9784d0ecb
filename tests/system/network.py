"""Gives members a network of their own that can be cut: a kernel namespace each, joined by cables to a switch.

Nothing has a name in the machine's own network: a namespace lives as long as the processes in it, first of all a
*keeper* that ends when its input does, which the death of the test closes, too. Addresses are those set aside for
testing devices (RFC 2544); no packet can leave.

Cuts are made by ``iptables`` in the namespace of who shall not hear: a dropped packet is as silent as a cut cable. Web
servers are behind Unix sockets (``Place``), so that visitors reach every member whatever is cut.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator

from tests.patience import PATIENCE_S

from understudy.demo.cluster import Place

ADDRESS = "198.18.0.{}"
PREFIX_BITS = 24
TOOLS = ("ip", "nsenter", "unshare")
FILTERS = ("iptables", "iptables-legacy")
"""The first that works is used: whether a kernel has the tables of the one or of the other differs."""


class Network:
    """One cable each from these members to a switch. Use it as a context: at its end, or ours, nothing is left."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._hosts = {name: ADDRESS.format(number) for number, name in enumerate(self.names, 1)}
        self._deaf: set[tuple[str, str]] = set()
        """(hearer, speaker) of what is cut."""
        self._changing = threading.Lock()
        self._filter = ""
        self._keepers: dict[str, subprocess.Popen[bytes]] = {}
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._switch = self._keep()
            self._in(self._switch, "ip", "link", "add", "switch", "type", "bridge")
            self._in(self._switch, "ip", "link", "set", "switch", "up")
            for name in self.names:
                self._keepers[name] = self._keep()
                self._connect(name)
            self._filter = next(one for one in FILTERS if self._works(one))
            undo.pop_all()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def filter(self) -> str:
        """The command that drops packets."""
        return self._filter

    def places(self) -> dict[str, Place]:
        """Where each member's processes belong."""
        return {name: Place(self._hosts[name], self._entering(keeper)) for name, keeper in self._keepers.items()}

    def close(self) -> None:
        """Ends the keepers; the kernel removes each namespace, its cable and its rules when its last process ends."""
        for keeper in (*self._keepers.values(), *([self._switch] if hasattr(self, "_switch") else [])):
            assert keeper.stdin is not None and keeper.stdout is not None
            keeper.stdin.close()
            keeper.stdout.close()
            keeper.wait()
        self._keepers.clear()

    # --- what is cut ------------------------------------------------------------------------------------------------

    def cut(self, one: str, other: str) -> None:
        """Neither hears the other; a third one hears both."""
        self._change(self._deaf | {(one, other), (other, one)})

    def deafen(self, hearer: str, speaker: str) -> None:
        """A one-way cut: nothing that ``speaker`` sends arrives at ``hearer``; all else does."""
        self._change(self._deaf | {(hearer, speaker)})

    def isolate(self, name: str) -> None:
        """Nothing arrives at this member, and nothing of it anywhere."""
        self.split((name,))

    def split(self, side: Iterable[str]) -> None:
        """Neither of these members hears one of the others, nor the other way round."""
        here = set(side)
        pairs = {(one, other) for one in here for other in self.names if other not in here}
        self._change(self._deaf | pairs | {(other, one) for one, other in pairs})

    def heal(self) -> None:
        """Everybody hears everybody."""
        self._change(set())

    def unplug(self, name: str) -> None:
        """Pulls the member's cable: unlike after a cut, its kernel knows that it has none."""
        self._in(self._switch, "ip", "link", "set", f"to-{name}", "down")

    def plug(self, name: str) -> None:
        """Puts the cable back."""
        self._in(self._switch, "ip", "link", "set", f"to-{name}", "up")

    @contextlib.contextmanager
    def flapping(self, one: str, other: str, down_s: float, up_s: float) -> Iterator[None]:
        """Meanwhile the link between the two is cut and healed, again and again."""
        ends = threading.Event()

        def flap() -> None:
            while not ends.is_set():
                self.cut(one, other)
                ends.wait(down_s)
                self.heal()
                ends.wait(up_s)

        thread = threading.Thread(target=flap, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()

    # --- how it is made ---------------------------------------------------------------------------------------------

    def _change(self, deaf: set[tuple[str, str]]) -> None:
        """Gives each member the rules for whom it does not hear; a member's change at once, by one command."""
        with self._changing:
            changed = {hearer for hearer, _ in deaf ^ self._deaf}
            self._deaf = deaf
            for hearer in sorted(changed):
                rules = [f"-A INPUT -s {self._hosts[other]} -j DROP\n" for one, other in sorted(deaf) if one == hearer]
                table = f"*filter\n:INPUT ACCEPT [0:0]\n{''.join(rules)}COMMIT\n"
                self._in(self._keepers[hearer], f"{self._filter}-restore", given=table)

    def _keep(self) -> subprocess.Popen[bytes]:
        """A process in a new namespace; ends with its input."""
        keeper = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo in; exec cat >/dev/null"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert keeper.stdout is not None
        if keeper.stdout.readline() != b"in\n":
            raise OSError("this kernel or this user makes no network namespaces")
        return keeper

    def _connect(self, name: str) -> None:
        keeper, port = self._keepers[name], f"to-{name}"
        peer = ("peer", "name", "eth0", "netns", str(keeper.pid))
        self._in(self._switch, "ip", "link", "add", "name", port, "type", "veth", *peer)
        self._in(self._switch, "ip", "link", "set", port, "master", "switch", "up")
        self._in(keeper, "ip", "address", "add", f"{self._hosts[name]}/{PREFIX_BITS}", "dev", "eth0")
        self._in(keeper, "ip", "link", "set", "eth0", "up")
        self._in(keeper, "ip", "link", "set", "lo", "up")

    def _works(self, tool: str) -> bool:
        if shutil.which(tool) is None:
            return False
        try:
            self._in(self._switch, tool, "-A", "INPUT", "-s", ADDRESS.format(254), "-j", "DROP")
        except subprocess.CalledProcessError:
            return False
        return True

    def _in(self, keeper: subprocess.Popen[bytes], *command: str, given: str = "") -> None:
        """Raises: CalledProcessError, whose message has what the command printed, on standard error."""
        try:
            subprocess.run(
                [*self._entering(keeper), *command],
                input=given.encode(), check=True, capture_output=True, timeout=PATIENCE_S,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            print(error.stderr.decode(errors="replace"), file=sys.stderr)
            raise

    def _entering(self, keeper: subprocess.Popen[bytes]) -> tuple[str, ...]:
        return ("nsenter", f"--net=/proc/{keeper.pid}/ns/net")


def why_not() -> str | None:
    """Why networks cannot be made and cut here, and what to do; None when they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(missing)} not installed: apt-get install iproute2 util-linux"
    if all(shutil.which(tool) is None for tool in FILTERS):
        return "iptables is not installed: apt-get install iptables"
    try:
        Network(("probe",)).close()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"this kernel makes no namespaces: {error}"
    except StopIteration:
        return "none of " + ", ".join(FILTERS) + " works with this kernel"
    return None
