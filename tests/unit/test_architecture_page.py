"""The architecture page is true of the code: what it names is there, and what is there is named."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "understudy"
DOCS = (ROOT / "docs" / "ARCHITECTURE.md", ROOT / "docs" / "guarantees.md", ROOT / "README.md")
PAGE = DOCS[0].read_text("utf-8")

_REFERENCE = re.compile(r"`((?:[a-z_]+/)*[a-z_]+\.py): ([A-Za-z_][\w.]*)`")
"""`file.py: name` or `file.py: Class.name`."""
_MODULE_ROW = re.compile(r"^\| `((?:[a-z_]+/)*[a-z_]+\.py)` \|", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@cache
def names_in(path: Path) -> frozenset[str]:
    """Everything that a module defines at its top, and `Class.name` for what its classes define."""
    return frozenset(_names(ast.parse(path.read_text("utf-8")).body))


def _names(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + statement.name
        elif isinstance(statement, ast.ClassDef):
            yield prefix + statement.name
            yield from _names(statement.body, f"{prefix}{statement.name}.")
        elif isinstance(statement, ast.Assign):
            yield from (prefix + target.id for target in statement.targets if isinstance(target, ast.Name))
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield prefix + statement.target.id


def missing(page: str, package: Path = PACKAGE) -> list[str]:
    """References of a page to functions that are not where it says."""
    wrong = []
    for file, name in _REFERENCE.findall(page):
        path = package / file
        if not path.is_file():
            wrong.append(f"{file}: there is no such module")
        elif name not in names_in(path):
            wrong.append(f"{file}: it defines no {name}")
    return wrong


def test_every_named_function_is_where_the_page_says() -> None:
    """Each `file.py: function` of the page exists, and there are enough of them to follow a request."""
    assert len(_REFERENCE.findall(PAGE)) > 80
    assert missing(PAGE) == []


def test_a_function_that_has_moved_is_noticed() -> None:
    """A reference to a module or a function that does not exist is reported, one to a method is not."""
    page = "`protocol/engine.py: Engine.handle` `protocol/engine.py: Engine.guess` `protocol/oracle.py: ask`"
    assert missing(page) == [
        "protocol/engine.py: it defines no Engine.guess",
        "protocol/oracle.py: there is no such module",
    ]


def test_the_code_map_names_every_module_once() -> None:
    """The code map has one row for each module of the package, and none for one that is not there."""
    modules = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
    assert sorted(_MODULE_ROW.findall(PAGE)) == modules


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of the page leads to a file or folder of the tree."""
    broken = [link for link in _LINK.findall(page.read_text("utf-8")) if not (page.parent / link).exists()]
    assert broken == []


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.name)
def test_named_tests_exist(page: Path) -> None:
    """Every test that a page names as its proof is there, under that name."""
    wrong = []
    for file, name in _TEST.findall(page.read_text("utf-8")):
        path = ROOT / file
        if not path.is_file():
            wrong.append(f"{file}: there is no such file")
        elif name and name not in names_in(path):
            wrong.append(f"{file}: it defines no {name}")
    assert wrong == []
