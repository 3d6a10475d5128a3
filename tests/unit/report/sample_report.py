"""A realistic report's data, for the tests of the page; every number fits every other."""

from __future__ import annotations

import math
import random

from loam_runtime.report.data import Estimate, ReportData, ReviewPage

LABELS = ["billing", "delivery", "returns", "technical", "account"]
COUNTS = [
    [21, 1, 2, 0, 0],
    [0, 23, 1, 0, 0],
    [2, 1, 20, 1, 0],
    [0, 0, 0, 22, 2],
    [1, 0, 0, 1, 22],
]


def build_sample_report(**changes: object) -> ReportData:
    """A finished classification run with synthesis; `changes` replace whole parts."""
    report = {
        "job": "support-tickets",
        "task": "classification",
        "model": "hf://google/gemma-3-270m",
        "created_at": "2026-11-23T09:41:07Z",
        "run_key": "4f1c9a70b2de6635",
        "verdict": build_verdict(),
        "evaluation": build_evaluation(),
        "judge": build_judge(),
        "training": build_training(),
        "data": build_data(),
        "synthesis": build_synthesis(),
        "stages": build_stages(),
        "usage": [
            {"name": "Teacher", "value": "the base model itself"},
            {"name": "Teacher requests", "value": "412, of them 0 from the journal"},
            {"name": "Teacher tokens", "value": "61,840 read, 18,306 written"},
            {"name": "Device", "value": "2 CPU cores"},
        ],
        "plan": build_plan(),
        "warnings": ["The label-consistency filter was not trusted for the label account."],
        "lineage": [
            {"name": "Seeds", "value": "sha256:" + "3f9a7c12" * 8},
            {"name": "Base model", "value": "sha256:" + "b81d04e5" * 8},
            {"name": "Base precision", "value": "nf4"},
            {"name": "Random seed", "value": "0"},
            {"name": "loam", "value": "0.1.0"},
            {"name": "torch", "value": "2.15.0"},
            {"name": "transformers", "value": "5.23.0"},
            {"name": "peft", "value": "0.21.2"},
        ],
    }
    return {**report, **changes}


def build_verdict() -> dict:
    return {
        "text": "Fine-tuning beats the best baseline, the base model with examples in its prompt: "
        "accuracy 0.900 against 0.717 on 120 held-out rows, difference +0.183 (95 % interval "
        "+0.100 to +0.267).",
        "is_assessable": True,
        "wins": True,
        "best_baseline": "In-context, 4 shots a class",
        "difference": {"value": 0.183, "low": 0.1, "high": 0.267},
    }


def estimate(value: float, width: float = 0.08) -> Estimate:
    return {"value": value, "low": max(0.0, value - width), "high": min(1.0, value + width * 0.8)}


def build_evaluation() -> dict:
    names = [
        ("Fine-tuned", 0.9, 0.899, 0.0, 0.055),
        ("In-context, 4 shots a class", 0.717, 0.702, 0.05, 0.081),
        ("Zero-shot", 0.392, 0.331, 0.233, 0.088),
        ("Majority class", 0.2, 0.067, None, 0.072),
    ]
    models = []
    for index, (name, accuracy, macro_f1, invalid, width) in enumerate(names):
        metrics = {"accuracy": estimate(accuracy, width), "macroF1": estimate(macro_f1, width)}
        if invalid is not None:
            metrics["invalidRate"] = estimate(invalid, 0.03)
        models.append({"name": name, "is_fine_tuned": index == 0, "metrics": metrics})
    return {
        "num_test_rows": sum(map(sum, COUNTS)),
        "primary_metric": "accuracy",
        "models": models,
        "confusion": {"labels": LABELS, "predicted": LABELS, "counts": COUNTS},
        "predictions": build_predictions(),
        "latency": [
            build_latency("Base model", 0.187, None),
            build_latency("Adapter on the base model", 0.212, (1.13, 1.08, 1.19)),
            build_latency("Adapter merged into the base model", 0.188, (1.01, 0.97, 1.04)),
        ],
    }


def build_latency(name: str, p50: float, ratio: tuple[float, float, float] | None) -> dict:
    return {
        "name": name,
        "p50_seconds": p50,
        "p95_seconds": p50 + 0.136,
        "tokens_per_second": 4 / p50,
        "num_requests": 20,
        "max_answer_tokens": 32,
        "ratio": dict(zip(("value", "low", "high"), ratio, strict=True)) if ratio else None,
    }


def build_judge() -> dict:
    return {
        "judge": "large-judge",
        "text": "The judge large-judge prefers the fine-tuned model's answers to those of the base "
        "model with examples in its prompt: win rate 0.704 on 120 held-out rows (95 % interval "
        "0.638 to 0.767). 66 wins, 37 ties, 17 losses.",
        "is_assessable": True,
        "prefers_tuned": True,
        "trust_note": "Measured first, it preferred a row's true answer to that of another row, in "
        "both orders, on 19 of 20 rows (exact binomial against chance: p = 2e-05): trusted.",
        "num_judged": 120,
        "counts": {"win": 66, "tie": 37, "loss": 17, "unreadable": 2, "unanswered": 0},
        "num_inconsistent": 21,
        "win_rate": estimate(0.704),
        "baseline": "In-context, 4 shots a class",
        "samples": [
            {
                "input": "Where is my refund?",
                "target": "It leaves us within five days.",
                "tuned": "Within five days of its arrival.",
                "baseline": "A refund is money that is given back.",
                "outcome": "win",
                "reason": "Only A says when the money comes.",
            },
            {
                "input": "Can I change the address?",
                "target": "Yes, until it is packed.",
                "tuned": "Yes.",
                "baseline": "",
                "outcome": "tie: the orders differ",
                "reason": "",
            },
        ],
    }


def build_predictions() -> list[dict]:
    rows = [
        ("I sent the kettle back ten days ago. Where is my refund?", "returns", "billing"),
        ("Since the update the app closes when I sign in.", "technical", "account"),
        ("My parcel shows as delivered, but nothing is here.", "delivery", "delivery"),
        ("You charged my card twice for order 88213.", "billing", "billing"),
        ("How do I change the e-mail address of my profile?", "account", "account"),
    ]
    return [
        {
            "input": text,
            "target": target,
            "prediction": answer,
            "base_prediction": "delivery",
            "is_right": target == answer,
        }
        for text, target, answer in rows
    ]


def build_training(steps: int = 120) -> dict:
    noise = random.Random(0)
    losses = [
        0.12 + 2.3 * math.exp(-step / 22) + 0.25 * noise.random() * math.exp(-step / 60)
        for step in range(steps)
    ]
    validation = [
        (step, 0.24 + 2.1 * math.exp(-step / 20) + 0.0006 * step) for step in range(15, steps, 15)
    ]
    return {
        "method": "qlora",
        "losses": losses,
        "validation": validation,
        "steps": steps,
        "best_step": 90,
        "stopped_early": True,
        "num_trainable_parameters": 737_280,
        "num_parameters": 268_835_456,
        "num_supervised_tokens": 5_772,
        "tokens_per_second": 486.7,
        "peak_memory_bytes": 1_876_000_000,
    }


def build_data() -> dict:
    return {
        "num_seed_rows": 126,
        "num_train_rows": 100,
        "num_validation_rows": 20,
        "num_test_rows": 120,
        "num_duplicates": 3,
        "num_conflicts": 1,
        "bad_rows": [{"file": "seeds.jsonl", "row": 41, "reason": "text is empty"}],
        "num_bad_rows": 2,
        "notes": ["Every label has at least 10 rows, so 20 % were set aside for validation."],
    }


def build_synthesis() -> dict:
    return {
        "strategy": "inContext",
        "teacher": "the base model itself",
        "num_requested": 240,
        "num_generated": 412,
        "num_kept": 236,
        "rejected": {
            "duplicate of another row": 71,
            "label not confirmed": 63,
            "malformed": 24,
            "contaminated": 18,
        },
        "per_class": [
            {"label": label, "generated": generated, "kept": kept}
            for label, generated, kept in zip(
                LABELS, [84, 82, 79, 85, 82], [48, 50, 44, 51, 43], strict=True
            )
        ],
        "analysis": [{"name": "Task", "value": "Each input gets one of 5 labels."}],
        "gaps": ["No seed asks a question."],
        "variation": [
            {
                "attribute": "length",
                "value": "short, about 4 words",
                "asked": 140,
                "written": 131,
                "kept": 80,
                "median_words": 5,
            }
        ],
        "funnel": [
            {
                "name": "nearDuplicates",
                "seen": 500,
                "passed": 420,
                "rejected_samples": [
                    {
                        "input": "The courier left my box in the rain!",
                        "target": "delivery",
                        "reason": "nearly equal to a seed",
                    }
                ],
            }
        ],
        "measures": [{"name": "Dispersion", "synthetic": "0.71", "seeds": "0.80"}],
        "rationale_note": "Rationales were written for 98 of the 100 training rows that had an "
        "input and no rationale (3 of them asked about twice), after the rows' own answers; "
        "prompts and what was written for them took 21,400 tokens. The others have none, by "
        "the last fault of each: no answer (2).",
        "filter_note": "The label-consistency filter was right for 78 of 100 seeds (majority "
        "class: 20) and was trusted.",
        "kept_samples": [
            {"input": "The courier left my box in the rain.", "target": "delivery", "reason": ""},
            {"input": "Why is there a fee on my invoice?", "target": "billing", "reason": ""},
        ],
        "quality": {
            "num_seeds": 140,
            "is_advisory": False,
            "auc": {"value": 0.863, "low": 0.841, "high": 0.884},
            "auc_by_fault": {"wrong label": 0.944, "cut off": 0.928},
            "roc": [(0.0, 0.0), (0.05, 0.5), (0.4, 0.9), (1.0, 1.0)],
        },
        "spot_check": {
            "decision": "rejected",
            "by": "anna",
            "time": "2026-01-02T03:04:05Z",
            "num_sampled": 2,
            "num_rejected": 1,
            "num_alike": 3,
            "classifier_note": "The quality classifier was fitted again, with these verdicts as "
            "labels. Of the other rows 4 fell under 0.85 and left.",
            "rows": [
                {"input": "Refund of a tree?", "target": "billing", "reason": "rejected"},
                {"input": "Where is my fee?", "target": "billing", "reason": ""},
            ],
        },
        "rejected_samples": [
            {
                "input": "The package. The package. The package.",
                "target": "delivery",
                "reason": "malformed",
            },
            {
                "input": "I cannot log in after the update",
                "target": "billing",
                "reason": "label not confirmed: technical is likelier",
            },
        ],
    }


def build_stages() -> list[dict]:
    seconds = {
        "split": 0.4,
        "synthesize": 96.2,
        "baselines": 71.9,
        "train": 164.3,
        "evaluate": 38.8,
        "export": 12.6,
        "report": 0.2,
    }
    return [{"name": name, "seconds": value} for name, value in seconds.items()]


def build_plan() -> list[dict]:
    return [
        {
            "setting": "training.method",
            "value": "qlora",
            "reason": "100 to 999 training rows: QLoRA with rank 16.",
        },
        {
            "setting": "training.lora.rank",
            "value": "16",
            "reason": "Under 5,000 rows a larger rank brings nothing.",
        },
        {
            "setting": "training.learningRate",
            "value": "2e-4",
            "reason": "The default of the LoRA family.",
        },
        {
            "setting": "training.precision",
            "value": "fp32",
            "reason": "This processor only emulates bfloat16.",
        },
    ]


def build_sample_review() -> ReviewPage:
    """The page of a spot check that waits for a person."""
    texts = ("Where is my parcel?", "The invoice shows the wrong amount.", "")
    return {
        "job": "support-tickets",
        "task": "classification",
        "description": "Which team answers the message.",
        "run_key": "0123456789abcdef",
        "num_rows": 40,
        "columns": ["Input", "Target", "Score"],
        "rows": [
            {"id": f"row-{number}", "cells": [text, "delivery", f"0.{number}"]}
            for number, text in enumerate(texts)
        ],
    }
