from __future__ import annotations

import math

import pytest

from loam_runtime.report import formats


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00045, "0.45 ms"),
        (0.045, "45 ms"),
        (4.5, "4.5 s"),
        (245, "4 min 5 s"),
        (3720, "1 h 2 min"),
        (None, "n/a"),
        (math.nan, "n/a"),
    ],
)
def test_seconds_have_the_unit_of_their_size(seconds, text):
    """ "0.0 s" for a latency and "3720.0 s" for a training are both useless."""
    assert formats.format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1536, "1.5 KiB"), (1_876_000_000, "1.75 GiB"), (2**50, "1.02e+03 TiB")],
)
def test_bytes_are_binary_units(size, text):
    """Memory is bought in GiB; decimal units would be off by 7 %."""
    assert formats.format_bytes(size) == text


def test_differences_carry_their_sign():
    """A loss of three points must not read as a gain."""
    assert formats.format_difference(-0.034, "accuracy") == "-3.4 points"
    assert formats.format_difference(0.183, "accuracy") == "+18.3 points"
    assert formats.format_difference(-0.4, "logLoss") == "-0.4"


@pytest.mark.parametrize(
    ("name", "title"),
    [("macroF1", "Macro-F1"), ("rougeL", "ROUGE-L"), ("someNewMetric", "Some new metric")],
)
def test_metric_names_become_headings(name, title):
    """A metric that joins later is readable at once."""
    assert formats.title_metric(name).lower() == title.lower()


def test_long_texts_say_what_is_left_out():
    """A row of 100,000 words must not be the whole page, nor look complete."""
    text = formats.shorten("x" * 5000)
    assert len(text) < 500
    assert "4,600 more characters" in text
    assert formats.shorten("short") == "short"
