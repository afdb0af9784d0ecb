"""Gives the command line's flags for options that a whole member must share; help shows variable and default."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from understudy.config import OPTIONS, VARIABLES, Option, describe, option_named

MEMBER_OPTIONS: tuple[Option, ...] = tuple(option for option in OPTIONS if option.scope == "member")

VARIABLES_HELP = "other variables:\n" + "\n".join(f"  {v.name}\n      {v.help}" for v in VARIABLES)


def add_options(parser: argparse.ArgumentParser, options: Iterable[Option] = MEMBER_OPTIONS) -> None:
    """Add a flag for each option; they are all texts here and typed when the configuration is read."""
    group = parser.add_argument_group("options", "each also as a variable or in understudy.toml; a flag wins over both")
    for option in options:
        group.add_argument(
            "--" + option.name.replace("_", "-"),
            dest="option_" + option.name,
            metavar=_metavar(option),
            # argparse formats help with %, which a description may hold.
            help=describe(option).replace("%", "%%"),
        )


def options_named(*names: str) -> tuple[Option, ...]:
    found = tuple(option_named(name) for name in names)
    return tuple(option for option in found if option is not None)


def flags_of(arguments: argparse.Namespace) -> dict[str, str]:
    """The options that were given: name -> text, as ``config.load`` takes them."""
    return {
        name.removeprefix("option_"): value
        for name, value in vars(arguments).items()
        if name.startswith("option_") and value is not None
    }


def as_arguments(flags: Mapping[str, str]) -> list[str]:
    """The same flags for another process of ours."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]


def as_variables(flags: Mapping[str, str]) -> dict[str, str]:
    """The same options as environment variables, for a process that is not ours."""
    variables = {}
    for name, value in flags.items():
        option = option_named(name)
        assert option is not None, f"no such option: {name}"
        variables[option.variable] = value
    return variables


def _metavar(option: Option) -> str:
    if option.kind == "bool":
        return "true|false"
    if option.kind == "address":
        return "HOST:PORT"
    if option.kind == "addresses":
        return "HOST:PORT,…"
    return option.file_key.removesuffix("_ms").upper()
