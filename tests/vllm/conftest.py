"""These tests exist only where vLLM is: elsewhere there is nothing to collect."""

from __future__ import annotations

import os

from loam_runtime.models.vllm_choice import VARIABLE

collect_ignore_glob = [] if os.environ.get(VARIABLE) else ["test_*.py"]
