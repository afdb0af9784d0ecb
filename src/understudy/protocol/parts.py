"""The parts of one engine, wired: each is told of the others what it needs."""

from __future__ import annotations

from understudy.model.entry import Location
from understudy.protocol import commands as c
from understudy.protocol.absence import Absence
from understudy.protocol.agreement import Agreement
from understudy.protocol.compare import Comparisons
from understudy.protocol.core import Core
from understudy.protocol.entrust import Entrustments
from understudy.protocol.inquire import Inquiries
from understudy.protocol.join import Joining
from understudy.protocol.lives import Lives
from understudy.protocol.members import Members
from understudy.protocol.move import Moves
from understudy.protocol.patrol import Patrol
from understudy.protocol.places import Directory
from understudy.protocol.refusal import Refusals
from understudy.protocol.replicate import Replication
from understudy.protocol.serve import Service
from understudy.protocol.sweep import Sweeps


class Parts:
    """Everything that one member's engine consists of, one attribute a concern."""

    def __init__(self, settings: c.Settings) -> None:
        self.core = Core(settings)
        self.members = Members(self.core)
        self.replication = Replication(self.core, self.members, self._settled)
        self.readers = self.replication.readers
        self.entrustments = Entrustments(self.core, self.members, self.replication, self._announce)
        self.comparisons = Comparisons(self.core, self.members, self.replication, self._resume)
        self.inquiries = Inquiries(self.core, self.members, self._resume)
        self.comparisons.inquire_with(self.inquiries.begin)
        self.moves = Moves(self.core, self.members, self.replication)
        self.service = Service(
            self.core, self.members, self.replication, self.inquiries, self.comparisons, self.moves.served
        )
        self.refusals = Refusals(self.core, self.replication, self.inquiries, self.comparisons, self.service)
        self.sweeps = Sweeps(
            self.core, self.members, self.replication, self.entrustments, self.inquiries, self.comparisons
        )
        self.directory = Directory(self.core, self.members, self._transferred)
        self.lives = Lives(self.core, self.members)
        self.patrol = Patrol(self.core, self.members, self.replication, self.comparisons, self.lives)
        self.agreement = Agreement(self.core, self.members)
        self.absence = Absence(self.core, self.members)
        self.joining = Joining(
            self.core, self.members, self.comparisons, self.inquiries, self.service, self.sweeps, self.absence
        )

    # What a part calls that is made after it.

    def _settled(self, job: int, protected: bool, number: int) -> None:
        self.service.settled(job, protected, number)

    def _announce(self, key: bytes, location: Location) -> None:
        self.directory.announce(key, location)

    def _resume(self, key: bytes, relay: str) -> None:
        self.service.resume(key, relay)

    def _transferred(self, name: str) -> None:
        self.joining.transferred(name)
