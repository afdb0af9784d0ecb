"""The list of scenarios is true of the tests: what it names is there and says so, and knows each that one names."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.conformance.adapter_apps import ADAPTERS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "scenarios.md"
EACH = "## In each adapter"
"""The heading of the list's last section, which has other rows."""
GUARANTEES = ROOT / "docs" / "guarantees.md"

_ROW = re.compile(r"^\| (S\d\d) \| (?:.+ \| )?(.+) \|$", re.MULTILINE)
_SCENARIO = re.compile(r"\bS\d\d\b")
_CONCERN = [f"S{number:02}" for number in (*range(1, 14), *range(44, 47), *range(48, 51))]
"""Scenarios that an application can notice, and an adapter can spoil."""
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")

Claims = dict[str, dict[str, frozenset[str]]]
"""File -> test -> the scenarios that its docstring names."""


def claims_of(source: str) -> dict[str, frozenset[str]]:
    """The tests of one file, and which scenarios each says that it proves."""
    return {
        node.name: frozenset(_SCENARIO.findall(ast.get_docstring(node) or ""))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")
    }


def claims() -> Claims:
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return {path.relative_to(ROOT).as_posix(): claims_of(path.read_text("utf-8")) for path in files}


def list_and_section() -> tuple[str, str]:
    """The list of scenarios, and what the page says of adapters."""
    whole, heading, section = PAGE.read_text("utf-8").partition(EACH)
    assert heading
    return whole, section


def arguments_of(source: str) -> dict[str, set[str]]:
    """The tests of one file, and the fixtures that each asks for."""
    return {
        node.name: {argument.arg for argument in node.args.args}
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test")
    }


def not_for_each(section: str, asked_for: Callable[[str], Mapping[str, set[str]]]) -> list[str]:
    """Tests that the section names and that do not run for every adapter: no fixture gives them one after the other."""
    return [
        f"{scenario}: {file}::{name} is of one adapter"
        for scenario, tests in _ROW.findall(section)
        for file, name in _TEST.findall(tests)
        if not asked_for(file).get(name, set()) & {"app", "make", "page"}
    ]


def unproved(page: str, told: Claims) -> list[str]:
    """Rows of the list that name no test, one that is not there, or one that does not say that it proves the row."""
    wrong = []
    for scenario, tests in _ROW.findall(page):
        named = _TEST.findall(tests)
        if not named:
            wrong.append(f"{scenario}: names no test")
        for file, name in named:
            if scenario not in told.get(file, {}).get(name, ()):
                wrong.append(f"{scenario}: {file}::{name} is not there, or does not say that it proves it")
    return wrong


def unbacked(guarantees: str, told: Claims) -> list[str]:
    """Lines of a table that promise a scenario which none of the tests that they name says to prove."""
    wrong = []
    for line in guarantees.splitlines():
        promised = set(_SCENARIO.findall(line.partition("`tests/")[0])) if line.startswith("|") else set()
        shown: set[str] = set()
        for file, name in _TEST.findall(line):
            tests = told.get(file, {})
            shown.update(*([tests.get(name, frozenset())] if name else tests.values()))
        wrong += [f"{scenario}: no test of its line names it: {line[:60]}…" for scenario in sorted(promised - shown)]
    return wrong


def test_every_scenario_is_proved_by_the_tests_that_the_list_names() -> None:
    """Each of S01 to S54 has its row, and each test there exists and names the scenario in its docstring."""
    page, _ = list_and_section()
    assert [scenario for scenario, _ in _ROW.findall(page)] == [f"S{number:02}" for number in range(1, 55)]
    assert unproved(page, claims()) == []


def test_no_test_proves_a_scenario_that_is_not_in_the_list() -> None:
    """A number that a docstring names has a row, so that its words can be looked up."""
    page, _ = list_and_section()
    listed = {scenario for scenario, _ in _ROW.findall(page)}
    named = {scenario for tests in claims().values() for found in tests.values() for scenario in found}
    assert named - listed == set()


def test_what_concerns_adapters_is_proved_for_each() -> None:
    """Each scenario that an adapter can spoil has tests that run for all of them, and the page has all their names."""
    _, section = list_and_section()
    assert [scenario for scenario, _ in _ROW.findall(section)] == _CONCERN
    assert unproved(section, claims()) == []
    assert not_for_each(section, lambda file: arguments_of((ROOT / file).read_text("utf-8"))) == []
    said = re.search(r"run once for each: (.*?)\. ", section.replace("\n", " "))
    assert said is not None and re.split(r", | and ", said.group(1)) == list(ADAPTERS)


def test_every_promise_is_shown_by_a_test_that_says_so() -> None:
    """Where a line of guarantees.md names scenarios, the tests beside it name them, too."""
    assert unbacked(GUARANTEES.read_text("utf-8"), claims()) == []


def test_what_is_missing_is_noticed() -> None:
    """A row without a test, with one that is not there, or with one that proves something else is reported."""
    told = {"tests/a.py": claims_of('def test_it() -> None:\n    """S01: yes."""\n')}
    here, absent = "`tests/a.py::test_it`", "`tests/b.py::test_no`"
    page = f"| S01 | a | {here} |\n| S02 | b | {here}, {absent} |\n| S03 | c | - |"
    assert unproved(page, told) == [
        "S02: tests/a.py::test_it is not there, or does not say that it proves it",
        "S02: tests/b.py::test_no is not there, or does not say that it proves it",
        "S03: names no test",
    ]
    alone = arguments_of("def test_it() -> None: ...\ndef test_each(app: App) -> None: ...")
    both = f"| S01 | {here}, `tests/a.py::test_each` |"
    assert not_for_each(both, lambda file: alone) == ["S01: tests/a.py::test_it is of one adapter"]
    assert unbacked("| a promise | S01, S02 | `tests/a.py::test_it` |", told) == [
        "S02: no test of its line names it: | a promise | S01, S02 | `tests/a.py::test_it` |…"
    ]
