"""From a YAML file to a validated FineTuneJob, with every error in one go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from loam_api.exits import ExitCode
from loam_runtime.errors import LoamError

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJob


class ManifestFileError(LoamError):
    """The file is missing, is not YAML, or holds something else than one FineTuneJob."""

    exit_code = ExitCode.BAD_MANIFEST


class _StrictLoader(yaml.SafeLoader):
    """YAML without silently overwritten keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def load_manifest(path: Path) -> FineTuneJob:
    """Read and validate one FineTuneJob.

    Raises:
        ManifestFileError: unreadable file, broken YAML, or not exactly one document.
        loam_api.validation.ManifestError: all problems of the document at once.
    """
    from loam_api.validation import validate_manifest

    return validate_manifest(read_document(path))


def check_manifest(path: Path) -> None:
    """Validate one FineTuneJob or FineTuneProfile.

    Raises:
        ManifestFileError: unreadable file, broken YAML, or not exactly one document.
        loam_api.validation.ManifestError: all problems of the document at once.
    """
    from loam_api.validation import validate_manifest, validate_profile

    document = read_document(path)
    if document.get("kind") == "FineTuneProfile":
        validate_profile(document)
    else:
        validate_manifest(document)


def read_document(path: Path) -> dict[str, Any]:
    """The single YAML (or JSON) document of a file, unvalidated."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ManifestFileError(
            f"{path} cannot be read: {exc}.", remedy="Give the path of a FineTuneJob manifest."
        ) from exc
    try:
        documents = [d for d in yaml.load_all(text, _StrictLoader) if d is not None]
    except yaml.YAMLError as exc:
        raise ManifestFileError(
            f"{path} is not valid YAML: {' '.join(str(exc).split())}.",
            remedy="Mend the line named; indentation is by spaces.",
        ) from exc
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise ManifestFileError(
            f"{path} holds {len(documents)} documents where one FineTuneJob is expected.",
            remedy="Keep one manifest a file.",
        )
    return documents[0]
