"""docs/benchmarks.md is what the results of a run give, and its pictures are pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]


def in_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT / "bench", capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_the_page_is_what_the_results_give() -> None:
    """No figure on the page or in a picture is there by hand: all come from the files in bench/results."""
    result = in_bench("page.py", "--check")
    assert result.returncode == 0, result.stderr


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
from page import pages
from plot import Axis, svg
from section import Claim, Plot, Section, series, shown, table

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
assert (most.holds, least.holds) == (False, True)
section = Section("s", "S", ("run",), ("prose",), (table("t", ("a", "b"), [("r|s", 1)]),), (plot,), (most, least),
                  ("worse there",), 0.5)
page = next(text for path, text in pages([section]).items() if path.suffix == ".md")
for wanted in (
    "Not measured on a quiet machine.", "S 50%", "1 of 2 figures", "- most: 3, wanted at most 2", "worse there",
    r"| r\\|s | 1 |", "(benchmarks/p.svg)",
):
    assert wanted in page, wanted
assert "least: 3" not in page.partition("## S")[0]
"""


def test_a_page_says_what_is_missed_and_where_we_are_worse() -> None:
    """The summary names each figure that is not as wanted, and each finding against us, and only those."""
    result = in_bench("-c", PROBE)
    assert result.returncode == 0, result.stderr
