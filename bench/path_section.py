"""Gives the page's sections on a worker's path, on loopback and over a distance: their tables, and what is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from operations import CLEAN_READ, GET, PIPELINE, PROTECTED, PROXY_READ, SET, SET_WAIT
from report import CELL_NAMES, Row, cells, median_us, slower
from section import Claim, Section, table

NONE, LOCAL = 'write, "none"', 'write, "local"'


class Path(NamedTuple):
    """Where the same operations were measured, and what that makes of them."""

    name: str
    title: str
    prose: tuple[str, ...]
    beside_wait: float
    """What a protected write is to take at most, beside ``SET`` and then ``WAIT 1``."""
    beside_pipeline: float
    target: str
    near: bool
    """Times of less than a round trip are worth looking at."""


ON_LOOPBACK = Path(
    "request_path",
    "Request path",
    (
        "What one worker process pays for a request's session, beside redis-py with a real Redis and one replica."
        " All on one machine. Each of our writes includes the request's read, its check and its encoding; Redis is"
        " given bytes that were made before, and what `GET` brings is not decoded. A ratio below 1: Understudy"
        ' takes less time. `"backup"` and `WAIT 1`: on two machines before the answer.',
        "Everything is asked again and again, so that processors' caches are warm, for both. A clean read finds a"
        " cookie and an entry that this worker has decoded before, and that are the same still; what a browser's first"
        " one takes has a row of its own.",
    ),
    0.9,
    1.3,
    "protected-loopback",
    True,
)
OVER_A_DISTANCE = Path(
    "apart",
    "Request path, machines 1 ms apart",
    (
        "The same with 1 ms each way between machines: the web server's, with the worker and its agent, and two others,"
        " each with an agent; Redis is on one of the two, its replica on the other. A relay on packets"
        " (`bench/distance.py`) stands between them all, the same for both: so `GET` takes one way there and one back."
        " What is given back at a distance is processors: what the relay takes of them, it takes from everybody.",
    ),
    0.5,
    0.7,
    "protected-apart",
    False,
)


def path_section(
    path: Path, head: Iterable[str], rows_of: Mapping[int, dict[str, Row]], others: float, switches: float | None = None
) -> Section:
    """``rows_of``: a session's size -> the rows by their names; ``switches``: how often a clean read waited."""
    claims = [claim for size, rows in rows_of.items() for claim in _claims(path, size, rows)]
    if switches is not None:
        claims.append(Claim("a clean read waits for another process", switches, 0, "times", target="clean-read"))
    return Section(
        path.name,
        path.title,
        tuple(head),
        path.prose,
        tuple(
            table(f"Sessions of {size} bytes", CELL_NAMES, map(cells, rows.values())) for size, rows in rows_of.items()
        ),
        (),
        tuple(claims),
        tuple(f"{size} bytes: {line}" for size, rows in rows_of.items() for line in slower(rows.values())),
        others,
    )


def _claims(path: Path, size: int, rows: dict[str, Row]) -> Iterable[Claim]:
    medians = {name: median_us([time for round_ in row.rounds for time in round_]) for name, row in rows.items()}

    def ratio(name: str, beside: str) -> float:
        return medians[name] / medians[beside]

    if path.near:
        yield Claim(f"{size} bytes: {CLEAN_READ}", medians[CLEAN_READ], 15, "µs", target="clean-read")
        yield Claim(f"{size} bytes: {GET} beside a {CLEAN_READ}", ratio(GET, CLEAN_READ), 8, "×", True, "clean-read")
        yield Claim(f"{size} bytes: {NONE}", medians[NONE], 40, "µs", target="write")
        yield Claim(f"{size} bytes: {LOCAL}, beside {SET}", ratio(LOCAL, SET), 0.6, "×", target="write")
    yield Claim(f"{size} bytes: {PROTECTED}, beside {SET_WAIT}", ratio(PROTECTED, SET_WAIT), path.beside_wait, "×",
                target=path.target)  # fmt: skip
    yield Claim(f"{size} bytes: {PROTECTED}, beside {PIPELINE}", ratio(PROTECTED, PIPELINE), path.beside_pipeline, "×",
                target=path.target)  # fmt: skip
    yield Claim(f"{size} bytes: {PROXY_READ}, beside {GET}", ratio(PROXY_READ, GET), 2.0, "×", target="proxy-read")
