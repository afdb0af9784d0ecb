"""One request on its way through this member: what it asked, where it was sent, what it heard."""

from __future__ import annotations

from typing import NamedTuple

from understudy.model.commit import Outcome
from understudy.protocol import commands as c
from understudy.protocol.messages import CommitAnswer, FetchAnswer, FetchOutcome, FetchRequest, Located, Request


class Remote(NamedTuple):
    """A job that came from another member."""

    sender: str
    request: int


class Job:
    """One request on its way."""

    def __init__(
        self, id_: int, origin: c.Ticket | Remote, request: Request, hops: int, now_ms: int, until_ms: int
    ) -> None:
        self.id = id_
        self.origin = origin
        self.request = request
        self.hops = hops
        self.since_ms = now_ms
        self.until_ms = until_ms
        self.retry_ms = 0
        """0: not waiting for time alone."""
        self.sent_to = ""
        self.sent_ms = 0
        self.unanswered: set[str] = set()
        """Members that were asked and said nothing for ``claim_ms``: unless they are heard, others are asked."""
        self.relay = ""
        self.denied: set[str] = set()
        """Members that said that they hold nothing."""
        self.hinted: set[str] = set()
        """Members that were asked because they may well hold it."""
        self.located: dict[str, Located] = {}
        self.locating: set[str] = set()
        self.locating_until_ms = 0

    @property
    def key(self) -> bytes:
        return self.request.key

    @property
    def is_remote(self) -> bool:
        return isinstance(self.origin, Remote)


def unavailable(request: Request) -> FetchAnswer | CommitAnswer:
    """The answer to a request for which there is no room."""
    if isinstance(request, FetchRequest):
        return FetchAnswer(FetchOutcome.UNAVAILABLE)
    return CommitAnswer(Outcome.REFUSED)
