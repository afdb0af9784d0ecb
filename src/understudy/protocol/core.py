"""What the parts of an engine share: its settings, the instant, and the commands that it is about to return."""

from __future__ import annotations

from understudy.model.entry import Entry
from understudy.protocol import commands as c
from understudy.protocol.messages import MemberMessage


class Core:
    """One engine's blackboard. Each part appends commands; the engine returns them in order."""

    def __init__(self, settings: c.Settings) -> None:
        self.settings = settings
        self.me = settings.member
        self.now_ms = 0
        self.commands: list[c.Command] = []
        self._last_id = settings.first_id

    def emit(self, command: c.Command) -> None:
        self.commands.append(command)

    def send(self, to: str, message: MemberMessage) -> None:
        assert to != self.me, "a member sent a message to itself"
        self.commands.append(c.Send(to, message))

    def tell(self, kind: c.FactKind, key: bytes = b"", member: str = "", detail: str = "") -> None:
        self.commands.append(c.Tell(c.Fact(kind, key, member, detail)))

    def tell_concurrent(self, key: bytes, before: Entry | None, entry: Entry) -> None:
        """Report the attributes that have become several values side by side."""
        old = before.attributes if before is not None else {}
        count = sum(len(values) > max(1, len(old.get(name, ()))) for name, values in entry.attributes.items())
        if count:
            self.tell(c.FactKind.VALUES_CONCURRENT, key, detail=f"{count} attributes" if count > 1 else "1 attribute")

    def next_id(self) -> int:
        """A number for a request or inquiry, unique in this life, and with ``first_id`` among all of this member."""
        self._last_id += 1
        return self._last_id

    def take(self) -> list[c.Command]:
        """The commands since the last time, in order."""
        taken, self.commands = self.commands, []
        return taken
