"""Gives the page's section on the request path: its tables, and what is wanted of them."""

from __future__ import annotations

from collections.abc import Iterable

from report import CELL_NAMES, Row, cells, median_us, slower
from section import Claim, Section, table

READ, NONE, LOCAL, PROTECTED = "clean read", 'write, "none"', 'write, "local"', 'write, "backup"'
PROXY_READ = "read on a proxy"
GET, SET, SET_WAIT, PIPELINE = "redis GET", "redis SET", "redis SET + WAIT 1", "redis SET, WAIT 1 in a pipeline"


def path_section(head: Iterable[str], rows_of: dict[int, dict[str, Row]], others: float) -> Section:
    """``rows_of``: a session's size -> the rows by their names."""
    return Section(
        "request_path",
        "Request path",
        tuple(head),
        (
            "What one worker process pays for a request's session, beside redis-py with a real Redis and one replica."
            " All on one machine. Each of our writes includes the request's read, its check and its encoding; Redis is"
            " given bytes that were made before, and what `GET` brings is not decoded. A ratio below 1: Understudy"
            ' takes less time. `"backup"` and `WAIT 1`: on two machines before the answer.',
        ),
        tuple(
            table(f"Sessions of {size} bytes", CELL_NAMES, map(cells, rows.values())) for size, rows in rows_of.items()
        ),
        (),
        tuple(claim for size, rows in rows_of.items() for claim in _claims(size, rows)),
        tuple(f"{size} bytes: {line}" for size, rows in rows_of.items() for line in slower(rows.values())),
        others,
    )


def _claims(size: int, rows: dict[str, Row]) -> Iterable[Claim]:
    medians = {name: median_us([time for round_ in row.rounds for time in round_]) for name, row in rows.items()}
    yield Claim(f"{size} bytes: clean read", medians[READ], 15, "µs")
    yield Claim(f"{size} bytes: redis GET beside a clean read", medians[GET] / medians[READ], 8, "×", at_least=True)
    yield Claim(f"{size} bytes: {PROXY_READ}, beside {GET}", medians[PROXY_READ] / medians[GET], 2.0, "×")
    yield Claim(f"{size} bytes: {NONE}", medians[NONE], 40, "µs")
    yield Claim(f"{size} bytes: {LOCAL}, beside {SET}", medians[LOCAL] / medians[SET], 0.6, "×")
    yield Claim(f"{size} bytes: {PROTECTED}, beside {SET_WAIT}", medians[PROTECTED] / medians[SET_WAIT], 0.9, "×")
    yield Claim(f"{size} bytes: {PROTECTED}, beside {PIPELINE}", medians[PROTECTED] / medians[PIPELINE], 1.3, "×")
