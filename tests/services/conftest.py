"""Tests that need services of the machine run only when asked for: tests/run all, tests/run services."""

import os
import sys

collect_ignore_glob = [] if os.environ.get("AGENT_TESTS_SERVICES") == "1" else ["test_*.py"]
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(__file__)), "chaos"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(__file__)), "unit"))
