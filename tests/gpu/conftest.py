"""These tests exist only where a GPU is: elsewhere there is nothing to collect."""

from __future__ import annotations

import torch

collect_ignore_glob = [] if torch.cuda.is_available() else ["test_*.py"]
