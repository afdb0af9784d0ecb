"""A replicated dictionary of an application: its own keys and values, spread over a fixed number of entries.

Each entry is a part of the dictionary, and each key an attribute of the part that its hash names. So two writers of
different keys never undo each other, a removed key leaves nothing behind, and the number of entries that members must
know of does not grow with the dictionary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from understudy import limits
from understudy.client.draft import Changes, Draft, checked_name
from understudy.client.runtime import Client
from understudy.client.visit import World
from understudy.errors import ValueNotSupported
from understudy.model.commit import Creation
from understudy.model.entry import RESERVED, Attributes, Entry, Key

NEVER_EXPIRES = Creation(0, 0)


class NamedLayout:
    """The layout of one dictionary. ``name``: the same at all members; each application has its own dictionaries."""

    removal_ends = False
    reaches_all = True

    def __init__(self, name: str) -> None:
        self._name = name
        self._parts: list[Key] = []

    def place(self, world: World, name: str) -> Key:
        try:
            encoded = checked_name(name).encode()
        except ValueNotSupported as error:
            raise KeyError(str(error)) from None
        return self._keys(world)[part_of(encoded)]

    def value(self, attributes: Attributes, name: str) -> Any:
        return Draft(attributes).get(name)

    def changes(self, attributes: Attributes, name: str, value: Any) -> Changes:
        draft = Draft(attributes)
        draft.set(name, value)
        return draft.changes()

    def removal(self, attributes: Attributes, name: str) -> Changes:
        draft = Draft(attributes)
        draft.delete(name)
        return draft.changes()

    def creation(self, client: Client) -> Creation:
        return NEVER_EXPIRES

    def names(self, key: Key, attributes: Attributes) -> list[str]:
        return [name for name in attributes if name[:1] != RESERVED]

    def here(self, client: Client) -> Iterator[tuple[Key, Entry]]:
        for key in self._keys(client.world):
            entry = client.world.store.read(key).entry
            if entry is not None and not entry.ended:
                yield key, entry

    def count(self, client: Client) -> None:
        return None

    def _keys(self, world: World) -> list[Key]:
        """The keys of all parts. Cost: computed once."""
        if not self._parts:
            full = f"{world.settings.application}\0{self._name}"
            self._parts = [world.keys.map_key(full, part.to_bytes(2, "big")) for part in range(limits.MAP_PARTS)]
        return self._parts


def part_of(encoded_name: bytes) -> int:
    """Which part of a dictionary holds a key."""
    return int.from_bytes(hashlib.blake2b(encoded_name, digest_size=8).digest(), "big") % limits.MAP_PARTS
