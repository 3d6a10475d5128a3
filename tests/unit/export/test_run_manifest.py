from __future__ import annotations

import json
import math

import pytest

from loam_runtime.errors import StorageError
from loam_runtime.export.adapter import BaseModel
from loam_runtime.export.errors import ExportError
from loam_runtime.export.licenses import License
from loam_runtime.export.manifest import build_manifest, describe_files, verify_manifest
from loam_runtime.storage.local import hash_file


@pytest.fixture
def published(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "report.html").write_bytes(b"<p>")
    paths = {"adapter/adapter_model.safetensors", "report.html"}
    digests = {name: hash_file(tmp_path / name) for name in paths}
    sizes = {name: (tmp_path / name).stat().st_size for name in paths}
    manifest = build_manifest(
        job="tickets",
        run_key="0a1b",
        spec={"model": {"uri": "hf://org/tiny"}},
        base=BaseModel("hf://org/tiny", "v2", "ab" * 32, "nf4", License("mit", "its README.md")),
        inputs={"seeds": "cd" * 32},
        split={"numTrain": 3},
        timings={"train": 1.23456},
        usage={"teacherRequests": 0},
        files=describe_files(digests, sizes),
        results={"accuracy": 0.5},
    )
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_manifest_has_the_whole_lineage(published):
    """Years later the manifest alone must say what made this artifact."""
    manifest = verify_manifest(published)
    assert manifest["base"]["sha256"] == "ab" * 32
    assert manifest["base"]["precision"] == "nf4"
    assert manifest["base"]["license"]["name"] == "mit"
    assert manifest["timings"] == {"train": 1.235}
    assert set(manifest["files"]) == {"adapter/adapter_model.safetensors", "report.html"}
    assert manifest["files"]["report.html"]["bytes"] == 3
    assert {"python", "loam", "torch", "transformers", "peft"} <= set(manifest["versions"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"weightS", "another content"), (b"weight", "has 6 bytes instead of 7"), (None, "missing")],
)
def test_a_changed_or_missing_file_is_named(published, content, problem):
    """A damaged download must be refused before its weights are used."""
    path = published / "adapter" / "adapter_model.safetensors"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ExportError, match=f"adapter_model.safetensors .*{problem}"):
        verify_manifest(published)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "adapter/../../outside"])
def test_names_outside_the_folder_are_refused(published, name):
    """A manifest is data from a bucket: it must not make anyone read other files."""
    (published.parent / "outside").write_bytes(b"")
    manifest = json.loads((published / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": "", "bytes": 0}
    (published / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match="outside the folder"):
        verify_manifest(published)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": []}', "\x00"])
def test_a_damaged_manifest_is_an_error(tmp_path, text):
    """Half a manifest must not verify as "nothing listed, nothing wrong"."""
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ExportError, match="cannot be read"):
        verify_manifest(tmp_path)


def test_manifest_is_plain_json(published):
    """Other languages read it: no NaN, no Python types."""
    manifest = verify_manifest(published)
    assert json.loads(json.dumps(manifest, allow_nan=False)) == manifest
    assert math.isclose(manifest["results"]["accuracy"], 0.5)


def test_a_file_that_is_gone_is_not_published():
    """A manifest that names a deleted file would be found broken by whoever downloads the run."""
    with pytest.raises(StorageError, match=r"1 files .* deleted: adapter/x"):
        describe_files({"adapter/x": "ab", "report.html": "cd"}, {"report.html": 3})
