"""Decides what one request has changed: attributes stay encoded until touched, and changes are found by comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from msgspec import Struct

from understudy import limits
from understudy.errors import ValueNotSupported, ValueUndecodable
from understudy.model import values
from understudy.model.entry import RESERVED, Attributes, Sibling

Dots = tuple[tuple[int, int], ...]
_Typed = TypeVar("_Typed")
_ABSENT = object()


class Changes(Struct, frozen=True):
    """What is to be committed, and what cannot be."""

    sets: dict[str, bytes]
    deletes: tuple[str, ...]
    wrong: ValueNotSupported | None = None
    """The first attribute that was changed in place into something that cannot be stored; the others are unharmed."""

    @property
    def empty(self) -> bool:
        return not self.sets and not self.deletes


class Draft(Struct, eq=False):
    """A session's attributes as a request sees them, over what is stored.

    (Of a Struct because that makes one in a third of the time; it copies the empty defaults each time.)
    """

    stored: Attributes = {}
    read: dict[str, Dots] | None = None
    """Which attributes were looked at, for a conditional commit; None: nobody wants to know."""
    _decoded: dict[str, Any] = {}
    """What the application holds in its hands: decoded, or assigned by it."""
    _assigned: dict[str, bytes | None] = {}
    """Its bytes when nobody can change the value in place, else None."""
    _removed: set[str] = set()
    _typed: list[tuple[Any, dict[str, Any]]] = []
    """Typed views, each with its fields as they were when it was made."""

    def __repr__(self) -> str:
        """No value: representations end up in logs and error pages."""
        return f"<Draft over {len(self.stored)} attributes>"

    def __rich_repr__(self) -> list[tuple[str, int]]:
        return [("over", len(self.stored))]

    def get(self, name: str) -> Any:
        """Raises: KeyError; ValueUndecodable for this attribute alone."""
        if self.read is not None:
            self._note(name)
        if name in self._decoded:
            return self._decoded[name]
        siblings = self.stored.get(name)
        if not siblings or name in self._removed or name[:1] == RESERVED:
            raise KeyError(name)
        value = self._decoded[name] = values.decode(shown(siblings).value, attribute=name)
        return value

    def concurrent(self, name: str) -> list[Any]:
        """All values that stand side by side, the shown one first; only that one once the request has assigned it."""
        if name in self._assigned or name in self._removed or len(self.stored.get(name, ())) < 2:
            return [self.get(name)]
        shown_first = sorted(self.stored[name], key=lambda sibling: sibling.rank, reverse=True)
        return [self.get(name), *(values.decode(sibling.value, attribute=name) for sibling in shown_first[1:])]

    def as_type(self, type_: type[_Typed]) -> _Typed:
        """The attributes as one object of a type; changes of its fields are changes of the attributes.

        Attributes that cannot be decoded are left out. Raises: ValueUndecodable when the others do not fit.
        """
        found = {}
        for name in self:
            with suppress(ValueUndecodable):
                found[name] = self.get(name)
        typed: _Typed = values.convert(found, type_)
        self._typed.append((typed, values.fields(typed)))
        return typed

    def set(self, name: str, value: Any) -> None:
        """Raises: ValueNotSupported (the name or the value), at once where it can be seen at once."""
        name = checked_name(name)
        encoded = values.encode(value, attribute=name)
        self._decoded[name] = value
        self._assigned[name] = encoded if values.is_immutable(value) else None
        self._removed.discard(name)

    def delete(self, name: str) -> None:
        """Raises: KeyError."""
        if name not in self:
            raise KeyError(name)
        self._decoded.pop(name, None)
        self._assigned.pop(name, None)
        if name in self.stored:
            self._removed.add(name)

    def clear(self) -> None:
        for name in list(self):
            self.delete(name)

    def __contains__(self, name: object) -> bool:
        if self.read is not None and isinstance(name, str):
            self._note(name)
        if name in self._assigned:
            return True
        return isinstance(name, str) and name in self.stored and name not in self._removed and name[:1] != RESERVED

    def __iter__(self) -> Iterator[str]:
        names = [name for name in self.stored if name[:1] != RESERVED and name not in self._removed]
        names += [name for name in self._assigned if name not in self.stored]
        if self.read is not None:
            for name in names:
                self._note(name)
        return iter(names)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def pristine(self) -> bool:
        """True while nothing was touched: then there is nothing to compare."""
        return not (self._decoded or self._removed)

    def changes(self) -> Changes:
        """What differs from what is stored. Cost: one encoding for each mutable value that was touched."""
        sets: dict[str, bytes] = {}
        wrong = self._write_back() if self._typed else None
        for name, value in self._decoded.items():
            try:
                new = self._changed(name, value)
            except ValueNotSupported as error:
                wrong = wrong or error
                continue
            if new is not None:
                sets[name] = new
        return Changes(sets, tuple(sorted(self._removed)) if self._removed else (), wrong)

    def committed(self, changes: Changes, incarnation: int, number: int, reign: int) -> None:
        """What was to be committed is stored now; what the application holds in its hands stays watched."""
        if changes.empty:
            return
        stored = dict(self.stored)
        for name in changes.deletes:
            stored.pop(name, None)
        for name, value in changes.sets.items():
            stored[name] = (Sibling(incarnation, number, reign, value),)
            self._assigned.pop(name, None)
        if self._assigned:
            self._assigned = {name: encoded for name, encoded in self._assigned.items() if name not in stored}
        self._removed.difference_update(changes.deletes)
        self.stored = stored

    def refreshed(self, stored: Attributes) -> None:
        """Newer values are stored: those that this request has not changed itself are read anew when touched next."""
        changes = self.changes()
        for name in [name for name in self._decoded if name not in changes.sets]:
            if stored.get(name) != self.stored.get(name):
                del self._decoded[name]
                self._assigned.pop(name, None)
        for name in changes.sets:
            self._assigned.setdefault(name, None)
        self._removed.intersection_update(stored)
        self.stored = stored

    def sizes(self, changes: Changes) -> Mapping[str, int]:
        """Bytes of each attribute after the changes, with its name and all values that stand side by side."""
        found = {name: len(name) + _bytes_of(siblings) for name, siblings in self.stored.items()}
        for name in changes.deletes:
            found.pop(name, None)
        for name, value in changes.sets.items():
            found[name] = len(name) + len(value)
        return found

    def _changed(self, name: str, value: Any) -> bytes | None:
        siblings = self.stored.get(name, ())
        if name in self._assigned:
            encoded = self._assigned[name]
            if len(siblings) != 1:
                # New, or the choice between several concurrent values: also the one that is shown is a choice.
                return values.encode(value, attribute=name) if encoded is None else encoded
            if encoded is not None:
                # Of an assignment other bytes are a change, be it only that an older release wrote them otherwise.
                return encoded if encoded != siblings[0].value else None
        elif not siblings or values.is_immutable(value):
            return None
        return values.differs(shown(siblings).value, value, attribute=name)

    def _write_back(self) -> ValueNotSupported | None:
        """Set the attributes whose fields were changed in a typed view, keeping what the type leaves out of them."""
        wrong = None
        for index, (typed, before) in enumerate(self._typed):
            try:
                now = values.fields(typed)
            except ValueNotSupported as error:
                wrong = wrong or error
                continue
            for name in now:
                if now[name] != before.get(name, _ABSENT):
                    held = self.get(name) if name in self else _ABSENT
                    self.set(name, _overlaid(held, before.get(name, _ABSENT), now[name]))
            self._typed[index] = (typed, now)
        return wrong

    def _note(self, name: str) -> None:
        assert self.read is not None
        if name not in self.read:
            self.read[name] = tuple(sibling.dot for sibling in self.stored.get(name, ()))


def shown(siblings: tuple[Sibling, ...]) -> Sibling:
    """The one that a reader sees."""
    return siblings[0] if len(siblings) == 1 else max(siblings, key=lambda sibling: sibling.rank)


def _bytes_of(siblings: tuple[Sibling, ...]) -> int:
    return len(siblings[0].value) if len(siblings) == 1 else sum(len(sibling.value) for sibling in siblings)


def _overlaid(held: Any, before: Any, now: Any) -> Any:
    """What is held, with everything changed that is different in ``now`` from ``before``."""
    if not (isinstance(held, dict) and isinstance(before, dict) and isinstance(now, dict)):
        return now
    kept = {key: value for key, value in held.items() if key in now or key not in before}
    return kept | {key: _overlaid(held.get(key), before.get(key), value) for key, value in now.items()}


def checked_name(name: object) -> str:
    """The name as a plain str. Raises: ValueNotSupported, with what to do."""
    if not isinstance(name, str):
        raise ValueNotSupported(f"session attribute {name!r}: its name is of type {type(name).__name__}; use a str")
    name = str.__str__(name)  # a subclass, such as an enum's, would come back as this
    if name[:1] == RESERVED:
        raise ValueNotSupported(f"session attribute {name!r}: names that begin with \\x00 are Understudy's own")
    if len(name) > limits.ATTRIBUTE_NAME_CHARS_MAX:
        raise ValueNotSupported(
            f"session attribute {name[:40]!r}…: its name has {len(name)} characters, the most is"
            f" {limits.ATTRIBUTE_NAME_CHARS_MAX}; put the long part into the value"
        )
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueNotSupported(f"session attribute {name!r}: its name has a lone surrogate, no UTF-8") from None
    return name
