"""`python -m loam_operator`."""

from __future__ import annotations

import sys

from loam_operator.main import main

sys.exit(main())
