"""Every error that Understudy raises on purpose, grouped by when it occurs.

Expected outcomes inside the protocol are values, not exceptions; what is here reaches a person: each message
says what was wrong, which value or limit, and what to do. A broken invariant is an ``AssertionError`` instead.
"""

from __future__ import annotations


class UnderstudyError(Exception):
    """Base of all errors of this package."""


# --- at start: configuration, secrets, directories -------------------------------------------------------------


class ConfigurationError(UnderstudyError, ValueError):
    """A setting is unknown, malformed, contradictory or missing; the message names it and where it was read."""


class DirectoryError(ConfigurationError):
    """The member's directory cannot be used: wrong owner or mode, another member's name, or a path too long."""


class AgentUnavailable(UnderstudyError):
    """The member's agent could not be started or reached within ``agent_timeout_ms``."""


# --- in the store ------------------------------------------------------------------------------------------------


class StoreError(UnderstudyError):
    """The store cannot be opened or read; the message names the file and the cause."""


class StoreFull(StoreError):
    """The store has reached its soft limit: new sessions are refused (503), existing ones go on."""


class StoreFormatError(StoreError):
    """The store was written in another format version than this release reads."""


# --- in a request --------------------------------------------------------------------------------------------------


class SessionError(UnderstudyError):
    """Base of what an application's use of its session can raise."""


class SessionUnavailable(SessionError):
    """The session exists but nobody who holds it answers now; adapters answer 503 with ``Retry-After``."""

    retry_after_s = 1


class SessionUnprotected(SessionUnavailable):
    """``unprotected = "refuse"``: no backup could be found; the change was not committed, or its outcome is unknown."""


class SessionPartitioned(SessionUnavailable):
    """``partition = "refuse"``: no majority of ``members_expected`` is reached; the message says what was written."""


class SessionEnded(SessionError):
    """The session was deleted, expired or rotated by a login while this request ran; nothing was written."""


class SessionConflict(SessionError):
    """``transact`` gave up: the attributes it read kept changing for as many tries as ``limits`` allows."""


class SessionTooLarge(SessionError):
    """The session would exceed ``session_bytes_max``; the message names its largest attributes."""


class ValueNotSupported(SessionError, TypeError):
    """A value cannot be stored; the message names the attribute, the place inside it and the type."""


class ValueUndecodable(SessionError, ValueError):
    """A stored attribute cannot be decoded; the other attributes of the session are not affected."""


# --- between members ---------------------------------------------------------------------------------------------


class TransportError(UnderstudyError):
    """The network between members cannot be started: address in use, unknown interface, bad seed."""


class FrameError(UnderstudyError):
    """A frame is malformed, too large, too deep, or not authentic; the connection that sent it ends."""


class FormatMismatch(UnderstudyError):
    """A peer speaks another format version; the message names both."""
