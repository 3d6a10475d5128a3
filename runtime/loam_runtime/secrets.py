"""Where a secret's value is: a mounted file in a pod, an environment variable on a laptop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from loam_runtime.errors import CredentialsError

if TYPE_CHECKING:
    from loam_api.finetunejob import SecretKeyRef

# In a pod each Secret is a folder here, each of its keys a file.
SECRETS_DIR_VARIABLE = "LOAM_SECRETS_DIR"


def read_secret(reference: SecretKeyRef) -> str:
    """The value of one key of a Secret.

    Raises:
        CredentialsError: it is nowhere, or empty.
    """
    folder = os.environ.get(SECRETS_DIR_VARIABLE)
    if folder:
        path = Path(folder) / reference.name / reference.key
        value = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        remedy = f"Put the key {reference.key} into the Secret {reference.name}."
    else:
        value = os.environ.get(reference.key, "").strip()
        remedy = f"Set the environment variable {reference.key}."
    if not value:
        raise CredentialsError(
            f"The key {reference.key} of the secret {reference.name} is missing.", remedy=remedy
        )
    return value
