"""The manager's sessions as keys of a map: what a tool or a background job sees of them, without any cookie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from understudy import limits
from understudy.client.draft import Changes, Draft
from understudy.client.runtime import Client
from understudy.client.visit import World
from understudy.model.commit import Creation
from understudy.model.entry import Attributes, Entry, Key, Role, names_session
from understudy.model.ids import KEY_BYTES


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


class SessionsLayout:
    """An entry is a session: its key in the map is its key in the store, its value are its attributes.

    Assigning replaces all attributes and nothing else: cookie and principal stay. For a key that nobody holds it
    begins a session that no cookie opens.
    """

    removal_ends = True
    reaches_all = False

    def place(self, world: World, name: str) -> Key:
        if not _is_key(name):
            raise KeyError(f"{name!r} is no key: it has {2 * KEY_BYTES} hexadecimal digits in lower case")
        return bytes.fromhex(name)

    def value(self, attributes: Attributes, name: str) -> AttributesView:
        if not attributes:
            raise KeyError(name)
        return AttributesView(Draft(attributes))

    def changes(self, attributes: Attributes, name: str, value: Any) -> Changes:
        draft = Draft(attributes)
        draft.clear()
        for attribute, new in value.items():
            draft.set(attribute, new)
        return draft.changes()

    def removal(self, attributes: Attributes, name: str) -> Changes:
        raise AssertionError("a session that is removed ends")

    def creation(self, client: Client) -> Creation:
        return Creation(client.config.idle_timeout_ms, client.config.absolute_timeout_ms or 0)

    def names(self, key: Key, attributes: Attributes) -> list[str]:
        return [key.hex()]

    def here(self, client: Client) -> Iterator[tuple[Key, Entry]]:
        """Reads 64 at a time, each page as of one instant."""
        store = client.member.store
        after: Key | None = None
        while True:
            with client.member.store.view() as view:
                keys = view.keys(after, limits.BATCH_ENTRIES_MAX)
                entries = [(key, view.get(key)) for key in keys if names_session(key)]
            for key, entry in entries:
                if entry is not None and not entry.ended and not _is_over(entry, store.now_ms()):
                    yield key, entry
            if len(entries) < limits.BATCH_ENTRIES_MAX:
                return
            after = keys[-1]

    def count(self, client: Client) -> int:
        with client.member.store.view() as view:
            return view.counts().primary


def _is_over(entry: Entry, now_ms: int) -> bool:
    return entry.role is Role.PRIMARY and entry.expired(now_ms)


def _is_key(text: str) -> bool:
    is_hex = len(text) == 2 * KEY_BYTES and all(digit in "0123456789abcdef" for digit in text)
    return is_hex and names_session(bytes.fromhex(text))
