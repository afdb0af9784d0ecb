"""The demo: three members on this machine, a shop to click in, and a page with buttons that kill a member.

``main`` is ``understudy demo``; what it does is in ``command``. ``check`` does without a person what a person would do;
``cluster`` drives the members' processes, also for the system tests.
"""

from __future__ import annotations


def main(arguments: list[str]) -> int:
    """``understudy demo``: gives the exit code. What it needs is loaded now, so that other commands start fast."""
    from understudy.demo.command import main as run

    return run(arguments)
