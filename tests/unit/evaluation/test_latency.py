"""Times of answers: what is compared with what, and that nothing is left changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.tools.tiny_models import build_tiny_model

from loam_runtime.data.template import encode_prompt, encode_target
from loam_runtime.evaluation import latency
from loam_runtime.evaluation.latency import MAX_ANSWER_TOKENS, Serving, measure_latencies
from loam_runtime.evaluation.servings import list_servings
from loam_runtime.models.language_model import LanguageModel
from loam_runtime.models.loading import load_base, load_tokenizer

from .conftest import build_contract, build_rows

NAMES = ["Base model", "Adapter on the base model", "Adapter merged into the base model"]
PROMPTS = [[2, 40, 50, 60], [2, 70, 80, 90]]


@pytest.fixture
def adapted(tmp_path) -> LanguageModel:
    """A tiny model with an adapter that changes its answers."""
    folder = build_tiny_model(tmp_path)
    base = load_base(folder, device="cpu", dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    return LanguageModel(model, load_tokenizer(folder))


def score(lm: LanguageModel) -> torch.Tensor:
    return torch.tensor(lm.score(PROMPTS, [[40, 41], [50, 51]]))


def test_each_way_is_what_its_name_says(adapted: LanguageModel) -> None:
    """The base answers as the base, merged weights as the adapter: else the adapter's cost would
    be that of something else."""
    with adapted.model.disable_adapter():
        untouched = score(adapted)
    scores = {}
    for serving in list_servings(adapted, can_merge=True):
        with serving.use():
            scores[serving.name] = score(serving.lm)
            is_merged = any(getattr(one, "merged", False) for one in adapted.model.modules())
            assert is_merged == ("merged" in serving.name)
    base, beside, merged = (scores[name] for name in NAMES)
    assert torch.equal(base, untouched)
    assert torch.allclose(beside, merged, atol=1e-3)
    assert not torch.allclose(base, beside, atol=1e-1)
    assert torch.allclose(score(adapted), beside, atol=1e-3), "nothing is left merged"


def test_a_base_of_4_bits_is_not_merged_into(adapted: LanguageModel, lm: LanguageModel) -> None:
    """That would round the weights to 4 bits again; the 16-bit model of the run is timed."""
    assert [one.name for one in list_servings(adapted, can_merge=False)] == NAMES[:2]
    servings = list_servings(adapted, lm, can_merge=False)
    assert [one.name for one in servings] == NAMES
    assert servings[2].lm is lm


def test_a_whole_model_is_timed_alone(lm: LanguageModel) -> None:
    """Full fine-tuning adds nothing to its base: there is nothing to compare."""
    (serving,) = list_servings(lm, can_merge=True)
    (measured,) = measure_latencies([serving], build_rows(6), build_contract())
    assert (measured.name, measured.ratio) == ("Fine-tuned model", None)
    assert 0 < measured.p50_seconds <= measured.p95_seconds
    assert measured.tokens_per_second > 0


class RecordingModel:
    """Answers at once, by a clock of its own, and notes whose turn it was."""

    def __init__(self, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model, self.tokenizer = lm.model, lm.tokenizer
        self.turns: list[str] = []
        self.asked: list[tuple[str, list[int], int]] = []
        self._now = 0.0
        monkeypatch.setattr(latency, "perf_counter", lambda: self._now)

    def generate(self, prompts, *, max_new_tokens: int, may_end: bool) -> None:
        assert not may_end
        name, (prompt,) = self.turns[-1], prompts
        self.asked.append((name, prompt, max_new_tokens))
        # The warm-up is slow, and the machine is held up for one request of all.
        is_first = sum(one[0] == name for one in self.asked) == 1
        held_up = len(self.asked) == 3
        self._now += 100 if is_first or held_up else {"a": 1.0, "b": 1.2}[name]

    @contextmanager
    def use(self, name: str) -> Iterator[None]:
        self.turns.append(name)
        yield

    def build_servings(self) -> list[Serving]:
        return [
            Serving("a", self, lambda: self.use("a")),
            Serving("b", self, lambda: self.use("b")),
        ]


def test_ways_take_turns_on_the_same_prompts(lm, monkeypatch) -> None:
    """A machine that is busy for a while must not make one way look slow; and the overhead is
    that of a request, whatever one of them met."""
    recorder = RecordingModel(lm, monkeypatch)
    rows, contract = build_rows(12), build_contract()
    first, second = measure_latencies(recorder.build_servings(), rows, contract, budget_seconds=1e9)
    assert recorder.turns == ["a", "b", "b", "a", "a", "b"]
    expected = [
        (
            encode_prompt(contract, lm.tokenizer, row["input"]),
            len(encode_target(contract, lm.tokenizer, row["target"])),
        )
        for row in rows
    ]
    for name in "ab":
        warm_up, *asked = [(prompt, num) for one, prompt, num in recorder.asked if one == name]
        assert asked == expected
        assert warm_up == expected[0]
    assert (first.num_requests, first.ratio) == (12, None)
    assert first.p50_seconds == 1
    assert first.p95_seconds > 1
    assert second.ratio.value == pytest.approx(1.2)
    assert second.ratio.low == pytest.approx(1.2)


def test_a_slow_model_is_asked_less(lm, monkeypatch) -> None:
    """A report must not take minutes for its times; some requests are measured at least."""
    recorder = RecordingModel(lm, monkeypatch)
    measured = measure_latencies(
        recorder.build_servings(), build_rows(12), build_contract(), budget_seconds=1
    )
    assert {one.num_requests for one in measured} == {5}


def test_long_answers_count_with_their_beginning(lm, monkeypatch) -> None:
    """Else one summary would take as long as the rest of the evaluation; a prompt for which the
    context has no room is left out."""
    recorder = RecordingModel(lm, monkeypatch)
    long_answer = "word " * 100
    rows = build_rows(4, targets=(long_answer,), prefix="x" * 10)
    measure_latencies(recorder.build_servings(), rows, build_contract("generation"))
    assert {num for _, _, num in recorder.asked} == {MAX_ANSWER_TOKENS}
    rows = build_rows(4, prefix="x y" * 1000)
    assert measure_latencies(recorder.build_servings(), rows, build_contract()) == []
