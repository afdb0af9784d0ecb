"""``python -m understudy.agent``: how workers and ``understudy run`` start an agent."""

from __future__ import annotations

import sys

from understudy.agent.main import main

sys.exit(main())
