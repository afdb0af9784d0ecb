"""The house rules as functions from source text to violations; `test_tidy.py` applies them to the tree.

Each rule takes parsed modules and returns one line per violation, so that a rule can be shown a bad snippet.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "understudy"

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "limits"}),
    frozenset({"config"}),
    frozenset({"model"}),
    frozenset({"store", "protocol"}),
    frozenset({"client", "transport"}),
    frozenset({"cluster"}),
    frozenset({"flask", "quart", "django", "litestar", "aiohttp", "pyramid", "cachelib", "wsgi", "asgi", "agent"}),
    frozenset({"flask_caching"}),
    frozenset({"demo", "sim", "dashboard"}),
    frozenset({"testing"}),
    frozenset({"cli"}),
)
"""The package's units, lowest first. A unit imports only from rows below its own: units of one row do not know each
other (store and protocol; client and transport; one adapter and another). A new unit gets its place here first."""

PURE = frozenset({"model", "protocol"})
"""Units in which time, chance and the world are arguments."""

PURE_BANNED = frozenset(
    {"time", "random", "secrets", "os", "socket", "asyncio", "threading", "logging", "uuid"}
    | {"concurrent", "multiprocessing", "select", "selectors", "signal", "subprocess", "ssl"}
)
PURE_ALLOWED = frozenset({"uuid.UUID"})
"""The value type, which the codec must know; what makes new ones stays banned."""
PURE_CLOCK_CALLS = frozenset({"now", "utcnow", "today", "fromtimestamp"})
"""Of ``datetime`` and ``date``: the first three read the clock, the last one the time zone of the machine."""

OWNERS: dict[str, tuple[str, ...]] = {
    "lmdb": ("understudy.store.lmdb",),
    "zenoh": ("understudy.transport.zenoh",),
    "flask": ("understudy.flask", "understudy.flask_caching", "understudy.demo.shop"),
    "werkzeug": ("understudy.flask", "understudy.flask_caching", "understudy.demo.shop"),
    "quart": ("understudy.quart",),
    "litestar": ("understudy.litestar",),
    "cachelib": ("understudy.cachelib",),
    "pyramid": ("understudy.pyramid",),
    "zope": ("understudy.pyramid",),
    "aiohttp": ("understudy.aiohttp",),
    "aiohttp_session": ("understudy.aiohttp",),
    "django": (
        "understudy.django.runtime",
        "understudy.django.sessions",
        "understudy.django.middleware",
        "understudy.django.cache",
        "understudy.django.pages",
    ),
    "starlette": ("understudy.asgi",),
    "fastapi": ("understudy.asgi",),
}
"""Libraries that one file each may import (Django's adapter is a package). Flask-Caching keeps Flask's responses; the
demo's shop is a Flask application, as a user would write it."""

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60

ENTRY_POINTS = (
    PACKAGE,
    "understudy.cli",
    "understudy.agent",
    "understudy.flask",
    "understudy.quart",
    "understudy.aiohttp",
    "understudy.pyramid",
    "understudy.litestar",
    "understudy.cachelib",
    "understudy.flask_caching",
    "understudy.django",
    "understudy.django.cache",
    "understudy.wsgi",
    "understudy.asgi",
    "understudy.testing",
    "understudy.testing.plugin",
    "understudy.store.memory",
    "understudy.transport.memory",
)
"""Where a user or a process enters; the two memory implementations are what the conformance suites and simulated
histories run on. Any other module must be imported, directly or not, from one of these."""

BANNED_WORDS: tuple[tuple[str, str], ...] = (
    ("master", "primary"),
    ("slave", "backup"),
    ("leader", "primary"),
    ("daemon", "agent"),
    ("node", "member"),
)
_HELD = "(?:session|entry|entries|backup|peer|member|copy|copies)"
BANNED_PHRASES: tuple[tuple[str, str], ...] = (
    (r"\b(?:session|entry|key)(?:'s)?[ _]owners?\b", "primary"),
    (r"\bowners?[ _]of[ _](?:a|an|the|this|that)[ _](?:session|entry|key)", "primary"),
    (rf"\b(?:re)?sync(?:s|ed|ing)?[ _](?:the[ _]|a[ _])?{_HELD}", "replicate"),
    (r"timeout_at\b", "deadline"),
    (r"\bfail(?:s|ed|ing)?[ _]over\b|\bto failover\b|\bfailed-over\b", "failover is a noun: promote, take over"),
    (r"\b(?:TODO|FIXME|XXX)\b", "do it, or open an issue"),
    (r"\bNotImplementedError\b", "leave out what is not there"),
)
ALLOWED_PHRASES = re.compile(
    r"""\bdaemon\s*=|\.daemon\b       # threading's and multiprocessing's keyword and attribute
    |\bplatform\.node\b               # the standard library's name for the host's name
    |[Gg]unicorn(?:'s)?\ master       # gunicorn's own word for its first process
    |\b(?:process\ )?group\ leader    # POSIX's word""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Module:
    """One source file, parsed. `name` is dotted; a package's `__init__` has the package's name."""

    name: str
    path: str
    source: str
    tree: ast.Module
    is_package: bool = False

    @property
    def unit(self) -> str:
        """The row entry of LAYERS that it belongs to; empty for the package's own `__init__` and `__main__`."""
        parts = self.name.split(".")
        return "" if len(parts) == 1 or parts[1] == "__main__" else parts[1]

    def at(self, line: int, text: str) -> str:
        return f"{self.path}:{line}: {text}"


@dataclass(frozen=True)
class Import:
    """One imported name: `from module import name`, or `import module` with an empty name."""

    module: str
    name: str
    line: int

    @property
    def full(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module

    @property
    def top(self) -> str:
        return self.module.split(".")[0]


def parse(source: str, name: str, path: str = "snippet.py", is_package: bool = False) -> Module:
    """One module from its text."""
    return Module(name, path, source, ast.parse(source), is_package)


def load(source_dir: Path) -> list[Module]:
    """All modules of the package under `source_dir`."""
    found = []
    for path in sorted((source_dir / PACKAGE).rglob("*.py")):
        parts = list(path.relative_to(source_dir).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found.append(parse(path.read_text("utf-8"), name, str(path.relative_to(source_dir.parent)), is_package))
    return found


def imports(module: Module) -> Iterator[Import]:
    """Every import of the module, at its top or inside a function; `import_module("a")` and `__import__("a")` count."""
    package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(origin, alias.name, node.lineno)
        elif isinstance(node, ast.Call) and _name(node.func) in {"import_module", "__import__"} and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield Import(first.value, "", node.lineno)


def layer_order(module: Module) -> list[str]:
    """Imports point to a lower row of LAYERS, or stay within the unit; model and protocol know no settings."""
    row_of = {unit: row for row, units in enumerate(LAYERS) for unit in units}
    if not module.unit:
        return []  # the package's face and its __main__ gather what is below
    if module.unit not in row_of:
        return [module.at(1, f"unit {module.unit!r} has no place in LAYERS (tests/tidy.py)")]
    wrong = []
    for found in imports(module):
        if found.top != PACKAGE:
            continue
        unit = (*found.full.split("."), "")[1]
        if unit not in row_of:
            if module.unit not in LAYERS[-1] | LAYERS[-2] | LAYERS[-3]:
                wrong.append(module.at(found.line, f"{found.full}: only the ends use the package's public face"))
        elif unit == "config" and module.unit in PURE:
            wrong.append(module.at(found.line, f"{module.unit} may not import config: settings come as arguments"))
        elif unit != module.unit and row_of[unit] >= row_of[module.unit]:
            wrong.append(module.at(found.line, f"{module.unit} may not import {found.full}: it is not below it"))
    return wrong


def pure_imports(module: Module) -> list[str]:
    """Model and protocol import nothing that tells time, draws lots or touches the world, nor call for the time."""
    if module.unit not in PURE:
        return []
    wrong = [
        module.at(found.line, f"{module.unit} may not import {found.full}: it must come as an argument")
        for found in imports(module)
        if found.top in PURE_BANNED and found.full not in PURE_ALLOWED
    ]
    for node in ast.walk(module.tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr in PURE_CLOCK_CALLS and _name(node.func.value) in {"datetime", "date"}:
            wrong.append(module.at(node.lineno, f"{module.unit} may not ask {ast.unparse(node.func)}()"))
    return wrong


def library_owners(module: Module) -> list[str]:
    """Each library of OWNERS is imported by its own file only, also inside functions."""
    return [
        module.at(found.line, f"only {' or '.join(OWNERS[found.top])} may import {found.top}")
        for found in imports(module)
        if found.top in OWNERS and module.name not in OWNERS[found.top]
    ]


def sizes(module: Module) -> list[str]:
    """Files stop at 500 lines, functions at 60 lines of code (docstring, comments and empty lines not counted)."""
    lines = module.source.splitlines()
    wrong = []
    if len(lines) > FILE_LINES_MAX:
        wrong.append(module.at(1, f"{len(lines)} lines; a file stops at {FILE_LINES_MAX}"))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            skipped = range(first.lineno, (first.end_lineno or 0) + 1) if ast.get_docstring(node) is not None else ()
            numbers = (n for n in range(node.lineno, (node.end_lineno or node.lineno) + 1) if n not in skipped)
            code = sum(1 for n in numbers if lines[n - 1].strip() and not lines[n - 1].lstrip().startswith("#"))
            if code > FUNCTION_LINES_MAX:
                wrong.append(module.at(node.lineno, f"{node.name} has {code} lines; it stops at {FUNCTION_LINES_MAX}"))
    return wrong


def module_docstring(module: Module) -> list[str]:
    """Every module says what it decides or gives."""
    return [] if (ast.get_docstring(module.tree) or "").strip() else [module.at(1, "no module docstring")]


def banned_words(module: Module) -> list[str]:
    """No word of the house style's "Not" list, in prose or in names."""
    wrong = []
    for number, line in enumerate(module.source.splitlines(), start=1):
        text = ALLOWED_PHRASES.sub(" ", line)
        for word, better in BANNED_WORDS:
            endings = r"(?:s|ship|ize[ds]?|ise[ds]?|ized|ised)?(?![a-z])"
            own = rf"(?<![A-Za-z]){word}{endings}|(?<![A-Za-z]){word.upper()}S?(?![A-Za-z])"
            if re.search(rf"{own}|{word.capitalize()}{endings}", text):
                wrong.append(module.at(number, f"the word {word!r}: say {better}"))
        for pattern, better in BANNED_PHRASES:
            if match := re.search(pattern, text):
                wrong.append(module.at(number, f"{match.group()!r}: {better}"))
    return wrong


def dead_modules(modules: Iterable[Module], entry_points: Iterable[str] = ENTRY_POINTS) -> list[str]:
    """Every module is reached by imports from an entry point, or named in a string (`"understudy.demo.shop:app"`)."""
    by_name = {module.name: module for module in modules}
    roots = set(entry_points) | {name for name in by_name if name.endswith(".__main__")}
    seen: set[str] = set()
    waiting = [name for name in roots if name in by_name]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        waiting.append(name.rpartition(".")[0])  # importing a module runs its packages
        waiting += [target for found in imports(by_name[name]) for target in (found.module, found.full)]
        waiting += _named_in_strings(by_name[name])
    return [by_name[name].at(1, "no entry point reaches it") for name in sorted(set(by_name) - seen)]


def claims(module: Module) -> list[str]:
    """Every test's docstring is the claim that it proves."""
    return [
        module.at(node.lineno, f"{node.name} has no docstring")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test")
        and not (ast.get_docstring(node) or "").strip()
    ]


def sleeps(module: Module) -> list[str]:
    """No test waits for time to pass; `asyncio.sleep(0)`, which only lets others run, is no waiting."""
    return [
        module.at(node.lineno, "a sleep outside the system tests")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and _name(node.func) == "sleep"
        and not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    ]


def silent_skips(module: Module) -> list[str]:
    """A test that is skipped says why."""
    wrong = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and _name(node.func) in {"skip", "skipif", "xfail"}:
            said = any(k.arg in {"reason", "msg"} for k in node.keywords) or (
                _name(node.func) != "skipif" and node.args
            )
            if not said:
                wrong.append(module.at(node.lineno, f"{_name(node.func)} without a reason"))
    called = {id(node.func) for node in ast.walk(module.tree) if isinstance(node, ast.Call)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in {"skip", "xfail"} and id(node) not in called:
            wrong.append(module.at(node.lineno, f"{node.attr} without a reason"))
    return wrong


def _name(node: ast.expr) -> str:
    """The last part of a name: `sleep` of `time.sleep`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _named_in_strings(module: Module) -> list[str]:
    """Modules that the text names in a whole string, as one does for `python -m` and for servers."""
    pattern = re.compile(rf"({PACKAGE}(?:\.\w+)+)(?::[\w.()]+)?")
    strings = (n.value for n in ast.walk(module.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return [match.group(1) for text in strings if (match := pattern.fullmatch(text))]
