"""Whether all members are configured alike: what differs is told, and who counts time otherwise is not taken in.

Every heartbeat carries a digest of the settings that members should share. Where it is not ours they are asked for, and
told in full; what differs is a fact, and stands in ``status``. Two settings are more than a matter of taste: a lease is
counted at both of its ends, and ended sessions must be remembered by all for as long as any of them may be away. Who
differs in these is given no lease and is not listened to, and says itself that it may not join.

Until it is known what a member's settings are it is given no lease either: it may count a longer one than we promise.
"""

from __future__ import annotations

from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.members import Member, Members
from understudy.protocol.messages import AskSettings, Heartbeat, MemberMessage, ToldSettings
from understudy.protocol.settings import Agreed, digest_of

MUST_AGREE = frozenset({"lease_ms", "forget"})


class Agreement:
    """What other members' settings are, beside ours."""

    def __init__(self, core: Core, members: Members) -> None:
        self._core = core
        self._members = members
        self.refusal = ""
        """Why this member may not be part of the cluster, once that is known."""

    def takes(self, sender: Member, message: MemberMessage) -> bool:
        """True if a message may be handled: from who counts as we do, and heartbeats only when that is known."""
        if isinstance(message, Heartbeat) and sender.was_ready is None:
            sender.was_ready = message.ready
        match message:
            case AskSettings():
                self._core.send(sender.name, ToldSettings(self._core.settings.agreed))
                return False
            case ToldSettings(agreed=agreed):
                self._told(sender, agreed)
                return False
            case Heartbeat() if message.agreed not in (self._members.agreed, sender.agreed):
                self._core.send(sender.name, AskSettings())
                return False
        return not sender.is_unfit

    def _told(self, sender: Member, theirs: Agreed) -> None:
        news = digest_of(theirs) != sender.agreed
        sender.agreed = digest_of(theirs)
        there, here = dict(theirs), dict(self._core.settings.agreed)
        names = [name for name in {**here, **there} if there.get(name) != here.get(name)]
        sender.differs = tuple(f"{n} is {there.get(n, 'unknown')} there, {here.get(n, 'unknown')} here" for n in names)
        sender.is_unfit = not MUST_AGREE.isdisjoint(names)
        if news and sender.differs:
            self._core.tell(c.FactKind.CONFIGURATION_DIFFERS, member=sender.name, detail="; ".join(sender.differs))
        if sender.is_unfit and sender.was_ready and not sender.met_ready:
            # Of two that may not be in one cluster the later one goes: it was not ready when they met.
            self.refusal = (
                f"member {sender.name!r} of this cluster is configured otherwise, so that sessions could be lost"
                f" ({'; '.join(sender.differs)}); give this member the same values, or stop all members, change them"
                " everywhere, and start again: sessions are kept"
            )
