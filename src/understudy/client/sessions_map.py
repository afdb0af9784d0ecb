"""The manager's sessions as a mapping: what a tool or a background job sees of them, without any cookie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from understudy import limits
from understudy.client.conversation import COMMIT_ID_BYTES, Ask, too_large
from understudy.client.draft import Draft
from understudy.client.runtime import Client, Runtime
from understudy.errors import SessionEnded, SessionUnavailable, StoreFull
from understudy.model.commit import Commit, Creation, Outcome
from understudy.model.entry import Entry, Key, Role
from understudy.model.ids import KEY_BYTES
from understudy.protocol.messages import (
    AcknowledgeMode,
    CommitAnswer,
    CommitRequest,
    FetchAnswer,
    FetchOutcome,
    FetchRequest,
)
from understudy.store import Counts


class Held(NamedTuple):
    """One entry of this member's store."""

    key: str
    """32 hexadecimal digits; a hash, no cookie can be made from it."""
    role: str
    """"primary", "backup" or "proxy"."""
    primary: str
    backups: tuple[str, ...]


class AttributesView(Mapping[str, Any]):
    """A session's attributes, each decoded when it is looked at; changing what it returns changes nothing."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def __getitem__(self, name: str) -> Any:
        """Raises: KeyError; ValueUndecodable for this attribute alone."""
        return self._draft.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._draft)

    def __len__(self) -> int:
        return len(self._draft)

    def __repr__(self) -> str:
        return f"<AttributesView of {len(self)} attributes>"


class LazyReplicatedMap(MutableMapping[str, Mapping[str, Any]]):
    """Sessions by key (32 hexadecimal digits, as in logs and ``understudy locate``).

    ``len`` and iteration are over the sessions whose primary is this member; ``all`` adds copies and proxies. Any
    session of the cluster can be looked up, replaced or ended by its key.
    Cost: iteration reads the store 64 keys at a time and sees each page as of one instant; a look-up of a session
    whose primary is elsewhere is one round trip.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __getitem__(self, key: str) -> AttributesView:
        """Raises: KeyError for a session that nobody holds; SessionUnavailable."""
        found = self._found(_raw(key))
        if found is None:
            raise KeyError(key)
        return AttributesView(Draft(found.attributes))

    def __setitem__(self, key: str, attributes: Mapping[str, Any]) -> None:
        """Replace all attributes of the session; if there is none, begin one that no cookie opens.

        Raises: ValueNotSupported, SessionTooLarge, StoreFull, SessionUnavailable; SessionEnded when it was deleted.
        """
        raw = _raw(key)
        found = self._found(raw)
        draft = Draft(found.attributes if found is not None else {})
        draft.clear()
        for name, value in attributes.items():
            draft.set(name, value)
        changes = draft.changes()
        config = self._client.config
        creation = Creation(config.idle_timeout_ms, config.absolute_timeout_ms or 0) if found is None else None
        if found is not None and changes.empty:
            return
        answer = self._commit(raw, Commit(b"", b"", sets=changes.sets, deletes=changes.deletes, creates=creation))
        if answer.outcome is Outcome.TOO_LARGE:
            raise too_large(draft.sizes(changes), config.session_bytes_max)
        if answer.outcome is not Outcome.COMMITTED:
            raise SessionEnded(f"the session {key} was deleted: its key can hold nothing any more")

    def __delitem__(self, key: str) -> None:
        """End the session at once, for everybody. Raises: KeyError, SessionUnavailable."""
        answer = self._commit(_raw(key), Commit(b"", b"", ends=True))
        if answer.outcome is not Outcome.COMMITTED:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        """Raises: SessionUnavailable."""
        return isinstance(key, str) and _is_key(key) and self._found(_raw(key)) is not None

    def __iter__(self) -> Iterator[str]:
        return (held.key for held in self.all() if held.role == "primary")

    def __len__(self) -> int:
        """Cost: one look-up, however many there are; sessions that have expired and were not removed yet count."""
        with _views(self._client).view() as view:
            return view.counts().primary

    def all(self) -> Iterator[Held]:
        """Every session that this member knows, with its role here."""
        store = self._client.member.store
        after: Key | None = None
        while True:
            with _views(self._client).view() as view:
                keys = view.keys(after, limits.BATCH_ENTRIES_MAX)
                entries = [(key, view.get(key)) for key in keys]
            for key, entry in entries:
                if entry is not None and not entry.ended and not _is_over(entry, store.now_ms()):
                    yield Held(key.hex(), entry.role.name.lower(), entry.primary, entry.backups)
            if len(keys) < limits.BATCH_ENTRIES_MAX:
                return
            after = keys[-1]

    @property
    def _client(self) -> Client:
        return self._runtime.client()

    def _found(self, key: Key) -> Entry | None:
        """The session as its primary has it now."""
        client = self._client
        entry = client.world.store.read(key).entry
        answer = client.member.ask(Ask(FetchRequest(0, key, entry.context if entry and entry.has_data else {})))
        assert isinstance(answer, FetchAnswer), "a fetch was not answered as one"
        match answer.outcome:
            case FetchOutcome.UNAVAILABLE:
                raise SessionUnavailable(f"no member that holds the session {key.hex()} answers now; try again")
            case FetchOutcome.HERE:
                entry = client.world.store.read(key).entry
            case FetchOutcome.FOUND:
                return answer.entry
            case FetchOutcome.UNKNOWN | FetchOutcome.ENDED:
                return None
        if entry is None or entry.ended or _is_over(entry, client.world.store.now_ms()):
            return None
        return entry

    def _commit(self, key: Key, wanted: Commit) -> CommitAnswer:
        client = self._client
        mode = max(client.world.settings.acknowledge, AcknowledgeMode.LOCAL)
        wanted = Commit(
            client.world.random_bytes(COMMIT_ID_BYTES),
            b"",
            sets=wanted.sets,
            deletes=wanted.deletes,
            creates=wanted.creates,
            ends=wanted.ends,
        )
        asked = Ask(CommitRequest(0, key, wanted, mode, client.world.settings.unprotected_refused))
        answer = client.member.ask(asked)
        assert isinstance(answer, CommitAnswer), "a commit was not answered as one"
        if answer.outcome is Outcome.STORE_FULL:
            raise StoreFull("the store is nearly full: no new session was begun; raise store_bytes_max")
        if answer.outcome is Outcome.REFUSED:
            raise SessionUnavailable(f"no member that may change the session {key.hex()} answers now; try again")
        return answer


class _View(Protocol):
    """The store at one instant."""

    def get(self, key: Key) -> Entry | None: ...

    def keys(self, after: Key | None, limit: int) -> list[Key]: ...

    def counts(self) -> Counts: ...


class _Views(Protocol):
    def view(self) -> AbstractContextManager[_View]: ...


def _views(client: Client) -> _Views:
    return client.member.store


def _is_over(entry: Entry, now_ms: int) -> bool:
    return entry.role is Role.PRIMARY and entry.expired(now_ms)


def _is_key(text: str) -> bool:
    return len(text) == 2 * KEY_BYTES and all(digit in "0123456789abcdef" for digit in text)


def _raw(key: str) -> Key:
    if not _is_key(key):
        raise KeyError(f"{key!r} is no key: it has {2 * KEY_BYTES} hexadecimal digits in lower case")
    return bytes.fromhex(key)
