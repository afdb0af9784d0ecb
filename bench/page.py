"""Writes docs/benchmarks.md and its pictures from the results of a run. Every figure on it comes from there.

    python bench/page.py [--check]

``--check`` writes nothing, and ends with 1 when the page is not what these results give.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from plot import svg
from report import QUIET_MAX, ROOT
from section import Claim, Section, Table, claim_line, read, shown
from targets import TARGETS

RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
PICTURES = ROOT / "docs" / "benchmarks"
ORDER = (
    "request_path", "apart", "hops", "web_tax", "beside_tomcat", "failover", "reprotection", "agent", "growth", "store",
    "million",
)  # fmt: skip
HEAD = """\
# Benchmarks

What Understudy costs, beside what one would use instead, measured in the same run. `make bench` measures all of it
again in less than a quarter of an hour and writes this page anew, but for what says that it came from a longer run of
its own; [bench/README.md](../bench/README.md) tells how, and how to run one part alone. Nothing here is written by
hand.

Ratios within a section may be compared; times of one section with those of another, or with another machine's, may
not. Each section says on what machine and from which commit its figures came, and how much of the machine others took
meanwhile: where that is more than a twentieth, times are worth little and ratios are to be taken with care.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docs/benchmarks.md from bench/results.")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    options = parser.parse_args()
    files = pages([read(path) for name in ORDER if (path := RESULTS / f"{name}.json").exists()])
    outdated = [path for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text]
    stray = [path for path in PICTURES.glob("*.svg") if path not in files]
    if options.check:
        for path in (*outdated, *stray):
            print(f"{path.relative_to(ROOT)} is not what the results give: python bench/page.py", file=sys.stderr)
        return 1 if outdated or stray else 0
    PICTURES.mkdir(exist_ok=True)
    for path, text in files.items():
        path.write_text(text, "utf-8")
    for path in stray:
        path.unlink()
    print(f"page: {PAGE.relative_to(ROOT)} and {len(files) - 1} pictures")
    return 0


def pages(sections: Iterable[Section]) -> dict[Path, str]:
    """File -> what it holds."""
    sections = list(sections)
    lines = [HEAD, *_summary(sections)]
    files: dict[Path, str] = {}
    for section in sections:
        lines += _section(section)
        files |= {PICTURES / f"{plot.name}.svg": svg(plot) for plot in section.plots}
    return {PAGE: "\n".join(lines).rstrip() + "\n", **files}


def _summary(sections: list[Section]) -> Iterator[str]:
    yield "## In short\n"
    if busy := [section for section in sections if section.others is not None and section.others > QUIET_MAX]:
        shares = ", ".join(f"{section.title} {section.others:.0%}" for section in busy)
        yield (
            f"**Not measured on a quiet machine.** Other programs took this much of its processors: {shares}. Where"
            " something waits for another process, as a write does, such times and ratios say more of them than of what"
            " was measured; counts of messages and bytes, sizes, and CPU times hold all the same.\n"
        )
    yield from _targets(sections)
    if missed := [(section, claim) for section, claim in _claimed(sections) if not claim.target and not claim.holds]:
        yield "Other figures that are not as we want them:\n"
        for section, claim in missed:
            yield f"- {claim_line(claim)} ({_link(section)})"
        yield ""
    yield "Where Understudy is *not* better:\n"
    for section in sections:
        if section.worse:
            yield f"- {_link(section)}"
            yield from (f"  - {line}" for line in section.worse)
    yield ""


def _targets(sections: list[Section]) -> Iterator[str]:
    """What we set out to reach, each with the figures that belong to it."""
    claimed = list(_claimed(sections))
    found = {name: [(section, claim) for section, claim in claimed if claim.target == name] for name in TARGETS}
    reached = sum(bool(pairs) and all(claim.holds for _, claim in pairs) for pairs in found.values())
    yield f"We set out to reach {len(TARGETS)} targets, and reach {reached} with all of their figures:\n"
    yield "| Target | figure | wanted | measured | reached | measured in |"
    yield "|---|---|--:|--:|---|---|"
    for name, text in TARGETS.items():
        if not found[name]:
            yield f"| {text} | | | not measured | | |"
        for number, (section, claim) in enumerate(found[name]):
            wanted, measured = _figures(claim)
            verdict = "yes" if claim.holds else "**no**"
            yield (
                f"| {'' if number else text} | {_escaped(claim.what)} | {wanted} | {measured} | {verdict} |"
                f" {_link(section)} |"
            )
    yield ""
    yield (
        "Why one is not reached, and what the machine's own limit is: [what a write costs](performance.md), and the"
        " sections below.\n"
    )


def _claimed(sections: list[Section]) -> Iterator[tuple[Section, Claim]]:
    return ((section, claim) for section in sections for claim in section.claims)


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.title}\n"
    for paragraph in section.prose:
        yield paragraph + "\n"
    for table in section.tables:
        yield from _table(table)
    for plot in section.plots:
        models = " Dashed: the model." if any(one.model for one in plot.series) else ""
        yield f"![{plot.title}](benchmarks/{plot.name}.svg)\n"
        if models:
            yield models.strip() + "\n"
    if section.claims:
        yield from _claims(section.claims)
    yield "<details><summary>The run</summary>\n"
    yield from (f"- {line}" for line in section.run)
    yield "\n</details>\n"


def _table(table: Table) -> Iterator[str]:
    yield f"**{table.title}**\n"
    yield f"| {' | '.join(_escaped(cell) for cell in table.columns)} |"
    yield "|---" + "|--:" * (len(table.columns) - 1) + "|"
    for row in table.rows:
        yield f"| {' | '.join(_escaped(shown(cell)) for cell in row)} |"
    yield ""
    if table.note:
        yield table.note + "\n"


def _claims(claims: tuple[Claim, ...]) -> Iterator[str]:
    yield "| Wanted | at most or least | measured | |"
    yield "|---|--:|--:|---|"
    for claim in claims:
        wanted, measured = _figures(claim)
        yield f"| {_escaped(claim.what)} | {wanted} | {measured} | {'holds' if claim.holds else '**missed**'} |"
    yield ""


def _figures(claim: Claim) -> tuple[str, str]:
    """What is wanted, and what was measured."""
    unit = f" {claim.unit}" if claim.unit else ""
    return f"{'≥' if claim.at_least else '≤'} {shown(claim.wanted)}{unit}", f"{shown(claim.measured)}{unit}"


def _link(section: Section) -> str:
    return f"[{section.title}](#{_anchor(section)})"


def _anchor(section: Section) -> str:
    return section.title.lower().replace(",", "").replace(" ", "-")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
