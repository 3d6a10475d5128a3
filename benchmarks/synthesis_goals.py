"""All scenarios of a side-by-side harness of generation pipelines, judged by Loam's goals.

    python benchmarks/synthesis_goals.py --harness DIR      (or SYNTHESIS_HARNESS=DIR)

DIR holds `run_bench.py`, which starts a mock teacher with latency, a cap and faults, runs
`benchmarks/synthesis.py` against it, kills it where the scenario says so, and audits what came
out. Its results are appended to `--results`; a table with the goals is printed.

`dirty`: distinct texts alone are accepted, 671 requests for 500 is the least that its fault plan
allows (608 where a text may come twice, as the goal of 1.23 counts).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOAM = f"loam={sys.executable} {HERE / 'synthesis.py'}"
Goals = dict[str, tuple[str, float]]

EVERYWHERE: Goals = {"lost": ("<=", 0), "rss_peak_mb": ("<=", 90), "early_retries": ("<=", 0)}
CLEAN: Goals = {"wall_s": ("<=", 4), "startup_s": ("<=", 1.5), "cpu_s": ("<=", 3)}
RUNS: list[tuple[str, int, Goals]] = [
    ("clean", 500, {**CLEAN, "ratio_active": ("<=", 1.25), "mean_in_flight": (">=", 52)}),
    ("clean", 2000, {"ratio_active": ("<=", 1.12), "mean_in_flight": (">=", 58)}),
    ("faults", 500, {"requests_per_accepted": ("<=", 1.21), "wall_s": ("<=", 8.5)}),
    ("ratelimit", 500, {"requests_per_accepted": ("<=", 1.3), "active_s": ("<=", 6)}),
    ("dirty", 500, {"requests": ("<=", 671), "active_s": ("<=", 3), "dup_content": ("<=", 0)}),
    ("kill", 500, {"repeated_ok": ("<=", 5)}),
    ("killfaults", 500, {"repeated_ok": ("<=", 5), "wall_s": ("<=", 8.5)}),
    ("stall", 500, {"active_s": ("<=", 7.6)}),
]


def run_scenario(harness: Path, scenario: str, num_rows: int, results: Path, nice: int) -> dict:
    """One run of the harness; its record."""
    command = [sys.executable, str(harness / "run_bench.py"), "--contenders", "", "--add", LOAM]
    command += ["--scenarios", scenario, "--n", str(num_rows), "--results", str(results)]
    subprocess.run([*command, "--nice", str(nice)], check=True, stdout=subprocess.DEVNULL)
    return json.loads(results.read_text().splitlines()[-1])


def judge(record: dict, goals: Goals) -> list[str]:
    """Each measure beside its goal."""
    lines = []
    for name, (sign, goal) in {**goals, **EVERYWHERE}.items():
        value = record[name]
        is_met = value <= goal if sign == "<=" else value >= goal
        lines.append(f"{'met   ' if is_met else 'MISSED'} {name} {value:g} {sign} {goal:g}")
    return lines


def main() -> None:
    """Run every scenario and print what was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--harness", type=Path, default=os.environ.get("SYNTHESIS_HARNESS"))
    parser.add_argument("--results", type=Path, default=Path("synthesis_results.jsonl"))
    parser.add_argument("--nice", type=int, default=0, help="priority of the runs")
    arguments = parser.parse_args()
    if arguments.harness is None:
        parser.error("--harness DIR or SYNTHESIS_HARNESS says where run_bench.py is")
    for scenario, num_rows, goals in RUNS:
        record = run_scenario(
            arguments.harness, scenario, num_rows, arguments.results.resolve(), arguments.nice
        )
        print(
            f"{scenario} N={num_rows}, other load {record['other_load']}, cpu {record['cpu_s']} s"
        )
        print("".join(f"  {line}\n" for line in judge(record, goals)), end="", flush=True)


if __name__ == "__main__":
    main()
