"""A remote teacher as a job names it, for tests in which nobody is asked."""

from __future__ import annotations

from typing import Any

TEACHER: dict[str, Any] = {
    "kind": "openai",
    "openai": {
        "baseURL": "https://teacher.example/v1",
        "model": "big",
        "apiKeySecretRef": {"name": "teacher", "key": "KEY"},
    },
}
