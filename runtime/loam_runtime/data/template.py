"""From examples to tokens: what training supervises and where generation starts.

The tokens of an example are those of its prompt followed by those of its target, encoded
apart, so that training sees exactly the tokens from which generation will start. Text of a
row that spells a special token is encoded as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from loam_runtime.data.examples import Example, Turn
from loam_runtime.data.prompt import PromptContract, build_contract
from loam_runtime.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "EncodedExample",
    "PromptContract",
    "TooLongPolicy",
    "build_contract",
    "encode_example",
    "encode_prompt",
    "encode_rationale",
    "encode_reasoning",
    "encode_target",
    "find_terminator",
]

TooLongPolicy = Literal["fail", "drop", "truncate"]

# Rows with this character are refused when they are read, so it is free to mark where the
# text of a row must be cut for the tokenizer.
_CUT = "\x00"
_ANSWER_PROBE = "loam-answer"


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One row in tokens.

    Attributes:
        id: the example's.
        input_ids: prompt and target; the last one is the terminator.
        num_prompt_tokens: how many of them, from the left, are not supervised; at least 1.
        is_rationale: it teaches the rationale of the example encoded just before it.
        weight: of its tokens in the loss.
    """

    id: str
    input_ids: tuple[int, ...]
    num_prompt_tokens: int
    is_rationale: bool = False
    weight: float = 1.0


def encode_prompt(
    contract: PromptContract,
    tokenizer: PreTrainedTokenizerBase,
    input: str,
    context: Sequence[Turn] = (),
    shots: Sequence[tuple[str, str]] = (),
) -> list[int]:
    """The tokens from which generation starts, with exactly one BOS where the tokenizer has one.

    Raises:
        InputError: the chat template refuses these messages.
    """
    safe_input = _protect(tokenizer, input)
    turns = [Turn(turn.role, _protect(tokenizer, turn.content)) for turn in context]
    safe_shots = [(_protect(tokenizer, a), _protect(tokenizer, b)) for a, b in shots]
    if contract.use_chat_template:
        examples = _render_shot_turns(contract, safe_shots)
        text = _render_chat(tokenizer, contract.render_messages(safe_input, [*examples, *turns]))
    else:
        text = contract.render_prompt(safe_input, turns, safe_shots)
    return _add_bos(tokenizer, _encode_text(tokenizer, text))


def encode_target(
    contract: PromptContract, tokenizer: PreTrainedTokenizerBase, target: str
) -> list[int]:
    """The tokens of an answer as they follow the prompt, ended by the terminator.

    Raises:
        InputError: the tokenizer has no end-of-sequence token.
    """
    text = _protect(tokenizer, contract.render_target(target))
    ids = _encode_continuation(tokenizer, text) if text.startswith(" ") else []
    return [*(ids or _encode_text(tokenizer, text)), find_terminator(contract, tokenizer)]


def encode_reasoning(
    contract: PromptContract, tokenizer: PreTrainedTokenizerBase, rationale: str
) -> list[int]:
    """The tokens between prompt and answer where rationales come first; else none.

    The answer is encoded apart from them, so that it can be scored behind a rationale that the
    model wrote.
    """
    if not contract.rationale_tokens:
        return []
    text = _protect(tokenizer, contract.render_reasoning(rationale))
    ids = _encode_continuation(tokenizer, text) if text.startswith(" ") else []
    return ids or _encode_text(tokenizer, text)


def find_terminator(contract: PromptContract, tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an answer: the chat template's end of turn, else EOS.

    Raises:
        InputError: the tokenizer has no end-of-sequence token.
    """
    token = _find_end_of_turn(tokenizer) if contract.use_chat_template else None
    token = tokenizer.eos_token_id if token is None else token
    if token is None:
        raise InputError(
            "The model's tokenizer has no end-of-sequence token: an answer could never end.",
            remedy="Set eos_token in tokenizer_config.json of the model folder.",
        )
    return token


def encode_example(
    contract: PromptContract,
    tokenizer: PreTrainedTokenizerBase,
    example: Example,
    max_length: int = 0,
    on_too_long: TooLongPolicy = "fail",
) -> EncodedExample | None:
    """The tokens of a training row, or None where it is dropped for its length.

    Where rationales come first, a row that has none teaches its answer behind the answer's tag,
    and not to leave the rationale out.

    Args:
        max_length: most tokens of a row; 0 for no limit.
        on_too_long: "truncate" shortens the input from its end, never the answer; a row whose
            answer and wording alone are too long is dropped.

    Raises:
        InputError: an empty target; a row over `max_length` under "fail".
    """
    if not example.target.strip():
        raise InputError(f"The example {_name(example)} has an empty answer.")
    told_ids = encode_reasoning(contract, tokenizer, example.rationale)
    target_ids = [*told_ids, *encode_target(contract, tokenizer, example.target)]
    prompt_ids = encode_prompt(contract, tokenizer, example.input, example.context)
    if max_length and len(prompt_ids) + len(target_ids) > max_length:
        if on_too_long == "fail":
            raise InputError(
                f"The example {_name(example)} has {len(prompt_ids)} prompt tokens and "
                f"{len(target_ids)} answer tokens, over the {max_length} allowed.",
                remedy="Raise training.maxSequenceLength, or set training.onTooLong to drop or "
                "truncate.",
            )
        if on_too_long == "drop":
            return None
        room = max_length - len(target_ids)
        prompt_ids = _shorten_prompt(contract, tokenizer, example, room)
        if prompt_ids is None:
            return None
    # Without BOS, nothing precedes the first token of a plain text: it is given, not learnt.
    num_given = max(1, len(prompt_ids) + (0 if example.rationale else len(told_ids)))
    return EncodedExample(example.id, (*prompt_ids, *target_ids), num_given)


def encode_rationale(
    contract: PromptContract,
    tokenizer: PreTrainedTokenizerBase,
    example: Example,
    max_length: int = 0,
    on_too_long: TooLongPolicy = "fail",
) -> EncodedExample | None:
    """The tokens that teach an example's rationale, as `encode_example` does its answer.

    None where it has no rationale, or is dropped for its length.
    """
    if not example.rationale.strip():
        return None
    told = replace(example, target=example.rationale)
    encoded = encode_example(contract.explain(), tokenizer, told, max_length, on_too_long)
    return replace(encoded, is_rationale=True) if encoded else None


def _render_shot_turns(contract: PromptContract, shots: Sequence[tuple[str, str]]) -> list[Turn]:
    """Examples as a chat model expects them: a conversation before the one that counts."""
    turns: list[Turn] = []
    for input, target in shots:
        turns.append(Turn("user", contract.render_messages(input)[-1]["content"]))
        turns.append(Turn("assistant", contract.render_target(target)))
    return turns


def _shorten_prompt(
    contract: PromptContract, tokenizer: PreTrainedTokenizerBase, example: Example, room: int
) -> list[int] | None:
    """The prompt of the longest beginning of the input that takes at most `room` tokens."""

    def encode(num_characters: int) -> list[int]:
        return encode_prompt(contract, tokenizer, example.input[:num_characters], example.context)

    low, high = 0, len(example.input)
    best = None
    while low < high:
        middle = (low + high) // 2
        ids = encode(middle)
        if len(ids) <= room:
            best, low = ids, middle + 1
        else:
            high = middle
    return best


def _name(example: Example) -> str:
    return f"{example.id} ({example.source})" if example.source else example.id


def _encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = []
    for piece in text.split(_CUT):
        if piece:
            ids += tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _encode_continuation(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a text as they are in the middle of a line; [] where they cannot be told apart.

    Some tokenizers put a space before whatever they are given; after a colon they do not.
    """
    head = _encode_text(tokenizer, ":")
    ids = _encode_text(tokenizer, ":" + text)
    return ids[len(head) :] if ids[: len(head)] == head else []


def _add_bos(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    bos = _find_bos(tokenizer)
    return ids if bos is None or ids[:1] == [bos] else [bos, *ids]


@lru_cache(maxsize=8)
def _find_bos(tokenizer: PreTrainedTokenizerBase) -> int | None:
    bos = tokenizer.bos_token_id
    if bos is not None and bos == tokenizer.eos_token_id:
        # One separator for both ends (GPT-2 and its kin): no prompt of theirs starts with it
        # unless the tokenizer says so.
        return bos if tokenizer("a")["input_ids"][0] == bos else None
    return bos


def _protect(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text of a row, cut inside whatever spells a special token of this tokenizer."""
    text = text.replace(_CUT, "")
    pattern = _compile_special_tokens(tokenizer)
    return pattern.sub(lambda match: match[0][0] + _CUT + match[0][1:], text) if pattern else text


@lru_cache(maxsize=8)
def _compile_special_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    added = tokenizer.added_tokens_decoder.values()
    tokens = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
    longest_first = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


@lru_cache(maxsize=8)
def _find_end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The first special token that the chat template writes after an answer."""
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _ANSWER_PROBE}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    tail = text.rpartition(_ANSWER_PROBE)[2]
    pattern = _compile_special_tokens(tokenizer)
    match = pattern.search(tail) if pattern else None
    return tokenizer.convert_tokens_to_ids(match[0]) if match else None


def _render_chat(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    from jinja2 import TemplateError

    def render(turns: list[dict[str, str]]) -> str:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    try:
        return render(messages)
    except TemplateError as exc:
        if messages[0]["role"] == "system":
            return _render_chat(tokenizer, _fold_system(messages))
        raise InputError(
            f"The model's chat template refuses a row's messages: {exc}.",
            remedy="User and assistant turns must alternate, and start with the user's.",
        ) from exc


def _fold_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The system text put before the first message, for chat templates that know no system role."""
    system, first, *rest = messages
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]
