"""Where the first entry of a key is made: the member that decides on it.

A session's id is random, so nobody else begins that session: it begins where its first request is. The key of a part
of a dictionary is known to all, and several members may begin it at once. It begins at the member that key and names
give, so that the first of them makes the entry and the others change it. Members that see different members may choose
two; these find each other, as after a cut, and their values are merged.
"""

from __future__ import annotations

from collections.abc import Callable

from understudy import limits
from understudy.model.commit import Outcome
from understudy.model.entry import names_session
from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.job import Job, Jobs
from understudy.protocol.members import Members
from understudy.protocol.messages import AcknowledgeMode, CommitAnswer, CommitRequest
from understudy.protocol.route import Router


class Creations:
    """The jobs of one member that make what nobody holds yet."""

    def __init__(self, core: Core, members: Members, jobs: Jobs, router: Router, refuse: Callable[[Job], None]) -> None:
        self._core = core
        self._members = members
        self._jobs = jobs
        self._router = router
        self._refuse = refuse
        """Called with a job that a minority may not do."""

    def begin(self, job: Job, request: CommitRequest, is_joining: bool) -> None:
        """Make the entry here, or have it made."""
        if self._members.in_minority:
            self._refuse(job)
            return
        if self._members.outdated:
            self._jobs.retry(job)
            return
        home = self._home(job)
        if home != self._core.me:
            self._router.pass_on(job, home)
            return
        backups = self._members.place(job.key, self._core.settings.copies_wanted)
        if len(backups) < self._core.settings.copies:
            if is_joining and request.acknowledge is AcknowledgeMode.BACKUP:
                self._jobs.retry(job)
                return
            if request.unprotected_refused:
                self._jobs.answer_commit(job, CommitAnswer(Outcome.REFUSED))
                return
        self._core.emit(c.Change(job.key, c.DoCommit(job.id, request.commit, backups)))

    def _home(self, job: Job) -> str:
        """Who makes it: of a dictionary's part the first by its key that is ready and answers."""
        me = self._core.me
        if names_session(job.key) or job.hops >= limits.LOCATE_HOPS_MAX:
            return me
        return next(name for name in self._members.ranked(job.key) if name == me or self._router.answers(job, name))
