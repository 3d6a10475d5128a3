from __future__ import annotations

import pytest
from tests.tools.tiny_models import write_tiny_gguf

from loam_runtime.export.licenses import License, find_base_license

NOWHERE = "no licence in README.md, config.json or a licence file beside it"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"README.md": "---\nlicense: apache-2.0\n---\n# Model"},
            License("apache-2.0", "its README.md"),
        ),
        (
            {
                "README.md": "---\nlicense: other\nlicense_name: gemma\n"
                "license_link: https://example.com/terms\n---\n"
            },
            License("gemma", "its README.md", "https://example.com/terms"),
        ),
        (
            {"README.md": "---\nlicense: [mit, apache-2.0]\n---\n"},
            License("mit, apache-2.0", "its README.md"),
        ),
        (
            {"README.md": "# No front matter", "LICENSE": "\n\n  MIT License\n\nCopyright"},
            License("MIT License", "the title of its LICENSE"),
        ),
        ({"config.json": '{"license": "mit"}'}, License("mit", "its config.json")),
        (
            {"README.md": "---\nlicense: [\n---\n", "config.json": "not JSON"},
            License("", NOWHERE),
        ),
        ({"README.md": "---\n- a\n- b\n---\n"}, License("", NOWHERE)),
        ({}, License("", NOWHERE)),
    ],
)
def test_licence_is_found_where_models_keep_it(tmp_path, files, expected):
    """A damaged or missing file means "not stated", never a crash at the end of a long run."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert find_base_license(tmp_path) == expected


def test_licence_of_a_gguf_is_in_its_header(tmp_path):
    """A .gguf travels alone: what its header says must not be lost with the conversion."""
    path = write_tiny_gguf(tmp_path / "m.gguf", license_id="gemma")
    found = License("gemma", "general.license in the header of m.gguf")
    assert find_base_license(path) == found
    assert find_base_license(tmp_path) == found
    assert str(found) == "gemma (general.license in the header of m.gguf)"


def test_a_gguf_may_name_a_licence_of_its_own(tmp_path):
    """ "other" is no licence: the name and the address of its text are."""
    path = write_tiny_gguf(
        tmp_path / "m.gguf", license_id="other", license_name="terms", license_link="https://x.y/t"
    )
    found = find_base_license(path)
    assert (found.name, found.link) == ("terms", "https://x.y/t")


def test_a_gguf_without_a_licence_says_where_it_was_looked_for(tmp_path):
    """A reader can check the reason; a README beside the file is asked as well."""
    path = write_tiny_gguf(tmp_path / "m.gguf")
    assert str(find_base_license(path)) == "not stated (no licence in the header of m.gguf)"
    assert find_base_license(tmp_path).source == (
        "no licence in the header of m.gguf nor in "
        "README.md, config.json or a licence file beside it"
    )
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert find_base_license(tmp_path).name == "mit"
    path.write_bytes(b"damaged")
    assert find_base_license(tmp_path).name == "mit"
