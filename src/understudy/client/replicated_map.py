"""``LazyReplicatedMap``: a mapping that keeps a local map and replicates it among the cluster behind it.

One mapping over the entries of the store, and two *layouts* that say which entry a key is in and how it is held there:
a session by its key (``sessions_map``), or a dictionary's own keys and values (``named_map``). Reading and writing are
conversations, so that the blocking methods and their asyncio twins (``aget``, ``aset`` …) run the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from understudy import limits
from understudy.client.answers import DONE, checked
from understudy.client.conversation import (
    COMMIT_ID_BYTES,
    Conversation,
    overwrite,
    read_entry,
    settle,
)
from understudy.client.draft import Changes, Draft
from understudy.client.runtime import Client, Runtime
from understudy.client.sizes import too_large
from understudy.client.visit import NO_SESSION, World
from understudy.errors import SessionConflict, SessionEnded
from understudy.model.commit import Commit, Creation, Outcome, dots_of
from understudy.model.entry import Attributes, Entry, Key, Role

_Result = TypeVar("_Result")


class Held(NamedTuple):
    """One entry of this member's store."""

    key: str
    """32 hexadecimal digits; a hash, no cookie can be made from it."""
    role: str
    """"primary", "backup" or "proxy"."""
    primary: str
    backups: tuple[str, ...]


class Layout(Protocol):
    """Which entry a key of the map is in, and how its value stands there. Pure, but for ``here``."""

    removal_ends: bool
    """Removing a key ends its entry for good; else the key may be used again."""
    reaches_all: bool
    """Iteration is over the keys of the whole cluster, else over those whose primary is here."""

    def place(self, world: World, name: str) -> Key:
        """Raises: KeyError when ``name`` can be no key of the map."""

    def value(self, attributes: Attributes, name: str) -> Any:
        """Raises: KeyError when it is not there; ValueUndecodable."""

    def changes(self, attributes: Attributes, name: str, value: Any) -> Changes:
        """What has to be committed for ``name`` to hold ``value``. Raises: ValueNotSupported."""

    def removal(self, attributes: Attributes, name: str) -> Changes:
        """What has to be committed for ``name`` to be gone, unless its entry ends. Raises: KeyError."""

    def creation(self, client: Client) -> Creation:
        """How an entry begins that nobody holds yet."""

    def names(self, key: Key, attributes: Attributes) -> list[str]:
        """The map's keys in one entry."""

    def here(self, client: Client) -> Iterator[tuple[Key, Entry]]:
        """The map's live entries in this member's store, whatever their role."""

    def count(self, client: Client) -> int | None:
        """The number of keys, where that is known without reading the entries."""


class LazyReplicatedMap(MutableMapping[str, Any]):
    """A mapping whose every key can be read and written at every member.

    As ``cluster.manager.sessions``: sessions by key (32 hexadecimal digits, as in logs and ``understudy locate``), to
    their attributes; iteration and ``len`` are over the sessions whose primary is this member, ``all`` adds copies and
    proxies; removing a key ends the session for everybody and for good.

    As ``cluster.map(name)``: a dictionary of your own, with your keys, and any value that a session's attribute may
    have. A change is on two machines when the call returns (``acknowledge = "backup"``); keys may be used again after
    they were removed; iteration is over all keys of the cluster that this member has heard of.

    Raises, in every method: SessionUnavailable while nobody who holds the key answers; StoreFull, SessionTooLarge,
    SessionUnprotected where it writes. A value that is read is a copy: assign it again to change it, or ``transact``.
    Cost: a key whose primary is here is read in place; elsewhere, and for every change, one round trip.
    """

    def __init__(self, runtime: Runtime, layout: Layout) -> None:
        self._runtime = runtime
        self._layout = layout

    # --- one key ---------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        """Raises: KeyError, and ValueUndecodable for what this Python cannot read."""
        return self._client.run(self._get(name))

    def __setitem__(self, name: str, value: Any) -> None:
        """Raises: ValueNotSupported; SessionEnded for a session that was deleted."""
        self._client.run(self._set(name, value))

    def __delitem__(self, name: str) -> None:
        """Raises: KeyError."""
        self._client.run(self._delete(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._client.run(self._has(name))

    def transact(self, name: str, change: Callable[[Any], Any], default: Any = None) -> Any:
        """Give ``change`` the value now (or ``default``), store what it returns, and return that.

        It runs again when another writer came between: counters are exact. Raises: SessionConflict after
        ``TRANSACT_TRIES_MAX`` tries, and what ``change`` raises (nothing is written then).
        """
        return self._client.run(self._transact(name, change, default))

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The value, or ``default`` after it was stored; of several callers at once one stores."""
        return self.transact(name, lambda value: default if value is _ABSENT else value, _ABSENT)

    def remove_if(self, name: str, condition: Callable[[Any], bool]) -> bool:
        """Remove a dictionary's key if ``condition`` holds for its value, as one: a newer value stays. True if it went.

        ``condition`` may be asked again when another writer came between. Raises: SessionConflict, as ``transact``.
        """
        return self._client.run(self._remove_if(name, condition))

    async def aget(self, name: str, default: Any = None) -> Any:
        """``get`` in an event loop."""
        try:
            return await self._client.arun(self._get(name))
        except KeyError:
            return default

    async def aset(self, name: str, value: Any) -> None:
        """``map[name] = value`` in an event loop."""
        await self._client.arun(self._set(name, value))

    async def adelete(self, name: str) -> None:
        """``del map[name]`` in an event loop. Raises: KeyError."""
        await self._client.arun(self._delete(name))

    async def atransact(self, name: str, change: Callable[[Any], Any], default: Any = None) -> Any:
        """``transact`` in an event loop."""
        return await self._client.arun(self._transact(name, change, default))

    async def aremove_if(self, name: str, condition: Callable[[Any], bool]) -> bool:
        """``remove_if`` in an event loop."""
        return await self._client.arun(self._remove_if(name, condition))

    # --- all keys --------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        for key, entry in self._listed():
            yield from self._client.run(self._names(key, entry))

    def __len__(self) -> int:
        """Cost: for sessions one look-up, however many there are (those that have expired and were not removed yet
        count); for a dictionary all its entries are read."""
        count = self._layout.count(self._client)
        return sum(1 for _ in self) if count is None else count

    async def akeys(self) -> list[str]:
        """All keys, in an event loop."""
        found: list[str] = []
        for key, entry in self._listed():
            found += await self._client.arun(self._names(key, entry))
        return found

    def all(self) -> Iterator[Held]:
        """Every entry of the map that this member knows, with its role here."""
        for key, entry in self._layout.here(self._client):
            yield Held(key.hex(), entry.role.name.lower(), entry.primary, entry.backups)

    def _listed(self) -> Iterator[tuple[Key, Entry]]:
        for key, entry in self._layout.here(self._client):
            if self._layout.reaches_all or entry.role is Role.PRIMARY:
                yield key, entry

    @property
    def _client(self) -> Client:
        return self._runtime.client()

    # --- conversations ---------------------------------------------------------------------------------------------

    def _get(self, name: str) -> Conversation[Any]:
        world = self._client.world
        attributes = yield from self._read(world, self._layout.place(world, name))
        if attributes is None:
            raise KeyError(name)
        return self._layout.value(attributes, name)

    def _has(self, name: str) -> Conversation[bool]:
        world = self._client.world
        try:
            key = self._layout.place(world, name)
        except KeyError:
            return False
        attributes = yield from self._read(world, key)
        return attributes is not None and name in self._layout.names(key, attributes)

    def _names(self, key: Key, entry: Entry) -> Conversation[list[str]]:
        attributes: Attributes | None = entry.attributes
        if self._layout.reaches_all:
            attributes = yield from self._read(self._client.world, key)
        return [] if attributes is None else self._layout.names(key, attributes)

    def _read(self, world: World, key: Key) -> Conversation[Attributes | None]:
        """What the entry holds now, acknowledged; None where there is none."""
        found = yield from read_entry(world, key)
        entry = found.entry
        if entry is not None and not found.settled:
            yield from settle(world, key, entry.number)
        return None if entry is None else entry.attributes

    def _set(self, name: str, value: Any) -> Conversation[None]:
        def plan(attributes: Attributes | None) -> tuple[Changes | None, None]:
            changes = self._layout.changes(attributes or {}, name, value)
            return None if changes.empty and attributes is not None else changes, None

        yield from self._until_committed(name, plan, conditional=False)

    def _delete(self, name: str) -> Conversation[None]:
        layout, world = self._layout, self._client.world
        key = layout.place(world, name)
        if layout.removal_ends:
            # Who ends a session need not know what is in it.
            outcome = yield from self._commit(key, {}, Changes({}, ()), ends=True)
        else:
            attributes = yield from self._read(world, key)
            if attributes is None:
                raise KeyError(name)
            outcome = yield from self._commit(key, attributes, layout.removal(attributes, name))
        if outcome not in DONE:
            raise KeyError(name)

    def _remove_if(self, name: str, condition: Callable[[Any], bool]) -> Conversation[bool]:
        layout = self._layout
        assert not layout.removal_ends, "a session is ended whatever it holds"

        def plan(attributes: Attributes | None) -> tuple[Changes | None, bool]:
            try:
                removal = layout.removal(attributes or {}, name)
            except KeyError:
                return None, False
            is_met = condition(layout.value(attributes or {}, name))
            return removal if is_met else None, is_met

        return (yield from self._until_committed(name, plan))

    def _transact(self, name: str, change: Callable[[Any], Any], default: Any) -> Conversation[Any]:
        layout = self._layout

        def plan(attributes: Attributes | None) -> tuple[Changes | None, Any]:
            try:
                before = layout.value(attributes or {}, name)
            except KeyError:
                before = default
            value = change(before)
            return layout.changes(attributes or {}, name, value), value

        return (yield from self._until_committed(name, plan))

    def _until_committed(
        self,
        name: str,
        plan: Callable[[Attributes | None], tuple[Changes | None, _Result]],
        *,
        conditional: bool = True,
    ) -> Conversation[_Result]:
        """Commit what ``plan`` makes of what the entry holds (None: nothing), again until nobody came between.

        Raises: SessionEnded; SessionConflict after ``TRANSACT_TRIES_MAX`` tries.
        """
        world = self._client.world
        key = self._layout.place(world, name)
        for _ in range(limits.TRANSACT_TRIES_MAX):
            attributes = yield from self._read(world, key)
            changes, result = plan(attributes)
            if changes is None:
                return result
            outcome = yield from self._commit(key, attributes, changes, conditional=conditional)
            if outcome in DONE:
                return result
            if outcome is Outcome.ENDED:
                raise SessionEnded(f"the session {name} was deleted: its key can hold nothing any more")
        raise SessionConflict(
            f"gave up after {limits.TRANSACT_TRIES_MAX} tries: others kept changing {name!r}, or it kept moving"
        )

    def _commit(
        self,
        key: Key,
        attributes: Attributes | None,
        changes: Changes,
        *,
        ends: bool = False,
        conditional: bool = False,
    ) -> Conversation[Outcome]:
        client = self._client
        held = attributes or {}
        sizes = Draft(held).sizes(changes)
        bytes_max = client.config.session_bytes_max
        if changes.sets and (sum(sizes.values()) > bytes_max or len(sizes) > limits.ATTRIBUTES_MAX):
            raise too_large(sizes, bytes_max, "the map's entry")
        seen = dots_of(held, (*changes.sets, *changes.deletes))
        wanted = Commit(
            client.world.random_bytes(COMMIT_ID_BYTES),
            b"",
            sets=changes.sets,
            deletes=changes.deletes,
            expects=seen if conditional else None,
            creates=self._layout.creation(client) if attributes is None else None,
            ends=ends,
            replaces=None if conditional or ends else seen,
        )
        place = msgspec.structs.replace(NO_SESSION, key=key)
        answer, _ = yield from overwrite(client.world, place, wanted, structural=True)
        return checked(client.world, answer, sizes)


_ABSENT = msgspec.UNSET
