"""Asks session libraries five questions about requests that overlap, and prints what was seen, as a table.

    python bench/races.py [--ours]

Every answer is observed: two requests overlap in one given way, and what a third one then finds is the answer. Nothing
depends on speed. Redis is started on a free port of the loopback interface, and ended.
Exit codes: 0 all questions were asked, 1 something failed, 2 redis or a library is not here.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import race_apps
import race_ours
from race_questions import QUESTIONS, RaceError, Subject

PACKAGES = (
    "flask", "flask-session", "cachelib", "starlette", "starsessions", "litestar", "aiohttp-session", "beaker",
    "pyramid", "django", "django-redis", "redis",
)  # fmt: skip
"""Whose versions stand below the table."""
REDIS_SERVER = "redis-server"


def main() -> int:
    """Asks, and prints."""
    options = _options()
    warnings.simplefilter("ignore")  # what libraries say of each other is not the question
    logging.disable(logging.CRITICAL)  # a lost race is an error page for some, and it is the answer that counts here
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if not options.ours and shutil.which(REDIS_SERVER) is None:
        print(
            "races: redis-server is not installed (or ask with --ours). Debian, Ubuntu: sudo apt-get install"
            " redis-server",
            file=sys.stderr,
        )
        return 2
    failed = False
    rows: list[Row] = []
    with ExitStack() as exits:
        for subject in _subjects(exits, ours_only=options.ours):
            name = f"{subject.library}, {subject.framework}, {subject.storage}"
            try:
                said = answers(subject)
            except RaceError as error:
                failed = True
                print(f"races: {name}: {error}", file=sys.stderr)
                continue
            print(f"races: {name}: {' '.join(said)}", file=sys.stderr)
            rows.append(Row(subject.library, subject.framework, subject.storage, said))
    print("\n".join(table(rows)))
    print("\n" + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES))
    return 1 if failed else 0


class Row(NamedTuple):
    """What one subject was seen to do."""

    library: str
    frameworks: str
    storages: str
    said: tuple[str, ...]


def answers(subject: Subject) -> tuple[str, ...]:
    """Yes or no to each question. Raises: RaceError when one could not be asked."""
    return tuple("yes" if ask(subject) else "no" for ask in QUESTIONS.values())


def table(rows: list[Row]) -> list[str]:
    """Lines of Markdown; rows of one library that say the same are one line. A no is what one looks for."""
    by_framework = [row._replace(frameworks=joined) for row, joined in _alike(rows, "frameworks")]
    by_storage = [row._replace(storages=joined) for row, joined in _alike(by_framework, "storages")]
    lines = [f"| Library | Framework | Storage | {' | '.join(QUESTIONS)} |", f"|---|---|---|{':-:|' * len(QUESTIONS)}"]
    for row in by_storage:
        words = [word if word == "yes" else f"**{word}**" for word in row.said]
        lines.append(f"| {' | '.join([row.library, row.frameworks, row.storages, *words])} |")
    return lines


def _alike(rows: list[Row], field: str) -> Iterator[tuple[Row, str]]:
    """The first of all rows that differ in this field only, with what they all have there."""
    groups: dict[Row, list[Row]] = {}
    for row in rows:
        groups.setdefault(row._replace(**{field: ""}), []).append(row)
    for found in groups.values():
        yield found[0], ", ".join(getattr(row, field) for row in found)


def _subjects(exits: ExitStack, *, ours_only: bool) -> Iterator[Subject]:
    if ours_only:
        yield from exits.enter_context(race_ours.subjects())
        return
    import race_peers
    from started import HOST, Started

    base = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="us-race-")))
    redis_url = f"redis://{HOST}:{exits.enter_context(Started()).redis_alone()}"
    race_apps.configure_django(base, redis_url)  # once for all of its engines
    yield from exits.enter_context(race_ours.subjects())
    yield from exits.enter_context(race_peers.subjects(base, redis_url))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Five questions, asked of session libraries.")
    parser.add_argument("--ours", action="store_true", help="only Understudy; needs no redis")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
