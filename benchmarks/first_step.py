"""From a created object to the first training step on a real node: a FineTuneJob, a bare RayJob.

    python benchmarks/first_step.py        # as root; builds the images where they are not built

Both have one worker, the same image, the same pods and a model that is no work. The bare RayJob
takes its step on made-up rows at once: what a FineTuneJob does besides (its step `prepare`, the
rows, the baselines) is what it takes longer. Nothing is pulled: the node has the image.
"""

from __future__ import annotations

import copy
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from kubernetes import client
from tests.tools.fault_proxy import run_fault_proxy
from tests.tools.node import Node, run_node
from tests.tools.node_job import RAYJOBS, NodeJob, Storage
from tests.tools.node_network import GATEWAY
from tests.tools.release import install_release
from tests.tools.s3_server import run_s3_server
from tests.tools.waiting import wait_until

from loam_operator.names import ATTEMPT_LABEL, ROLE_LABEL, STEP_LABEL

NUM_ROUNDS = 2
LOOK_SECONDS = 0.1
TIMEOUT_SECONDS = 400
SCRIPT = """
import time
print("MARK", time.time(), "entrypoint runs", flush=True)
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

def train():
    import peft, torch, transformers
    config = transformers.GemmaConfig(
        vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16,
    )
    lora = peft.LoraConfig(target_modules=["q_proj", "v_proj"])
    model = peft.get_peft_model(transformers.GemmaForCausalLM(config), lora)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ids = torch.randint(0, 512, (8, 32))
    print("MARK", time.time(), "Ray up, worker and model loaded", flush=True)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    print("MARK", time.time(), "first step", flush=True)

TorchTrainer(
    train,
    scaling_config=ScalingConfig(num_workers=1),
    run_config=RunConfig(storage_path="/tmp/bare"),
).fit()
"""

Marks = dict[str, float]


@contextmanager
def watch_pods(api_client: client.ApiClient, namespace: str) -> Iterator[Marks]:
    """Until the block ends, note when each RayJob and pod of a namespace is first seen."""
    core, custom = client.CoreV1Api(api_client), client.CustomObjectsApi(api_client)
    marks: Marks = {}
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(LOOK_SECONDS):
            for one in custom.list_namespaced_custom_object(**RAYJOBS, namespace=namespace)[
                "items"
            ]:
                step = one["metadata"].get("labels", {}).get(STEP_LABEL, "bare")
                marks.setdefault(f"{step}: RayJob created", time.time())
            for pod in core.list_namespaced_pod(namespace).items:
                labels = pod.metadata.labels
                if pod.status.phase == "Running" and ROLE_LABEL in labels:
                    name = f"{labels[STEP_LABEL]}: {labels[ROLE_LABEL]} pod runs"
                    marks.setdefault(name, time.time())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield marks
    finally:
        is_over.set()
        thread.join()


def time_fine_tune_job(node: Node, job: NodeJob) -> tuple[Marks, dict[str, Any]]:
    """The marks of a tiny job, and the RayJob in which it trained."""
    job.create_secret()
    with watch_pods(node.control_plane.client, job.namespace) as marks:
        job.apply(compute={"workers": {"min": 1, "max": 1}})
        marks["created"] = time.time()
        ray_job = wait_until(lambda: find_training(job), "the training's RayJob", TIMEOUT_SECONDS)
        job.await_success(TIMEOUT_SECONDS)
    opened = iter(("prepare", "train"))
    for line in job.list_log_lines():
        name = {
            "stage_ended": f"stage {line['stage']} done",
            "training_started": "Ray up, worker and model loaded",
            "step": "first step",
        }.get(line["event"], "")
        if line["event"] == "run_started":
            name = f"{next(opened)}: run opened"
        if name:
            marks.setdefault(name, datetime.fromisoformat(line["ts"]).timestamp())
    return marks, ray_job


def find_training(job: NodeJob) -> dict[str, Any]:
    """The job's RayJob that has workers, or nothing."""
    steps = {one["metadata"]["labels"][STEP_LABEL]: one for one in job.list_ray_jobs()}
    return steps.get("train", {})


def time_bare_ray_job(node: Node, namespace: str, ray_job: dict[str, Any]) -> Marks:
    """The marks of a RayJob with the same pods, that only trains."""
    bare = strip_ray_job(ray_job)
    custom = client.CustomObjectsApi(node.control_plane.client)
    with watch_pods(node.control_plane.client, namespace) as marks:
        marks["created"] = time.time()
        custom.create_namespaced_custom_object(**RAYJOBS, namespace=namespace, body=bare)

        def find_end() -> str:
            found = custom.get_namespaced_custom_object(
                **RAYJOBS, namespace=namespace, name=bare["metadata"]["name"]
            )
            return str(found.get("status", {}).get("jobStatus", ""))

        wait_until(lambda: find_end() in ("SUCCEEDED", "FAILED"), "its end", TIMEOUT_SECONDS)
        log = read_submitter_log(node, namespace)
    for at, name in re.findall(r"MARK ([\d.]+) ([\w, ]+)", log):
        marks[name] = float(at)
    if "first step" not in marks:
        raise SystemExit(log)
    return marks


def strip_ray_job(ray_job: dict[str, Any]) -> dict[str, Any]:
    """A RayJob of the same pods without what is Loam's: account, volumes, environment."""
    spec = copy.deepcopy(ray_job["spec"])
    spec = {
        name: spec[name] for name in ("submissionMode", "submitterPodTemplate", "rayClusterSpec")
    }
    # It stays until its log is read.
    spec |= {"shutdownAfterJobFinishes": False, "backoffLimit": 0}
    spec["entrypoint"] = "python -c 'import os; exec(os.environ[\"SCRIPT\"])'"
    cluster = spec["rayClusterSpec"]
    templates = [cluster["headGroupSpec"]["template"], spec["submitterPodTemplate"]]
    templates += [group["template"] for group in cluster["workerGroupSpecs"]]
    for template in templates:
        template["metadata"]["labels"] |= {STEP_LABEL: "bare", ATTEMPT_LABEL: "1"}
        (container,) = template["spec"]["containers"]
        container["env"] = [
            one
            for one in container["env"]
            if "value" in one and not one["name"].startswith("LOAM_")
        ]
    head = templates[0]["spec"]
    del head["serviceAccountName"]
    (container,) = head["containers"]
    container["env"].append({"name": "SCRIPT", "value": SCRIPT})
    for place in (head["volumes"], container["volumeMounts"]):
        place[:] = [one for one in place if one["name"] not in ("job", "token")]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": "bare"},
        "spec": spec,
    }


def read_submitter_log(node: Node, namespace: str) -> str:
    """What the bare job printed."""
    core = client.CoreV1Api(node.control_plane.client)
    selector = f"{ROLE_LABEL}=submitter,{STEP_LABEL}=bare"
    (pod,) = core.list_namespaced_pod(namespace, label_selector=selector).items
    return str(core.read_namespaced_pod_log(pod.metadata.name, namespace))


def show(title: str, marks: Marks) -> None:
    """Print the marks up to the first step, in order, with what each took."""
    print(title, flush=True)
    before = start = marks["created"]
    for name, at in sorted(marks.items(), key=lambda mark: mark[1]):
        if start <= at <= marks["first step"]:
            print(f"{at - start:7.1f} s  (+{at - before:.1f})  {name}", flush=True)
            before = at


def main() -> None:
    with (
        run_node() as node,
        tempfile.TemporaryDirectory() as scratch,
        run_s3_server(GATEWAY) as server,
        run_fault_proxy(server.endpoint, GATEWAY) as proxy,
    ):
        install_release(node)
        storage = Storage(server, proxy)
        for number in range(NUM_ROUNDS):
            namespace = node.control_plane.create_namespace()
            job = NodeJob(node.control_plane.client, namespace, storage, Path(scratch, namespace))
            marks, ray_job = time_fine_tune_job(node, job)
            show(f"round {number + 1}: FineTuneJob", marks)
            job.delete()
            namespace = node.control_plane.create_namespace()
            show(f"round {number + 1}: bare RayJob", time_bare_ray_job(node, namespace, ray_job))
            client.CoreV1Api(node.control_plane.client).delete_namespace(namespace)


if __name__ == "__main__":
    main()
