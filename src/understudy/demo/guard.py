"""Ends the members of a demonstration when whoever started them has gone, however it went.

Run as ``python -m understudy.demo.guard DIRECTORY``: waits for the end of its standard input, which comes when its
starter ends, also by SIGKILL; then ends every process of the members inside the directory, and removes it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from understudy.demo import processes

READ_BYTES = 4096


def main(base: Path) -> int:
    """Waits, then clears away what is left; harmless when nothing is."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # It ends by itself when its work is done; a Ctrl-C is meant for its starter, which may need seconds.
        signal.signal(number, signal.SIG_IGN)
    while os.read(sys.stdin.fileno(), READ_BYTES):
        pass
    processes.kill_below(base)
    shutil.rmtree(base, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
