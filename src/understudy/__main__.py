"""``python -m understudy``: the command line, where its script is not on the path."""

from __future__ import annotations

import sys

from understudy.cli import main

sys.exit(main())
