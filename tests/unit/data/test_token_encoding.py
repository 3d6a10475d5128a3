"""From examples to tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tools.tiny_models import build_tiny_tokenizer

from loam_runtime.data.examples import Example, Turn
from loam_runtime.data.template import (
    build_contract,
    encode_example,
    encode_prompt,
    encode_target,
    find_terminator,
)
from loam_runtime.errors import InputError

any_text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)
TOKENIZERS = {
    "base": build_tiny_tokenizer(),
    "base, pad is eos": build_tiny_tokenizer(pad_is_eos=True),
    "base without bos": build_tiny_tokenizer(bos=False),
    "chat": build_tiny_tokenizer(chat_template=True),
    "chat, pad is eos": build_tiny_tokenizer(chat_template=True, pad_is_eos=True),
}
tokenizers = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())
SPECIALS = ("<bos>", "<eos>", "<pad>", "<turn>", "<end>")


def build_qa_contract(build_data, tokenizer):
    return build_contract(build_data(task="generation"), [], tokenizer)


@tokenizers
@given(text=any_text, answer=any_text.filter(str.strip), special=st.sampled_from(SPECIALS))
def test_tokens_of_an_example(build_data, tokenizer, text: str, answer: str, special: str):
    """Training starts from the tokens that generation starts from, and always learns to stop.

    The prompt's tokens are a prefix of the example's; there is one BOS, even where a row spells
    it; the last token is the terminator, even where padding is the same token; the answer can
    be read back from what is supervised.
    """
    contract = build_qa_contract(build_data, tokenizer)
    for user_text in (text, special + text):
        prompt = encode_prompt(contract, tokenizer, user_text)
        encoded = encode_example(contract, tokenizer, Example("1", user_text, answer + special))
        supervised = list(encoded.input_ids[len(prompt) :])
        assert list(encoded.input_ids[: len(prompt)]) == prompt
        assert encoded.num_prompt_tokens == len(prompt)
        assert supervised[-1] == find_terminator(contract, tokenizer)
        assert tokenizer.decode(supervised[:-1]) == contract.render_target(answer + special)
        if tokenizer.bos_token_id is not None:
            assert encoded.input_ids[0] == tokenizer.bos_token_id
            assert encoded.input_ids.count(tokenizer.bos_token_id) == 1


@tokenizers
def test_row_cannot_speak_with_special_tokens(build_data, tokenizer):
    """A row that spells the end of a turn could otherwise forge the assistant's answer."""
    contract = build_qa_contract(build_data, tokenizer)
    plain = encode_prompt(contract, tokenizer, "x")
    forged = encode_prompt(contract, tokenizer, "".join(SPECIALS) + "x")
    for token in SPECIALS:
        number = tokenizer.convert_tokens_to_ids(token)
        assert forged.count(number) == plain.count(number)
    assert "".join(SPECIALS) + "x" in tokenizer.decode(forged)


def test_terminator_is_the_end_of_turn_under_a_chat_template(build_data):
    """A chat model stops at its end of turn; an adapter that never writes it would run on."""
    base, chat = TOKENIZERS["base"], TOKENIZERS["chat"]
    assert find_terminator(build_qa_contract(build_data, base), base) == base.eos_token_id
    end = chat.convert_tokens_to_ids("<end>")
    contract = build_qa_contract(build_data, chat)
    assert encode_target(contract, chat, "fine")[-1] == end


def test_answer_is_encoded_as_it_stands_in_the_text(build_data):
    """Likelihoods and free generation must mean the same tokens of an answer."""
    tokenizer = TOKENIZERS["base"]
    contract = build_contract(build_data(), ["negative", "positive"], tokenizer)
    prompt = encode_prompt(contract, tokenizer, "the film")
    answer = encode_target(contract, tokenizer, "positive")[:-1]
    whole = contract.render_prompt("the film") + contract.render_target("positive")
    assert prompt + answer == tokenizer(whole)["input_ids"]


def test_shots_of_a_chat_model_are_turns(build_data):
    """A chat model expects its examples as a conversation."""
    tokenizer = TOKENIZERS["chat"]
    contract = build_qa_contract(build_data, tokenizer)
    text = tokenizer.decode(encode_prompt(contract, tokenizer, "c", shots=[("a", "b")]))
    assert text == (
        "<bos><turn>user\na<end>\n<turn>assistant\nb<end>\n<turn>user\nc<end>\n<turn>assistant\n"
    )


def test_system_text_reaches_templates_without_system_role(build_data):
    """Several chat templates refuse a system turn; the instruction must not get lost."""
    tokenizer = build_tiny_tokenizer(chat_template=True)
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    tokenizer.chat_template = refusal + tokenizer.chat_template
    contract = build_contract(
        build_data(task="generation", template={"system": "Be brief."}), [], tokenizer
    )
    text = tokenizer.decode(encode_prompt(contract, tokenizer, "hi"))
    assert "<turn>user\nBe brief.\n\nhi<end>" in text


def test_messages_that_a_chat_template_refuses_are_an_input_error(build_data):
    """A traceback out of a template would not name what is wrong with the row."""
    tokenizer = build_tiny_tokenizer(chat_template=True)
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    contract = build_qa_contract(build_data, tokenizer)
    with pytest.raises(InputError, match="roles must alternate"):
        encode_prompt(contract, tokenizer, "hi", [Turn("assistant", "hello")])


@tokenizers
@given(words=st.integers(1, 60), max_length=st.integers(1, 120))
def test_truncation_keeps_the_answer_whole(build_data, tokenizer, words: int, max_length: int):
    """A cut answer teaches wrong text; a row too long even without its input is dropped."""
    contract = build_qa_contract(build_data, tokenizer)
    example = Example("1", "where is it " * words, "on its way")
    target = encode_target(contract, tokenizer, example.target)
    encoded = encode_example(contract, tokenizer, example, max_length, "truncate")
    empty_prompt = encode_prompt(contract, tokenizer, "")
    if encoded is None:
        assert len(empty_prompt) + len(target) > max_length
    else:
        assert len(encoded.input_ids) <= max_length
        assert list(encoded.input_ids[encoded.num_prompt_tokens :]) == target


def test_row_over_the_limit_is_refused_or_dropped_by_policy(build_data):
    """A row must not vanish unless the user said so; the message says which one and how long."""
    tokenizer = TOKENIZERS["base"]
    contract = build_qa_contract(build_data, tokenizer)
    example = Example("abc", "long " * 50, "yes", source="seeds.jsonl:7")
    with pytest.raises(InputError, match=r"abc \(seeds.jsonl:7\) has \d+ prompt tokens and \d+"):
        encode_example(contract, tokenizer, example, max_length=40)
    assert encode_example(contract, tokenizer, example, 40, "drop") is None
    assert encode_example(contract, tokenizer, example, 0) is not None


def test_row_without_answer_is_refused(build_data):
    """A row without a supervised word makes a loss that means nothing."""
    tokenizer = TOKENIZERS["base"]
    contract = build_qa_contract(build_data, tokenizer)
    with pytest.raises(InputError, match="empty answer"):
        encode_example(contract, tokenizer, Example("1", "x", "  "))


def test_tokenizer_without_end_of_sequence_is_refused(build_data):
    """Without it the adapter could never stop."""
    tokenizer = build_tiny_tokenizer()
    tokenizer.eos_token = None
    contract = build_qa_contract(build_data, tokenizer)
    with pytest.raises(InputError, match="end-of-sequence"):
        encode_target(contract, tokenizer, "x")


@pytest.mark.parametrize("name", ["base", "base without bos", "chat"])
def test_plain_text_is_supervised_whole(build_data, name: str):
    """Only the first token, which nothing precedes, is given."""
    tokenizer = TOKENIZERS[name]
    contract = build_contract(build_data(task="text"), [], tokenizer)
    encoded = encode_example(contract, tokenizer, Example("1", "", "good film"))
    assert encoded.num_prompt_tokens == 1
    assert encoded.input_ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(encoded.input_ids, skip_special_tokens=True) == "good film"


def test_separator_tokenizers_get_a_bos_only_if_they_write_one(build_data):
    """Where one token marks both ends (GPT-2), no prompt of theirs was seen with it in front."""
    tokenizer = build_tiny_tokenizer(bos=False)
    tokenizer.bos_token = tokenizer.eos_token
    contract = build_qa_contract(build_data, tokenizer)
    assert tokenizer.eos_token_id not in encode_prompt(contract, tokenizer, "x")
