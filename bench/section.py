"""Gives the form in which every benchmark hands over what it measured: one section of docs/benchmarks.md, as data.

A benchmark prints its section for who runs it, and writes it as JSON for the page. Nothing on the page is written by
hand, so a figure cannot outlive the run that it came from.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

Cell = str | float | int | None
"""None: it could not be measured, and the prose says why."""


class Table(msgspec.Struct, frozen=True):
    """Rows of equal length; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


class Series(msgspec.Struct, frozen=True):
    """Points of one line, from left to right; a model's line is drawn without its points."""

    name: str
    points: tuple[tuple[float, float], ...]
    model: bool = False


class Plot(msgspec.Struct, frozen=True):
    """One picture; its name becomes the file's."""

    name: str
    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False


class Claim(msgspec.Struct, frozen=True):
    """A figure that we want, and what the run gave."""

    what: str
    measured: float
    wanted: float
    unit: str = ""
    at_least: bool = False
    """The figure must not be below what is wanted; otherwise it must not be above."""
    target: str = ""
    """Of bench/targets.py, if it is one of those."""

    @property
    def holds(self) -> bool:
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted


class Section(msgspec.Struct, frozen=True):
    """What one benchmark found, and all that a reader needs to judge it."""

    name: str
    title: str
    run: tuple[str, ...]
    """Machine, versions, commit, how busy the machine was, and how much was measured."""
    prose: tuple[str, ...]
    """What was measured, and how; a paragraph each."""
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    claims: tuple[Claim, ...] = ()
    worse: tuple[str, ...] = ()
    """Where Understudy is not better, as found by comparing figures."""
    others: float | None = None
    """Share of all CPU time that other processes took meanwhile; None where nothing depends on it."""


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, help="write the section to this file, for bench/page.py")


def hand_over(section: Section, path: Path | None) -> None:
    """Print a section, and write it where that was asked for."""
    print("\n".join(as_text(section)))
    if path is not None:
        write_section(section, path)


def write_section(section: Section, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(section), indent=1) + b"\n")


def read(path: Path) -> Section:
    """Raises: msgspec.ValidationError for something else."""
    return msgspec.json.decode(path.read_bytes(), type=Section)


def as_text(section: Section) -> Iterable[str]:
    """The lines for a terminal; what is measured and how stands on the page."""
    yield from section.run
    for table in section.tables:
        yield f"\n{table.title}"
        cells = [table.columns, *([shown(cell) for cell in row] for row in table.rows)]
        widths = [max(len(row[at]) for row in cells) for at in range(len(table.columns))]
        for row in cells:
            yield row[0].ljust(widths[0]) + "".join(
                cell.rjust(width + 2) for cell, width in zip(row[1:], widths[1:], strict=True)
            )
        if table.note:
            yield table.note
    if section.claims:
        yield "\nwanted"
    for claim in section.claims:
        yield f"{'holds' if claim.holds else 'MISSED':7}{claim_line(claim)}"
    yield "\nnot better: " + ("; ".join(section.worse) or "nowhere in this run")


def claim_line(claim: Claim) -> str:
    side = "at least" if claim.at_least else "at most"
    unit = f" {claim.unit}" if claim.unit else ""
    return f"{claim.what}: {shown(claim.measured)}{unit}, wanted {side} {shown(claim.wanted)}{unit}"


def shown(cell: Cell) -> str:
    """A cell as people read it: three digits that count, thousands set apart."""
    if cell is None:
        return "n/a"
    if isinstance(cell, str):
        return cell
    size = abs(cell)
    if size >= 100 or cell == int(cell):
        return f"{cell:,.0f}".replace(",", " ")
    return f"{cell:.1f}" if size >= 10 else f"{cell:.2f}"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], note: str = "") -> Table:
    """A table from any sequences."""
    kept = tuple(tuple(row) for row in rows)
    assert all(len(row) == len(columns) for row in kept), f"{title}: a row is not as long as the head"
    return Table(title, tuple(columns), kept, note)


def series(name: str, points: Iterable[tuple[float, float]], model: bool = False) -> Series:
    return Series(name, tuple(points), model)
