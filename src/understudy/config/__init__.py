"""Gives the settings of one member: which exist, what they are here, where each came from, and where its files are.

``OPTIONS`` is the one table of settings; ``load`` reads the file and the environment into a frozen ``Config``;
``open_directory`` and ``read_secrets`` prepare what the member keeps on disk. Nothing here talks to a store, an
agent or the network, and nothing here is known to ``model`` or ``protocol``: they are handed plain values.
"""

from __future__ import annotations

from understudy.config.directory import BASE, SOCKET_NAME, member_directory, open_directory
from understudy.config.options import OPTIONS, VARIABLES, Option, Variable, describe, option_named
from understudy.config.parse import Address, format_duration, parse_address, parse_duration, parse_size
from understudy.config.reading import load, unknown_variables
from understudy.config.secret import read_secrets, secret_origin
from understudy.config.settings import Config, agreed, shown

__all__ = [
    "BASE",
    "OPTIONS",
    "SOCKET_NAME",
    "VARIABLES",
    "Address",
    "Config",
    "Option",
    "Variable",
    "agreed",
    "describe",
    "format_duration",
    "load",
    "member_directory",
    "open_directory",
    "option_named",
    "parse_address",
    "parse_duration",
    "parse_size",
    "read_secrets",
    "secret_origin",
    "shown",
    "unknown_variables",
]
