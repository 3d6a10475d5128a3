"""Which columns hold what: detection, mapping, and the refusal to guess."""

from __future__ import annotations

import pytest

from loam_runtime.data.files import RawRow
from loam_runtime.data.formats import detect_layout
from loam_runtime.data.rows import MAX_ROW_CHARS, RowError, build_example
from loam_runtime.errors import InputError

CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "tea?"},
    {"role": "assistant", "content": "green"},
]


def read_row(values: dict, data):
    """The example in one row of a file that has these columns."""
    layout = detect_layout(list(values), data, "seeds.jsonl")
    is_label = data.task == "classification"
    return build_example(RawRow("seeds.jsonl", 3, values), layout, is_label=is_label, origin="seed")


@pytest.mark.parametrize(
    ("task", "values", "expected"),
    [
        ("classification", {"text": "a", "label": "x"}, ("a", "x")),
        ("classification", {"sentence": "a", "intent": "x", "idx": 7}, ("a", "x")),
        ("classification", {"text": "a", "label": 1, "label_text": "good"}, ("a", "1")),
        ("classification", {"text": "a", "label": 1.0}, ("a", "1")),
        ("classification", {"text": "a", "label": True}, ("a", "true")),
        ("classification", {"text": "a", "label": " two\n words "}, ("a", "two words")),
        ("classification", {"prompt": "a", "completion": "x"}, ("a", "x")),
        ("generation", {"prompt": "a", "completion": "x"}, ("a", "x")),
        ("generation", {"question": "a", "query": "SELECT 1"}, ("a", "SELECT 1")),
        ("generation", {"question": "how many?", "answer": 7}, ("how many?", "7")),
        ("generation", {"instruction": "a", "input": "b", "output": "x"}, ("a\n\nb", "x")),
        ("generation", {"instruction": "a", "input": "", "output": "x"}, ("a", "x")),
        ("generation", {"input": "a", "output": "x"}, ("a", "x")),
        ("extraction", {"context": "c", "question": "a", "answer": "x"}, ("c\n\na", "x")),
        ("extraction", {"context": None, "question": "a", "answer": "x"}, ("a", "x")),
        ("summarization", {"document": "a", "summary": "x", "section": "s"}, ("a", "x")),
        ("text", {"text": "a whole story", "label": "x"}, ("", "a whole story")),
    ],
)
def test_usual_columns_are_found(build_data, task: str, values: dict, expected: tuple[str, str]):
    """Common data sets load as they are, without a mapping."""
    example = read_row(values, build_data(task=task))
    assert (example.input, example.target) == expected
    assert example.source == "seeds.jsonl:3"


def test_chat_row_becomes_context_input_and_target(build_data):
    """The last question is the input, what came before it is context, the answer the target."""
    example = read_row({"messages": CHAT}, build_data(task="generation"))
    assert (example.input, example.target) == ("tea?", "green")
    assert [turn.role for turn in example.context] == ["system", "user", "assistant"]


def test_preference_rows_of_both_kinds(build_data):
    """Answers come as text beside a prompt, or as conversations that hold it."""
    data = build_data(task="generation")
    plain = read_row({"prompt": "a", "chosen": "x", "rejected": "y"}, data)
    assert (plain.input, plain.target, plain.rejected) == ("a", "x", "y")
    refused = [*CHAT[:-1], {"role": "assistant", "content": "mud"}]
    chat = read_row({"chosen": CHAT, "rejected": refused}, data)
    assert (chat.input, chat.target, chat.rejected) == ("tea?", "green", "mud")


def test_mapping_names_the_format_and_overrules_the_usual_columns(build_data):
    """What the user names is taken, and taken as it is."""
    data = build_data(fields={"text": "review", "label": "stars", "group": "shop"})
    values = {"review": "a", "stars": 5, "shop": 12, "text": "b", "label": "c"}
    example = read_row(values, data)
    assert (example.input, example.target, example.group) == ("a", "5", "12")
    data = build_data(task="extraction", fields={"prompt": "question"})
    values = {"context": "c", "question": "q", "answer": "x"}
    assert read_row(values, data).input == "q"


@pytest.mark.parametrize(
    ("task", "columns", "words"),
    [
        ("classification", ["review", "stars"], ["'review', 'stars'", "data.fields: {text:"]),
        ("generation", ["question", "query2"], ["no format", "data.fields: {chosen:"]),
        ("generation", ["messages", "prompt", "completion"], ["chat and promptCompletion"]),
        ("generation", ["prompt", "answer", "response"], ["'answer', 'response'", "completion"]),
        ("classification", ["sentence", "input", "label"], ["'sentence', 'input'", "fields.text"]),
        ("text", ["body"], ["'body'", "data.fields: {text:"]),
    ],
)
def test_columns_are_never_guessed(build_data, task: str, columns: list[str], words: list[str]):
    """A wrong guess trains on the wrong column; the message names the columns and the way out."""
    with pytest.raises(InputError) as caught:
        detect_layout(columns, build_data(task=task), "seeds.jsonl")
    for word in ["seeds.jsonl", *words]:
        assert word in str(caught.value)


def test_mappings_that_cannot_be_followed(build_data):
    """A misspelt column must not silently fall back to another one."""
    with pytest.raises(InputError, match=r"data\.fields\.label names the column 'stars'"):
        detect_layout(["text", "label"], build_data(fields={"label": "stars"}), "seeds.jsonl")
    both = build_data(fields={"label": "a", "completion": "b"})
    with pytest.raises(InputError, match="textLabel and promptCompletion"):
        detect_layout(["a", "b"], both, "seeds.jsonl")


def test_named_format_is_the_only_one_tried(build_data):
    """An explicit choice settles what would be ambiguous."""
    data = build_data(task="generation", rowFormat="promptCompletion")
    columns = ["messages", "prompt", "completion"]
    assert detect_layout(columns, data, "seeds.jsonl").row_format == "promptCompletion"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"text": "a", "label": None}, "'label' is null"),
        ({"text": "", "label": "x"}, "'text' is empty"),
        ({"text": " \u200b\n", "label": "x"}, "'text' holds white space only"),
        ({"text": 3, "label": "x"}, "'text' is a number, not text"),
        ({"text": ["a"], "label": "x"}, "'text' is a list, not text"),
        ({"text": "a", "label": {"b": 1}}, "'label' is an object, not text"),
        ({"text": "a", "label": float("nan")}, "'label' is null"),
        ({"text": "a\x00b", "label": "x"}, "'text' holds a NUL character"),
        ({"text": "a\ud800", "label": "x"}, "'text' is not Unicode"),
        ({"text": "word " * 100_000, "label": "x"}, "100,001 words (500,000 characters)"),
        ({"text": "a " * 100_000, "label": "x"}, f"over the bound of {MAX_ROW_CHARS:,} characters"),
    ],
)
def test_rows_that_cannot_be_used_say_why(build_data, values: dict, reason: str):
    """Each of these would train on nonsense, or break a later stage far from its cause."""
    with pytest.raises(RowError) as caught:
        read_row(values, build_data())
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "not a list of messages"),
        ("hi", "not a JSON list"),
        (CHAT[:-1], "the last message is not the assistant's"),
        (CHAT[:1], "the last message is not the assistant's"),
        ([CHAT[1], CHAT[1], CHAT[2]], "do not alternate"),
        ([CHAT[2]], "do not alternate"),
        ([{"role": "tool", "content": "x"}], "message 1 has the role 'tool'"),
        ([{"from": "human", "value": "x"}], "message 1 has no role and content"),
        ([CHAT[1], {"role": "assistant", "content": [{"text": "x"}]}], "message 2 is not text"),
        ([CHAT[1], {"role": "assistant", "content": " "}], "content of message 2 holds white"),
    ],
)
def test_conversations_that_cannot_be_used_say_why(build_data, messages, reason: str):
    """A conversation out of order would put one side's words into the other's mouth."""
    with pytest.raises(RowError) as caught:
        read_row({"messages": messages}, build_data(task="generation"))
    assert reason in str(caught.value)
