"""manifest.json: where an artifact comes from, and the hash of every file that belongs to it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

from loam_runtime.errors import StorageError
from loam_runtime.export.adapter import BaseModel
from loam_runtime.export.errors import ExportError
from loam_runtime.storage.local import hash_file

MANIFEST_FILE = "manifest.json"
FORMAT_VERSION = 1
_LIBRARIES = (
    "loam",
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "datasets",
    "safetensors",
    "ray",
    "openai",
    "boto3",
)


def build_manifest(
    *,
    job: str,
    run_key: str,
    spec: Mapping[str, Any],
    base: BaseModel,
    inputs: Mapping[str, str],
    split: Mapping[str, Any],
    timings: Mapping[str, float],
    usage: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Any]],
    results: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest of a run, plain JSON.

    Args:
        spec: the resolved spec, without secrets.
        inputs: SHA-256 by what was read: seeds, test, validation.
        split: the record of which row went where.
        timings: seconds by stage.
        usage: teacher requests and tokens, device seconds.
        files: SHA-256 and size of every published file, as `describe_files` gives them.
        results: verdict, metrics and what the verification of the export measured.
    """
    return {
        "formatVersion": FORMAT_VERSION,
        "job": job,
        "runKey": run_key,
        "spec": dict(spec),
        "base": {
            "uri": base.uri,
            "revision": base.revision,
            "sha256": base.digest,
            "precision": base.precision,
            "license": {
                "name": base.license.name,
                "source": base.license.source,
                "link": base.license.link,
            },
        },
        "inputs": dict(inputs),
        "split": dict(split),
        "versions": collect_versions(),
        "timings": {stage: round(seconds, 3) for stage, seconds in timings.items()},
        "usage": dict(usage),
        "results": dict(results),
        "files": {name: dict(entry) for name, entry in sorted(files.items())},
    }


def describe_files(
    digests: Mapping[str, str], sizes: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """SHA-256 and size of published files: {"adapter/x": {"sha256": ..., "bytes": ...}}.

    Args:
        digests: by name, of every file that shall be there.
        sizes: in bytes, by name, of what is there.

    Raises:
        StorageError: a file is missing.
    """
    lost = sorted(digests.keys() - sizes.keys())
    if lost:
        raise StorageError(
            f"{len(lost)} files of this run have been deleted: {', '.join(lost[:5])}.",
            remedy="Delete the run's folder and run the job again.",
        )
    return {name: {"sha256": digest, "bytes": sizes[name]} for name, digest in digests.items()}


def verify_manifest(folder: Path) -> dict[str, Any]:
    """Check every file that `folder`'s manifest lists, and return the manifest.

    Raises:
        ExportError: the manifest cannot be read, or names the files that are missing or changed.
    """
    manifest = _read_manifest(folder)
    problems = [
        f"{name} {problem}"
        for name, entry in manifest["files"].items()
        if (problem := _find_problem(folder, name, entry))
    ]
    if problems:
        raise ExportError(
            f"{len(problems)} of {len(manifest['files'])} files of {folder} are not as published: "
            f"{'; '.join(problems[:5])}.",
            remedy="Download it again, or run the job again.",
        )
    return manifest


def collect_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that shape a result, where installed."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest["files"], dict):
            raise TypeError("its files are not a mapping")
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ExportError(
            f"{path} cannot be read: {exc!r}.", remedy="Download the whole folder again."
        ) from exc
    return manifest


def _find_problem(folder: Path, name: str, entry: Mapping[str, Any]) -> str:
    """What is wrong with one listed file; "" for nothing."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        return "lies outside the folder"
    path = folder / relative
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != entry["bytes"]:
        return f"has {path.stat().st_size} bytes instead of {entry['bytes']}"
    return "" if hash_file(path) == entry["sha256"] else "has another content"
