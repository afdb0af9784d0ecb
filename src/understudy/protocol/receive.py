"""What each message of a peer causes: the table from message to the part that handles it."""

from __future__ import annotations

from understudy.model.delta import Delta, aged
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.members import Member
from understudy.protocol.parts import Parts


class Receiver:
    """Takes what peers say, for one engine."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def take(self, sender: str, member: Member, message: m.MemberMessage) -> None:
        """Hand a message of a known, present life to the part that it is for."""
        core = self._parts.core
        match message:
            case m.Heartbeat():
                if self._parts.members.heartbeat(member, message, self._parts.readers.grant(member)):
                    self._parts.sweeps.recheck_now(sender)
            case m.HeartbeatAck(sent_ms=sent_ms, reads=reads, fence=fence):
                if not self._parts.members.granted(member, sent_ms, reads, fence):
                    self._parts.comparisons.begin_if_idle()
                self._parts.joining.answered(sender, sent_ms)
            case m.Replicate(key=key, number=number, delta=delta):
                self._copied(key, c.CopyIn(sender, number, self._aged(member, delta)))
            case m.Entrust(number=number, copies=copies):
                for key, delta in copies:
                    self._copied(key, c.CopyIn(sender, number, self._aged(member, delta), entrusted=True))
            case m.Entrusted():
                self._parts.entrustments.entrusted(sender, message)
            case m.Acknowledge():
                if message.number < 0:
                    self._parts.comparisons.contribution_acknowledged(message)
                else:
                    self._parts.replication.acknowledged(sender, message)
            case m.AskWhole(key=key):
                self._parts.replication.lacks_base(sender, key)
            case m.Refuse():
                self._refused(sender, message)
            case m.Release(key=key, location=location):
                core.emit(c.Change(key, c.Learn(location, sender)))
                core.emit(c.Change(key, c.ReleaseCopy(location.epoch)))
            case m.Ask():
                self._parts.inquiries.asked(sender, message)
            case m.Answers():
                self._parts.inquiries.answered(sender, message)
            case m.Compare():
                self._parts.comparisons.asked(sender, message)
            case m.Compared():
                self._parts.comparisons.compared(sender, message)
            case m.Contribute(key=key, number=number, delta=delta):
                core.emit(c.Change(key, c.TakeContribution(sender, number, self._aged(member, delta))))
            case m.Fetch():
                self._parts.service.fetch(sender, message)
            case m.Fetched():
                self._parts.service.fetched(sender, message)
            case m.Forward():
                self._parts.service.forward(sender, message)
            case m.Forwarded():
                self._parts.service.forwarded(sender, message)
            case m.Locate(request=request, key=key):
                core.emit(c.Read((key,), c.Answer(sender, request)))
            case m.Located():
                self._parts.service.located(sender, message)
            case _:
                self._take_news(sender, member, message)

    def _take_news(self, sender: str, member: Member, message: m.MemberMessage) -> None:
        """What is told of sessions, and asked about many of them."""
        core = self._parts.core
        match message:
            case m.Announce(places=places):
                for key, location in places:
                    core.emit(c.Change(key, c.Learn(location, sender)))
            case m.Forget(keys=keys):
                for key, epoch in keys:
                    core.emit(c.Change(key, c.ForgetCopy(epoch)))
            case m.AskPlaces():
                self._parts.directory.asked(sender, message)
            case m.Places():
                self._parts.directory.heard(sender, message)
            case m.Digest():
                self._parts.patrol.told(sender, message)
            case m.Confirm(contexts=contexts):
                for key, context in contexts:
                    core.emit(c.Change(key, c.ConfirmCopy(context)))
            case m.Accessed(ages=ages, sent_ms=sent_ms):
                on_way_ms = member.age_ms(core.now_ms, sent_ms)
                for key, age_ms in ages:
                    core.emit(c.Change(key, c.Touch(age_ms + on_way_ms)))

    def _copied(self, key: bytes, what: c.CopyIn) -> None:
        """Take a copy, unless a promise stands against it that the store had no room for."""
        refusal = self._parts.inquiries.refusal(key, what.number, what.delta.location)
        if refusal is None:
            self._parts.core.emit(c.Change(key, what))
        else:
            self._parts.core.send(what.sender, refusal)

    def _aged(self, member: Member, delta: Delta) -> Delta:
        """``delta`` with the time that it was under way added to its ages."""
        return aged(delta, member.age_ms(self._parts.core.now_ms, delta.told_ms))

    def _refused(self, sender: str, message: m.Refuse) -> None:
        """A holder knows better: step down for a higher epoch, or ask in our turn for a higher promise."""
        self._parts.core.tell(c.FactKind.COPY_REFUSED, message.key, sender)
        if message.location.ended:
            self._parts.core.emit(c.Change(message.key, c.Learn(message.location, sender)))
        else:
            location = message.location
            asked = c.CompareOne((sender, location.primary), location.epoch, message.promised)
            self._parts.core.emit(c.Read((message.key,), asked))
