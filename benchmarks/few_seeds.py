"""Whole jobs on public data: four real rows a class, the base model as its own teacher, `loam run`.

    python benchmarks/few_seeds.py --data DIR --model FILE --out DIR

DIR of --data holds sst2 and trec6, each with train.jsonl and test.jsonl of rows {"text", "label"}.
Each job is the one that a user would write: in-context synthesis, LoRA by the plan, every baseline,
100 test rows (of at most 14 words, as in `does_it_help.py`). Its manifest, rows and report stay in
OUT; the same command goes on with a job that was interrupted, and leaves a finished one alone. One
draw of seeds shows that the job runs and what its report says; whether synthetic rows help is the
question of `does_it_help.py`, which draws many.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import yaml

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.study.tasks import WORDINGS, Draw, draw_repeat, load_task

TASKS = ("sst2", "trec6")
ROWS_PER_CLASS = 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="a folder or .gguf file")
    parser.add_argument("--out", type=Path, required=True, help="outside the repository")
    arguments = parser.parse_args()
    for name in TASKS:
        draw = draw_repeat(load_task(arguments.data, name), repeat=0)
        manifest = write_job(draw, arguments.model.resolve(), arguments.out.resolve() / name)
        started = perf_counter()
        print(f"{name}: {run_job(manifest)} ({perf_counter() - started:.0f} s)", flush=True)


def write_job(draw: Draw, model: Path, folder: Path) -> Path:
    """Seeds, test rows and manifest of one data set; the same each time."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("seeds", draw.seeds), ("test", draw.test)):
        lines = [json.dumps({"text": row.input, "label": row.target}) + "\n" for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    prompt, labels = WORDINGS[draw.task.name]
    spec = {
        "model": {"uri": f"file://{model}"},
        "data": {
            "task": "classification",
            "seeds": {"uri": "file://./seeds.jsonl"},
            "test": {"uri": "file://./test.jsonl"},
            "template": {"prompt": prompt, "labels": labels},
        },
        "synthesis": {
            "strategy": "inContext",
            "targetCount": ROWS_PER_CLASS * len(draw.task.labels),
            "sampling": {"maxTokens": 28},
        },
        "training": {"method": "lora"},
        "output": {"uri": "file://./output"},
    }
    head = {"apiVersion": "loam.dev/v1alpha1", "kind": "FineTuneJob"}
    job = {**head, "metadata": {"name": draw.task.name}, "spec": spec}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
    return path


def run_job(manifest: Path) -> str:
    """Run it to its end; the report's verdict, or the last words of a job that failed."""
    loam = str(Path(sys.executable).with_name("loam"))
    done = subprocess.run([loam, "run", str(manifest)], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return f"exit code {done.returncode}"
    told = subprocess.run(
        [loam, "report", str(manifest), "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(told.stdout)["verdict"]["text"]


if __name__ == "__main__":
    main()
