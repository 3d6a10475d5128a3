from __future__ import annotations

import io
import json
import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam_runtime.observability.redaction import MASK, RedactingFilter, Redactor

SECRET = "s3cr3t-Value/With+Odd=Signs"
REDACTOR = Redactor({"OPENAI_API_KEY": SECRET, "PATH": "/usr/bin:/bin", "S3_KEY": "12345678abc"})


@pytest.mark.parametrize(
    "text",
    [
        f"failed with key {SECRET}!",
        "Authorization: Bearer abcdefgh12345678",
        "{'authorization': 'Basic dXNlcjpwYXNz'}",
        "curl -H 'authorization: abcdefgh12345678'",
        "bearer abcdefgh12345678==",
        "incorrect API key provided: sk-proj-abcdefgh12345678",
        "using AKIAIOSFODNN7EXAMPLE for the bucket",
        "aws_secret_access_key=abcdefgh12345678/abc",
        'export OPENAI_API_KEY="abcdefgh12345678"',
        "https://store/x?X-Amz-Credential=abcdefgh12345678&X-Amz-Date=1",
        "https://user:abcdefgh12345678@store/x",
        "hf_abcdefgh12345678abcd",
    ],
)
def test_secrets_are_masked(text):
    """Each is a shape in which real clients print a key into an error or a log line."""
    cleaned = REDACTOR.redact(text)
    assert MASK in cleaned
    for leaked in (SECRET, "abcdefgh12345678", "AKIAIOSFODNN7EXAMPLE", "dXNlcjpwYXNz"):
        assert leaked not in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "task-force of /usr/bin:/bin, 1,200 tokens",
        "key errors: token_type_ids, run_key=0a1b2c3d4e5f",
        "s3://bucket/path:with:colons and me@example.org",
        "the secret of good bread is time",
    ],
)
def test_ordinary_text_is_left_alone(text):
    """A log in which harmless words are masked is of no use to who reads it."""
    assert REDACTOR.redact(text) == text


def test_short_environment_values_are_not_masked():
    """API_KEY=test in a laptop's environment must not mask the word "test" everywhere."""
    assert Redactor({"API_KEY": "test"}).redact("a test") == "a test"


def test_values_under_secret_names_are_masked_at_any_depth():
    """A key handed to the log inside a settings dict is masked by its name alone."""
    value = {"teacher": [{"apiKey": "x1", "model": "m"}], "run_key": "abc", "num_tokens": 5}
    assert REDACTOR.redact_value(value) == {
        "teacher": [{"apiKey": MASK, "model": "m"}],
        "run_key": "abc",
        "num_tokens": 5,
    }


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(SECRET),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just(SECRET), inner),
    max_leaves=20,
)


@given(JSON_LIKE)
def test_redacted_values_are_strict_json_without_the_secret(value):
    """Whatever a stage logs ends as JSON that any parser reads (no NaN), and never as the key."""
    text = json.dumps(REDACTOR.redact_value(value), allow_nan=False)
    assert SECRET not in text


def test_number_types_survive():
    """Losses come as numpy scalars; as texts they could not be graphed from the log."""
    numpy = pytest.importorskip("numpy")
    redacted = REDACTOR.redact_value([numpy.float32(0.5), numpy.int64(3), True, math.nan])
    assert redacted == [0.5, 3, True, "nan"]


def test_filter_masks_messages_arguments_and_tracebacks():
    """Libraries log through the standard module; their arguments and tracebacks hold keys too."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter(REDACTOR))
    logger = logging.Logger("library")
    logger.addHandler(handler)
    try:
        raise ValueError(f"bad key {SECRET}")
    except ValueError:
        logger.exception("request with %s failed", SECRET)
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count(MASK) == 2
    assert "ValueError" in stream.getvalue()
