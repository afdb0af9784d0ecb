"""Writes what happened, one JSON object a line: facts of the protocol, and what the agent itself has to say.

    {"time": "2026-03-01T12:00:00.123Z", "level": "info", "member": "web1", "fact": "promoted", "key": "…32 digits…",
     "peer": "web2", "detail": "…"}

``member`` is who writes, ``peer`` whom it concerns, ``key`` a hash: no line holds a usable id. Two files of bounded
size are kept. Facts that every request may bring are counted and not written; of the others a bounded number each
second, so that a sweep of many sessions neither fills the log nor holds up the agent.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from understudy import limits
from understudy.protocol.commands import Fact, FactKind

LOG_NAME = "agent.log"
LOGGER = "understudy"

COUNTED_ONLY = frozenset(
    {
        FactKind.SESSION_CREATED,
        FactKind.SESSION_ENDED,
        FactKind.SESSION_EXPIRED,
        FactKind.PROMISED,
        FactKind.NEEDED_WHOLE,
        FactKind.COMMIT_REPEATED,
        FactKind.COMMIT_CONFLICTED,
        FactKind.COMMIT_FENCED,
        FactKind.COMMIT_OUTDATED,
        FactKind.BACKUP_CHOSEN,
        FactKind.BACKUP_RELEASED,
    }
)
"""Facts of ordinary life; ``status`` shows their numbers."""
WARNINGS = frozenset(
    {
        FactKind.MEMBER_LOST,
        FactKind.CONFIGURATION_DIFFERS,
        FactKind.SESSION_LOST,
        FactKind.ANSWERED_UNPROTECTED,
        FactKind.VALUES_CONCURRENT,
    }
)


class Journal:
    """The agent's log, and how often each fact was told."""

    def __init__(self, member: str, logger: logging.Logger, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._member = member
        self._logger = logger
        self._monotonic_s = monotonic_s
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def tell(self, fact: Fact) -> None:
        """Count a fact, and write it if it is one for the log."""
        self.counts[fact.kind.value] += 1
        if fact.kind in COUNTED_ONLY:
            return
        level = logging.WARNING if fact.kind in WARNINGS else logging.INFO
        self._bounded(level, fact.kind.value, key=fact.key.hex(), peer=fact.member, detail=fact.detail)

    def say(self, what: str, detail: str = "", **fields: object) -> None:
        """Write what the agent does."""
        self._write(logging.INFO, what, detail=detail, **fields)

    def warn(self, what: str, detail: str = "", **fields: object) -> None:
        """Count and write what should not be; a flood of it is bounded."""
        self.counts[what] += 1
        self._bounded(logging.WARNING, what, detail=detail, **fields)

    def fail(self, what: str, detail: str) -> None:
        """Write why the agent ends."""
        self._write(logging.ERROR, what, detail=detail)

    def _bounded(self, level: int, what: str, **fields: object) -> None:
        second = int(self._monotonic_s())
        if second != self._second:
            left_out, self._left_out, self._lines, self._second = self._left_out, 0, 0, second
            if left_out:
                self._write(logging.INFO, "facts left out", detail=f"{left_out} more in an earlier second")
        self._lines += 1
        if self._lines > limits.LOG_LINES_PER_SECOND_MAX:
            self._left_out += 1
        else:
            self._write(level, what, **fields)

    def _write(self, level: int, what: str, **fields: object) -> None:
        self._logger.log(level, what, extra={"understudy": {"member": self._member, "fact": what, **fields}})


class LineFormatter(logging.Formatter):
    """One JSON object a line; what libraries log becomes a line of the same form."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"time": _instant(record), "level": record.levelname.lower()}
        own = getattr(record, "understudy", None)
        if isinstance(own, dict):
            line |= {name: value for name, value in own.items() if value != ""}
        else:
            line |= {"logger": record.name, "fact": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class PlainFormatter(logging.Formatter):
    """For a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        own = getattr(record, "understudy", None)
        fields = own if isinstance(own, dict) else {"fact": record.getMessage()}
        said = [str(fields[name]) for name in ("peer", "key", "detail") if fields.get(name)]
        return ": ".join(["understudy", *filter(None, [fields.get("member")]), str(fields["fact"]), *said])


def open_log(directory: Path, *, terminal_level: int | None) -> logging.Logger:
    """Gives the logger whose lines go to the member's two log files, and from a level on to stderr too.

    Raises: OSError. Guarantee: files are made private by the caller's umask.
    """
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in tuple(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    file = RotatingFileHandler(
        directory / LOG_NAME, maxBytes=limits.LOG_BYTES_MAX, backupCount=1, encoding="utf-8", errors="backslashreplace"
    )
    file.setFormatter(LineFormatter())
    logger.addHandler(file)
    if terminal_level is not None:
        screen = logging.StreamHandler(sys.stderr)
        screen.setLevel(terminal_level)
        screen.setFormatter(PlainFormatter())
        screen.addFilter(lambda record: record.levelno < logging.ERROR)  # why the agent ends, ``main`` says itself
        logger.addHandler(screen)
    # A full disk must not fill stderr with tracebacks for each line that could not be written.
    logging.raiseExceptions = False
    return logger


def _instant(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
