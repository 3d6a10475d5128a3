"""Training on one GPU with random weights: tokens per second, MFU, peak memory.

    python benchmarks/gpu.py --size 8b --method lora --length 4096 --micro-batch 2

Needs a CUDA device; no Ray, no download. FLOPs a token: 4N for LoRA and QLoRA (the frozen
weights get no gradient of their own), 6N for full; N counts all parameters that multiply, so not
the input embedding.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from loam_runtime.data.template import EncodedExample
from loam_runtime.models.loading import resolve_device
from loam_runtime.storage.registry import open_store
from loam_runtime.training.config import TrainConfig
from loam_runtime.training.local import fit_locally

# Layers, width, MLP width, heads, key-value heads: Llama 3's family.
SIZES = {
    "1b": (16, 2048, 8192, 32, 8),
    "3b": (28, 3072, 8192, 24, 8),
    "8b": (32, 4096, 14336, 32, 8),
}
VOCABULARY = 128256
WARMUP_STEPS = 3
FLOPS_PER_PARAMETER = {"lora": 4, "qlora": 4, "full": 6}
LEARNING_RATE = {"lora": 2e-4, "qlora": 2e-4, "full": 2e-5}


def build_model(size: str, folder: Path) -> int:
    """Write a model of random bf16 weights; returns the number of parameters that multiply."""
    layers, width, mlp_width, heads, kv_heads = SIZES[size]
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=mlp_width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=8192,
        dtype="bfloat16",
    )
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(default)
    model.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters()) - VOCABULARY * width


def build_rows(num_rows: int, length: int, num_supervised: int) -> list[EncodedExample]:
    """Random rows of equal length."""
    ids = torch.randint(5, VOCABULARY, (num_rows, length)).tolist()
    return [
        EncodedExample(str(i), tuple(row), length - num_supervised) for i, row in enumerate(ids)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="1b")
    parser.add_argument("--method", choices=FLOPS_PER_PARAMETER, default="lora")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a row")
    parser.add_argument("--supervised", type=int, default=0, help="learned tokens of a row; 0: all")
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--peak-tflops", type=float, default=989, help="bf16 dense; 989 is an H100")
    arguments = parser.parse_args()
    config = TrainConfig(
        arguments.method,
        LEARNING_RATE[arguments.method],
        max_steps=arguments.steps + WARMUP_STEPS,
        global_batch=arguments.micro_batch,
        micro_batch=arguments.micro_batch,
        precision="bf16",
        device=resolve_device("cuda"),
        checkpoint_every_seconds=1e9,
    )
    rows = build_rows(
        arguments.micro_batch, arguments.length, arguments.supervised or arguments.length - 1
    )
    speeds: list[float] = []

    def note_speed(event: dict) -> None:
        if event["event"] == "step" and event["step"] > WARMUP_STEPS:
            speeds.append(event["tokens_per_second"])

    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        num_parameters = build_model(arguments.size, scratch / "model")
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        result = fit_locally(
            config,
            scratch / "model",
            rows,
            [],
            storage=open_store(f"file://{scratch}/store"),
            work_dir=scratch / "work",
            output_dir=scratch / "adapter",
            on_event=note_speed,
        )
    speed = statistics.median(speeds)
    flops = FLOPS_PER_PARAMETER[arguments.method] * num_parameters * speed
    print(
        f"{torch.cuda.get_device_name()}, {arguments.size} {arguments.method}, "
        f"{result.micro_batch} x {arguments.length}: {speed:,.0f} tokens/s, "
        f"MFU {flops / arguments.peak_tflops / 1e12:.1%}, "
        f"peak {result.peak_memory_bytes / 2**30:.1f} GiB"
    )


if __name__ == "__main__":
    main()
