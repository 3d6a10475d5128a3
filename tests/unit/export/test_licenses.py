from __future__ import annotations

import pytest

from loam_runtime.export.licenses import find_base_license


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"README.md": "---\nlicense: apache-2.0\n---\n# Model"}, "apache-2.0"),
        ({"README.md": "---\nlicense: other\nlicense_name: gemma\n---\n"}, "gemma"),
        (
            {"README.md": "# No front matter", "LICENSE": "\n\n  MIT License\n\nCopyright"},
            "MIT License",
        ),
        ({"config.json": '{"license": "mit"}'}, "mit"),
        ({"README.md": "---\nlicense: [\n---\n", "config.json": "not JSON"}, ""),
        ({"README.md": "---\n- a\n- b\n---\n"}, ""),
        ({}, ""),
    ],
)
def test_licence_is_found_where_models_keep_it(tmp_path, files, expected):
    """A damaged or missing file means "not stated", never a crash at the end of a long run."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert find_base_license(tmp_path) == expected
