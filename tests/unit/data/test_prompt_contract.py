"""The wording around inputs and answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tools.tiny_models import build_tiny_tokenizer

from loam_runtime.data.examples import Turn
from loam_runtime.data.prompt import PromptContract, build_contract
from loam_runtime.errors import InputError

any_text = st.text(st.characters(codec="utf-8"), max_size=40)
label_names = st.lists(any_text.filter(str.strip), min_size=1, max_size=5).filter(
    lambda names: len({" ".join(name.split()) for name in names}) == len(names)
)


def build_sentiment_contract(build_data, **values) -> PromptContract:
    data = build_data(description="Is the review good?", **values)
    return build_contract(data, ["positive", "negative"])


def test_base_prompt_states_the_instruction_once(build_data):
    """Repeating it for every shot would cost tokens and teach the model to write it."""
    contract = build_sentiment_contract(build_data)
    prompt = contract.render_prompt("fine", shots=[("bad", "negative"), ("good", "positive")])
    assert prompt == (
        "Is the review good?\n\nText: bad\nLabel: negative\n\nText: good\nLabel: positive\n\n"
        "Text: fine\nLabel:"
    )


def test_prompt_without_shots_is_the_end_of_the_one_with_shots(build_data):
    """In-context baselines must ask in the very words that training uses."""
    contract = build_sentiment_contract(build_data, template={"prompt": "Say {labels}: {input} ="})
    assert contract.render_prompt("x") == "Say negative, positive: x ="
    shots = contract.render_prompt("x", shots=[("y", "negative")])
    assert shots == "Say negative, positive: y = negative\n\n" + contract.render_prompt("x")


def test_conversation_becomes_messages_and_transcript(build_data):
    """A row's own system turn joins the job's; earlier turns are never lost."""
    contract = build_contract(build_data(task="generation", template={"system": "Be brief."}), [])
    context = (Turn("system", "You sell tea."), Turn("user", "hi"), Turn("assistant", "hello"))
    messages = contract.render_messages("which tea?", context)
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[0]["content"] == "Be brief.\n\nYou sell tea."
    assert contract.render_prompt("which tea?", context) == (
        "Be brief.\n\nYou sell tea.\n\nUser: hi\nAssistant: hello\n\nInput: which tea?\nOutput:"
    )


@given(text=any_text)
def test_user_text_is_never_a_template(build_data, text: str):
    """Braces, place holders and template syntax in a row must reach the model as they are."""
    contract = build_sentiment_contract(build_data, template={"prompt": "<{input}> {labels}:"})
    for user_text in (text, "{labels}" + text, "{{ 7*7 }}{% raw %}{0}{input}{description}" + text):
        assert contract.render_prompt(user_text) == f"<{user_text}> negative, positive:"


@given(names=label_names, data=st.data())
def test_every_label_is_read_back_from_its_own_answer(build_data, names: list[str], data):
    """A label that cannot be recognised in the model's answer would always count as wrong."""
    contract = build_contract(build_data(), names)
    assert contract.labels == tuple(sorted(names))
    name = data.draw(st.sampled_from(names))
    answer = contract.render_target(name)
    assert answer.startswith(" ")
    assert contract.parse_answer(answer) == name
    assert contract.parse_answer(answer + "\nText: more") == name


def test_answer_is_read_whatever_its_case_but_never_guessed(build_data):
    """An answer that only resembles a label is invalid: the invalid rate must be true."""
    contract = build_contract(build_data(), ["US", "us", "World"])
    assert contract.parse_answer("world") == "World"
    assert contract.parse_answer("us") == "us"
    assert contract.parse_answer("Us") == ""
    assert contract.parse_answer("World news") == ""
    assert contract.parse_answer("") == ""


@given(names=label_names, system=any_text, description=any_text)
def test_contract_survives_its_file(build_data, names: list[str], system: str, description: str):
    """What is served later must be what was trained with, to the last character."""
    data = build_data(description=description, template={"system": system})
    contract = build_contract(data, names)
    assert PromptContract.from_json(contract.to_json()) == contract


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"task": 1}', "null"])
def test_broken_contract_file_is_refused(text: str):
    """A half-written file must not serve a prompt that was never trained."""
    with pytest.raises(InputError, match=r"loam_prompt\.json"):
        PromptContract.from_json(text)


def test_labels_that_cannot_be_told_apart_are_refused(build_data):
    """Two labels with one wording would silently merge two classes."""
    with pytest.raises(InputError, match="'a b'"):
        build_contract(build_data(), ["a b", "a  b"])
    with pytest.raises(InputError, match="negativ"):
        build_contract(
            build_data(template={"labels": {"negativ": "bad"}}), ["negative", "positive"]
        )
    with pytest.raises(InputError, match="nothing"):
        build_contract(build_data(template={"labels": {"negative": " "}}), ["negative", "positive"])


def test_chat_template_changes_wording_and_answer(build_data):
    """A chat model is asked; the space that a base model needs would be a wrong token there."""
    tokenizer = build_tiny_tokenizer(chat_template=True)
    contract = build_contract(build_data(), ["no", "yes"], tokenizer)
    assert contract.use_chat_template
    assert contract.render_target("yes") == "yes"
    assert "no, yes" in contract.render_messages("x")[-1]["content"]
    assert not build_contract(build_data(task="text"), [], tokenizer).use_chat_template


def test_plain_text_has_no_prompt(build_data):
    """Plain text is learnt whole, as it is."""
    contract = build_contract(build_data(task="text"), [])
    assert contract.render_prompt("") == ""
    assert contract.render_target("once upon") == "once upon"
