"""The one prompt contract: how an example becomes text, tokens, and an answer again.

Synthesis, training, in-context baselines, evaluation and serving all go through the same
`PromptContract`; it travels with the adapter as `loam_prompt.json`. Each stage inventing its
own wording is the commonest cause of silently bad adapters.

User data is never a template: place holders are filled in one pass, so braces in a row stay
what they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

from loam_runtime.data.examples import Turn
from loam_runtime.data.normalize import collapse_spaces
from loam_runtime.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from loam_api.finetunejob import DataSpec

PLACE_HOLDER = re.compile(r"\{(input|labels|description)\}")

# What a base model continues, and what a chat model is asked, where the user gives no wording.
BASE_WORDINGS = {
    "classification": "{description}\n\nText: {input}\nLabel:",
    "generation": "{description}\n\nInput: {input}\nOutput:",
    "extraction": "{description}\n\nText: {input}\nAnswer:",
    "summarization": "{description}\n\nDocument: {input}\nSummary:",
    "text": "",
}
CHAT_WORDINGS = {
    "classification": "{description}\n\nAnswer with one of these labels: {labels}\n\n{input}",
    "generation": "{description}\n\n{input}",
    "extraction": "{description}\n\n{input}",
    "summarization": "{description}\n\nSummarize:\n{input}",
    "text": "",
}

# Of an answer behind its rationale, as the teacher writes them too.
RATIONALE_START, RATIONALE_END = "<rationale>", "</rationale>"
ANSWER_START, ANSWER_END = "<answer>", "</answer>"
RATIONALE_PREFIX = "Explain step by step how the answer follows."


@dataclass(frozen=True, slots=True)
class PromptContract:
    """The wording around inputs and answers.

    Attributes:
        task: the job's task; "text" has no prompt at all.
        system: system prompt, "" for none.
        prompt: wording with `{input}`, and `{labels}` and `{description}` at will. Its
            paragraphs before the first with `{input}` are the instruction, which a few-shot
            prompt states once.
        description: the task in a sentence or two, "" for none.
        labels: label names, sorted; empty unless the task is classification.
        verbalizers: what the model writes for each label.
        use_chat_template: whether the tokenizer's chat template wraps the prompt.
        rationale_tokens: room for the rationale that the model writes before its answer, both in
            tags; 0 where it answers at once.
    """

    task: str
    system: str
    prompt: str
    description: str
    labels: tuple[str, ...]
    verbalizers: dict[str, str]
    use_chat_template: bool
    rationale_tokens: int = 0

    def render_messages(self, input: str, context: Sequence[Turn] = ()) -> list[dict[str, str]]:
        """The prompt as chat messages: a system message at most once and first; the user's last."""
        instruction, query = self._render_parts(input)
        messages = [{"role": "system", "content": text} for text in self._join_system(context)]
        spoken = [turn for turn in context if turn.role != "system"]
        messages += [{"role": turn.role, "content": turn.content} for turn in spoken]
        return [*messages, {"role": "user", "content": _join_paragraphs(instruction, query)}]

    def render_prompt(
        self, input: str, context: Sequence[Turn] = (), shots: Sequence[tuple[str, str]] = ()
    ) -> str:
        """The prompt as text for a model to continue; ends where generation starts, no space after.

        Args:
            input: the row's input.
            context: earlier turns of a chat, written as a transcript.
            shots: (input, target) pairs shown before it, separated by blank lines.
        """
        instruction, query = self._render_parts(input)
        examples = [
            self._render_parts(shot_input)[1] + self.render_target(target)
            for shot_input, target in shots
        ]
        transcript = "\n".join(
            f"{turn.role.capitalize()}: {turn.content}" for turn in context if turn.role != "system"
        )
        system = self._join_system(context)
        return _join_paragraphs(*system, instruction, *examples, transcript, query)

    def explain(self) -> PromptContract:
        """The contract of the second task: why an answer is right, under the same prompt.

        A prefix tells the two tasks apart, as in Distilling Step-by-Step; the prompt for answers
        stays as it is, so that inference and evaluation know of no rationale.
        """
        return replace(self, prompt=f"{RATIONALE_PREFIX}\n\n{self.prompt}")

    def render_target(self, target: str) -> str:
        """The answer as the model writes it; after a base model's prompt it starts with a space."""
        text = self.verbalizers.get(target, target) if self.labels else target
        if self.rationale_tokens:
            return f"{text}{ANSWER_END}"
        return self._join_to_prompt(text)

    def render_reasoning(self, rationale: str) -> str:
        """What stands between a prompt and its answer: a rationale, if any, and a tag."""
        told = f"{RATIONALE_START}{rationale}{RATIONALE_END}\n" if rationale else ""
        return self._join_to_prompt(f"{told}{ANSWER_START}")

    def parse_answer(self, text: str) -> str:
        """A generated answer as a label's name, "" if it is none; the stripped text in other tasks.

        A label is read from the first line; letter case counts only where labels differ in it.
        """
        if self.rationale_tokens:
            _, _, text = text.partition(ANSWER_START)
            text, _, _ = text.partition(ANSWER_END)
        if not self.labels:
            return text.strip()
        answer = collapse_spaces(text.strip().split("\n", 1)[0])
        by_wording = {wording: label for label, wording in self.verbalizers.items()}
        if answer in by_wording:
            return by_wording[answer]
        folded = [by_wording[key] for key in by_wording if key.casefold() == answer.casefold()]
        return folded[0] if len(folded) == 1 else ""

    def to_json(self) -> str:
        """The text of `loam_prompt.json`."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> PromptContract:
        """Read what `to_json` wrote.

        Raises:
            InputError: the text is not such a file.
        """
        try:
            values = json.loads(text)
            needed = {field.name for field in fields(cls) if field.default is MISSING}
            if not needed <= set(values) <= {field.name for field in fields(cls)}:
                raise ValueError("its keys are not a prompt contract's")
            return cls(**{**values, "labels": tuple(values["labels"])})
        except (ValueError, TypeError) as exc:
            raise InputError(
                f"loam_prompt.json cannot be read: {exc}.", remedy="Export the adapter again."
            ) from exc

    def _render_parts(self, input: str) -> tuple[str, str]:
        """The instruction, stated once, and the query, which every shot repeats."""
        head, query = split_wording(self.prompt)
        values = {
            "input": input,
            "description": self.description,
            "labels": ", ".join(self.verbalizers[label] for label in self.labels),
        }
        return _fill(head, values), _fill(query, values).rstrip()

    def _join_to_prompt(self, text: str) -> str:
        return text if self.use_chat_template or self.task == "text" else " " + text

    def _join_system(self, context: Sequence[Turn]) -> list[str]:
        turns = [turn.content for turn in context if turn.role == "system"]
        text = _join_paragraphs(self.system, *turns)
        return [text] if text else []


def split_wording(wording: str) -> tuple[str, str]:
    """The wording before the first paragraph with `{input}`, and from that paragraph on."""
    cut = wording.rfind("\n\n", 0, max(wording.find("{input}"), 0))
    return ("", wording) if cut < 0 else (wording[:cut], wording[cut + 2 :])


def build_contract(
    data: DataSpec, labels: Iterable[str], tokenizer: PreTrainedTokenizerBase | None = None
) -> PromptContract:
    """The contract of a job.

    Args:
        data: the job's data block.
        labels: the labels of the training rows; ignored unless the task is classification.
        tokenizer: the base model's; without one, or without its chat template, a base model.

    Raises:
        InputError: a wording without `{input}`, or labels that the answers could not tell apart.
    """
    use_chat_template = bool(getattr(tokenizer, "chat_template", None)) and data.task != "text"
    defaults = CHAT_WORDINGS if use_chat_template else BASE_WORDINGS
    names = tuple(sorted(set(labels))) if data.task == "classification" else ()
    prompt = data.template.prompt or defaults[data.task]
    if data.task == "text":
        prompt = ""
    elif "{input}" not in prompt:
        raise InputError(
            f"data.template.prompt lacks the place holder {{input}}: it is {prompt[:200]!r}.",
            remedy="Put {input} where the row's text belongs.",
        )
    return PromptContract(
        task=data.task,
        system=data.template.system.strip(),
        prompt=prompt,
        description=data.description.strip(),
        labels=names,
        verbalizers=_build_verbalizers(names, data.template.labels),
        use_chat_template=use_chat_template,
    )


def _build_verbalizers(names: Sequence[str], wordings: dict[str, str]) -> dict[str, str]:
    unknown = sorted(set(wordings) - set(names)) if names else []
    if unknown:
        raise InputError(
            f"data.template.labels names {unknown}, but the rows' labels are {list(names)}.",
            remedy="Correct the names, or leave those labels out.",
        )
    verbalizers = {name: collapse_spaces(wordings.get(name, name)) for name in names}
    by_wording: dict[str, str] = {}
    for name, wording in verbalizers.items():
        if not wording or wording in by_wording:
            clash = f"as for {by_wording[wording]!r}" if wording else "nothing"
            raise InputError(
                f"The model would write {wording!r} for the label {name!r}: {clash}.",
                remedy="Give every label a wording of its own in data.template.labels.",
            )
        by_wording[wording] = name
    return verbalizers


def _fill(wording: str, values: dict[str, str]) -> str:
    return PLACE_HOLDER.sub(lambda match: values[match[1]], wording)


def _join_paragraphs(*texts: str) -> str:
    return "\n\n".join(text.strip("\n") for text in texts if text.strip())
