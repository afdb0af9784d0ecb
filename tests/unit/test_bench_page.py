"""docs/benchmarks.md is what the results of a run give, and its pictures are pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from tests.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]


def in_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT / "bench", capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip


def test_the_page_is_what_the_results_give() -> None:
    """No figure on the page or in a picture is there by hand: all come from the files in bench/results."""
    result = in_bench("page.py", "--check")
    assert result.returncode == 0, result.stderr


def test_every_target_has_its_figures() -> None:
    """No target is left without a measured figure, and no figure belongs to a target that is not named."""
    found = {
        claim["target"]
        for path in (ROOT / "bench" / "results").glob("*.json")
        for claim in json.loads(path.read_text("utf-8")).get("claims", ())
        if claim.get("target")
    }
    names = in_bench("-c", "from targets import TARGETS; print(*TARGETS)").stdout.split()
    assert len(names) > 10 and found == set(names)


def test_every_picture_is_one() -> None:
    """Each picture is well-formed, has a line for each series, and nothing in it lies outside."""
    pictures = sorted((ROOT / "docs" / "benchmarks").glob("*.svg"))
    assert pictures
    for path in pictures:
        picture = ElementTree.parse(path).getroot()
        width, height = float(picture.attrib["width"]), float(picture.attrib["height"])
        lines = [line for line in picture if line.tag.endswith("polyline")]
        assert lines, path.name
        for line in lines:
            for point in line.attrib["points"].split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= width and 0 <= y <= height, (path.name, point)


PROBE = """
import msgspec

from page import _targets, pages
from plot import Axis, svg
from section import Claim, Plot, Section, series, shown, table
from targets import TARGETS

plot = Plot("p", "a < b", "x", "y", (series("one", [(1, 0), (10, 5), (100, 50)]),), log_x=True, log_y=True)
points = svg(plot).split('points="')[1].split('"')[0].split()
assert len(points) == 2, "a logarithmic axis has no place for 0"
assert "a &lt; b" in svg(plot)
linear = Axis(0.0, 10.0, False, 100.0, 200.0)
assert (linear.at(0), linear.at(5), linear.at(10)) == (100, 150, 200)
decades = Axis(1.0, 100.0, True, 0.0, 100.0)
assert (decades.at(1), decades.at(10), decades.at(100)) == (0, 50, 100)
assert (shown(None), shown(1234567.0), shown(3.14159), shown(31.4159)) == ("n/a", "1 234 567", "3.14", "31.4")
most, least = Claim("most", 3, 2), Claim("least", 3, 2, at_least=True)
hop, flat = Claim("a hop", 0.8, 1, "ms", target="hop"), Claim("flat", 2, 1.2, "x", target="hop")
assert (most.holds, least.holds) == (False, True)
section = Section("s", "S", ("run",), ("prose",), (table("t", ("a", "b"), [("r|s", 1)]),), (plot,),
                  (most, least, hop, flat), ("worse there",), 0.5)
page = next(text for path, text in pages([section]).items() if path.suffix == ".md")
for wanted in (
    "Not measured on a quiet machine.", "S 50%", "- most: 3, wanted at most 2", "  - worse there",
    r"| r\\|s | 1 |", "(benchmarks/p.svg)", f"| {TARGETS['hop']} | a hop | ≤ 1 ms | 0.80 ms | yes | [S](#s) |",
    "|  | flat | ≤ 1.20 x | 2 x | **no** | [S](#s) |", f"| {TARGETS['write']} | | | not measured | | |",
    "reach 0 with all of their figures",
):
    assert wanted in page, wanted
in_short = page.partition("## S")[0]
assert "least: 3" not in in_short and "- flat" not in in_short
assert "reach 1 with all" in "".join(_targets([msgspec.structs.replace(section, claims=(hop,))]))
"""


def test_a_page_says_what_is_missed_and_where_we_are_worse() -> None:
    """The summary names each figure that is not as wanted, and each finding against us, and only those."""
    result = in_bench("-c", PROBE)
    assert result.returncode == 0, result.stderr


GROWTH_PROBE = """
from growth_section import Counted, growth_section
from simulated import DELTA_NAME, MANAGERS, Cost

def counted(n, dies):
    operations = {name: Cost(2, 100) for name in (
        "create", "read", "write", "write in 10 kB", "read elsewhere", "write elsewhere", "delete")}
    events = {name: (Cost(0, 0), Cost(n, 10 * n)) for name in ("joins", "leaves", "dies") if dies or name != "dies"}
    return Counted(operations, 1_100.0, 90.0, 2_200.0, Cost(1, 1) if dies else None, events, 1.0)

found = {(manager, n): counted(n, n < 300) for manager in MANAGERS for n in (3, 65, 300)}
section = growth_section(("run",), [3, 65, 300], found, 128)
rows = {row[0]: row[1:] for table in section.tables if table.title.startswith("What a member") for row in table.rows}
assert rows["DeltaManager: a member joins"] == (3, 30, 65, 650, 300, 3000, "2N to 3N"), rows
assert rows["DeltaManager: a member dies"] == (3, 30, 65, 650, None, None, ""), rows
plots = {plot.name: plot for plot in section.plots}
assert [len(one.points) for one in plots["growth-dies"].series if not one.model] == [2, 2, 2]
assert [len(one.points) for one in plots["growth-joins"].series if not one.model] == [3, 3, 3]
"""


def test_the_largest_clusters_are_shown_without_what_was_not_counted() -> None:
    """Where no member died the table says so and the plot has no point, beside those sizes where one did."""
    result = in_bench("-c", GROWTH_PROBE)
    assert result.returncode == 0, result.stderr
