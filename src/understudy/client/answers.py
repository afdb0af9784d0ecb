"""What the answer to a commit means: its outcome, or the error that tells the application what was wrong."""

from __future__ import annotations

from collections.abc import Mapping

from understudy.client.sizes import too_large
from understudy.client.visit import World
from understudy.errors import SessionPartitioned, SessionUnavailable, SessionUnprotected, StoreFull
from understudy.model.commit import Outcome
from understudy.protocol.worker_messages import CommitAnswer, FetchAnswer

OVER = (Outcome.UNKNOWN, Outcome.ENDED, Outcome.FENCED)
"""The session ended, or was taken over, while the request ran."""
DONE = (Outcome.COMMITTED, Outcome.REPEATED)


def checked(world: World, answer: FetchAnswer | CommitAnswer | None, sizes: Mapping[str, int]) -> Outcome:
    """The outcome of a commit; raises what the application has to know."""
    if answer is None:
        return Outcome.COMMITTED
    assert isinstance(answer, CommitAnswer), "a commit was not answered as one"
    if answer.outcome is Outcome.TOO_LARGE:
        raise too_large(sizes, world.settings.session_bytes_max)
    if answer.outcome is Outcome.STORE_FULL:
        raise StoreFull("the store is nearly full: no new session was begun; raise store_bytes_max, or try again later")
    doubt = "it may have been committed all the same" if answer.unsure else "nothing was written"
    if answer.outcome is Outcome.MINORITY:
        raise SessionPartitioned(
            f'a cut in the network: no majority of `members_expected` is reached (partition = "refuse"); {doubt};'
            " it goes on by itself when the network is whole again"
        )
    if answer.outcome not in (*DONE, *OVER, Outcome.CONFLICT):
        if world.settings.unprotected_refused:
            raise SessionUnprotected(f'no backup took the change in time (unprotected = "refuse"); {doubt}')
        raise SessionUnavailable(f"no member that may change the session answers now; {doubt}")
    return answer.outcome
