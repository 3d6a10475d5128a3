"""Training throughput on a CPU, in tokens per second of LoRA steps, side by side.

    python benchmarks/training.py [--model FOLDER_OR_GGUF] [--rounds 5]

Contenders, all with LoRA r=16 on q,k,v,o, AdamW, and 8 rows of 64 tokens a step, 4 of them learned:

- loam: our loop, with everything it does around a step (checks, events, batches);
- bare, supervised logits: the shortest PyTorch/PEFT loop with the head at learned positions only;
- bare, full logits: the same loop the usual way, `model(input_ids, labels=labels)`;
- trl: TRL's SFTTrainer, settings as close as it has them.

Rounds are interleaved, since the speed of a shared machine drifts; the median ratio of rounds is
reported. Without --model, the model has Gemma 3 270M's shape and random weights.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from loam_runtime.data.template import EncodedExample
from loam_runtime.models.loading import (
    load_base,
    prepare_model_folder,
    read_model_facts,
    resolve_precision,
)
from loam_runtime.storage.registry import open_store
from loam_runtime.training.checkpoint import CheckpointStore
from loam_runtime.training.config import TrainConfig
from loam_runtime.training.distributed import Distributed
from loam_runtime.training.loop import Recipe

ROWS, LENGTH, SUPERVISED = 8, 64, 4
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
LEARNING_RATE = 2e-4
STEPS_PER_ROUND = 2
Step = Callable[[], object]


def build_random_model(folder: Path) -> Path:
    """Gemma 3 270M's shape: 168 of its 268 M parameters are the vocabulary."""
    config = Gemma3TextConfig(
        vocab_size=262144,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        sliding_window=512,
        query_pre_attn_scalar=256,
    )
    Gemma3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def build_rows(vocabulary: int) -> list[EncodedExample]:
    ids = torch.randint(5, vocabulary, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    prompt = LENGTH - SUPERVISED
    return [EncodedExample(str(i), tuple(row), prompt) for i, row in enumerate(ids.tolist())]


def prepare_loam(folder: Path, rows: list[EncodedExample], scratch: Path, precision: str) -> Step:
    config = TrainConfig(
        "lora",
        LEARNING_RATE,
        max_steps=10_000,
        global_batch=ROWS,
        micro_batch=ROWS,
        target_modules=tuple(TARGETS),
        precision=precision,
    )
    checkpoints = CheckpointStore(open_store(f"file://{scratch}/store"), scratch / "work")
    alone = Distributed(torch.device("cpu"))
    recipe = Recipe(config, alone, checkpoints, on_event=lambda event: None)
    recipe.setup_data(rows, [])
    recipe.setup_model(folder)
    recipe.resume()
    return recipe.train_step


def prepare_bare(
    folder: Path, rows: list[EncodedExample], precision: str, *, full_logits: bool
) -> Step:
    model, inputs, labels = _build_bare(folder, rows, precision)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    causal = model.get_base_model()

    def compute_loss() -> torch.Tensor:
        if full_logits:
            return model(input_ids=inputs, labels=labels, use_cache=False).loss
        hidden = causal.model(input_ids=inputs, use_cache=False).last_hidden_state
        mask = labels[:, 1:] != -100
        logits = causal.lm_head(hidden[:, :-1][mask]).float()
        return functional.cross_entropy(logits, labels[:, 1:][mask])

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = compute_loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _build_bare(folder: Path, rows: list[EncodedExample], precision: str):
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    lora = LoraConfig(r=16, lora_alpha=64, lora_dropout=0.1, target_modules=TARGETS)
    model = get_peft_model(load_base(folder, device="cpu", dtype=dtype), lora).train()
    inputs = torch.tensor([row.input_ids for row in rows])
    labels = inputs.clone()
    labels[:, : LENGTH - SUPERVISED] = -100
    return model, inputs, labels


def prepare_trl(folder: Path, rows: list[EncodedExample], scratch: Path, precision: str) -> Step:
    """A training of one step each time, timed from inside: setting up is not counted."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from transformers.utils import logging
    from trl import SFTConfig, SFTTrainer

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model, inputs, labels = _build_bare(folder, rows, precision)
    columns = {"input_ids": inputs.tolist(), "labels": labels.tolist()}

    class StopWatch(TrainerCallback):
        def on_step_begin(self, *args: object, **kwargs: object) -> None:
            self.begun = self.begun if hasattr(self, "begun") else time.perf_counter()

        def on_step_end(self, args: object, state: object, *rest: object, **kwargs: object) -> None:
            self.seconds = time.perf_counter() - self.begun

    def step() -> float:
        settings = SFTConfig(
            output_dir=str(scratch / "trl"),
            per_device_train_batch_size=ROWS,
            max_steps=STEPS_PER_ROUND,
            learning_rate=LEARNING_RATE,
            bf16=precision == "bf16",
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            gradient_checkpointing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            disable_tqdm=True,
        )
        watch = StopWatch()
        trainer = SFTTrainer(
            model, settings, train_dataset=Dataset.from_dict(columns), callbacks=[watch]
        )
        trainer.train()
        return watch.seconds

    return step


def measure(step: Step, is_trl: bool) -> float:
    """Seconds of `STEPS_PER_ROUND` steps."""
    if is_trl:
        return step()
    start = time.perf_counter()
    for _ in range(STEPS_PER_ROUND):
        step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    arguments = parser.parse_args()
    dtype = resolve_precision(arguments.precision, "cpu")
    precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        folder = (
            prepare_model_folder(arguments.model)
            if arguments.model
            else build_random_model(scratch / "model")
        )
        rows = build_rows(read_model_facts(folder)["vocab_size"])
        steps = {
            "loam": prepare_loam(folder, rows, scratch, precision),
            "bare, supervised logits": prepare_bare(folder, rows, precision, full_logits=False),
            "bare, full logits": prepare_bare(folder, rows, precision, full_logits=True),
            "trl SFTTrainer": prepare_trl(folder, rows, scratch, precision),
        }
        report(steps, arguments.rounds, precision)


def report(steps: dict[str, Step], num_rounds: int, precision: str) -> None:
    """Print tokens per second and the median over rounds of loam's speed to each one's."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(num_rounds + 1):
        for name, step in steps.items():
            spent = measure(step, name.startswith("trl"))
            if index:  # the first round warms up
                seconds[name].append(spent)
                print(
                    f"round {index}  {name:26s} {spent / STEPS_PER_ROUND:6.2f} s/step", flush=True
                )
    tokens = ROWS * LENGTH * STEPS_PER_ROUND
    print(f"precision {precision}, {torch.get_num_threads()} threads, {num_rounds} rounds")
    for name, spent in seconds.items():
        ratio = statistics.median(s / o for s, o in zip(spent, seconds["loam"], strict=True))
        speed = tokens / statistics.median(spent)
        print(f"{name:26s} {speed:8.0f} tokens/s   loam is {ratio:5.2f} times as fast")


if __name__ == "__main__":
    main()
