"""A small model of a Kubernetes with KubeRay in it, for one job: what is true, and who says what.

The operator's own `Worker` and `Cache` run against it. The model is the API server (with resource
versions, conflicts, ownership), KubeRay, the garbage collector, the object store's claims, and the
bookkeeper: whatever the operator must never do is an assertion here, where it would be done.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from loam_api.finetuneprofile import FineTuneProfileSpec
from loam_api.progress_document import ProgressDocument, ResultDocument, parse_progress
from loam_operator.admission import list_excesses
from loam_operator.cache import Cache, Key
from loam_operator.checking import check_spec
from loam_operator.decision import Launch, ResizeWorkers
from loam_operator.history import find_live
from loam_operator.names import name_attempt
from loam_operator.observed import (
    Hint,
    JobView,
    Observed,
    PodLog,
    PodView,
    ProfileView,
    RayJobView,
    Tenancy,
)
from loam_operator.profiles import Profile, find_profile
from loam_operator.review import is_decided, refuses_all
from loam_operator.states import INITIAL_STATES
from loam_operator.status import MAX_STATUS_BYTES, measure_status, read_state, read_status
from loam_operator.steps import FINISH, REVIEW, TRAIN, count_workers, list_steps
from loam_operator.throttle import ProgressThrottle
from loam_operator.worker import ConflictError, GoneError, RefusedError, TakenError, Worker

KEY = Key("team", "job")
START = datetime(2026, 1, 1, tzinfo=UTC)
SPEC: dict[str, Any] = {
    "model": {"uri": "s3://bucket/model"},
    "data": {"task": "text", "seeds": {"uri": "s3://bucket/seeds.jsonl"}},
    "output": {"uri": "s3://bucket/out"},
}


RUN_KEY = "0123456789abcdef"
MAPS = ("manifest", "progress")
CHILDREN = (*MAPS, "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy")
STAGES = {
    "prepare": ("split",),
    "generate": ("synthesize",),
    "train": ("plan", "train", "evaluate"),
    "finish": ("judge", "publish"),
}
# A job that is not done when its adapter is trained.
JUDGED: dict[str, Any] = {
    "data": {**SPEC["data"], "task": "generation"},
    "evaluation": {"judge": {"openai": {"baseURL": "https://judge.example/v1", "model": "j"}}},
}
ELASTIC: dict[str, Any] = {"compute": {"workers": {"min": 1, "max": 3}}}


def make_profile(name: str, **spec: Any) -> ProfileView:
    """A FineTuneProfile as the operator sees it."""
    return ProfileView(name, FineTuneProfileSpec.model_validate(spec))


class Crash(Exception):
    """The operator's process dies at this very call."""


@dataclass
class Counts:
    """Writes that reached the API server."""

    status: int = 0
    progress: int = 0
    created: int = 0
    deleted: int = 0
    resized: int = 0

    @property
    def total(self) -> int:
        return self.status + self.created + self.deleted + self.resized


@dataclass
class World:
    """What is true. Methods named like `Cluster`'s are the operator's, all others happen to it."""

    spec: dict[str, Any] = field(default_factory=lambda: dict(SPEC))

    def __post_init__(self) -> None:
        self.seconds = 0.0
        self.counts = Counts()
        self.version = 1
        self.next_uid = 0
        self.ray_jobs: dict[str, RayJobView] = {}
        self.pods: dict[str, PodView] = {}
        self.progress: dict[int, str] = {}
        self.missing = set(CHILDREN)
        self.last_words: dict[str, PodView] = {}
        self.killed: dict[int, set[str]] = {}
        self.profiles: dict[str, ProfileView] = {}
        self.namespace_labels: dict[str, str] = {}
        self.is_profile_required = False
        self.profile_copy = ""
        self.copied_in: int | None = -1
        self.ruled_in: int | None = -1
        self.foreign: set[str] = set()
        self.room = 100  # for workers, all at once
        self.quota = 100  # of a RayJob's worker pods
        self.resizes: list[ResizeWorkers] = []
        self.hints: tuple[Hint, ...] = ()
        self.num_looks = 0
        self.logs: tuple[PodLog, ...] = ()
        self.refusal = ""
        self.claims: dict[tuple[int, str], str] = {}
        self.successes: set[int] = set()
        self.transitions: list[str] = []
        self.has_trained = False  # and the status says so
        self.crash_in: int | None = None
        self.crash_after = False
        self.job: JobView | None = JobView("team", "job", "uid-job", 1, "1", spec=self.spec)

    def describe_tenancy(self) -> Tenancy:
        profiles = tuple(self.profiles[name] for name in sorted(self.profiles))
        return Tenancy(profiles, dict(self.namespace_labels), self.is_profile_required)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    # --- what the operator calls -----------------------------------------------------------
    async def read_observed(self, key: Key) -> Observed | None:
        self._maybe_crash()
        if self.job is None:
            return None
        return Observed(
            self.job,
            tuple(self.ray_jobs.values()),
            tuple(self.pods.values()),
            progress=dict(self.progress),
            maps=tuple(self.list_maps()),
            profile_copy=self.profile_copy,
        )

    async def read_tenancy(self, namespace: str) -> Tenancy:
        self._maybe_crash()
        return self.describe_tenancy()

    async def patch_status(self, job: JobView, patch: dict[str, Any]) -> JobView:
        self._maybe_crash(before=True)
        if self.job is None or self.job.uid != job.uid:
            raise GoneError
        if self.job.resource_version != job.resource_version:
            raise ConflictError
        before = read_status(self.job.status)
        after = _merge(self.job.status, patch)
        if after != self.job.status:
            self._check_status(before, after)
            is_progress = set(patch) <= {"progress", "usage", "cost"}
            self.counts.status += not is_progress
            self.counts.progress += is_progress
            self.update_job(status=after)
        self._maybe_crash()
        return self.job

    async def create_attempt(self, job: JobView, launch: Launch) -> RayJobView:
        self._maybe_crash(before=True)
        name = name_attempt(job.name, launch.step, launch.attempt)
        for child in sorted(self.foreign):
            raise TakenError(child)
        if self.refusal:
            raise RefusedError(f"RayJob {name}", self.refusal)
        self.counts.created += len(self.missing)
        self.missing = set()
        held = self.ray_jobs.get(name)
        if held is None:
            self._check_launch(launch)
            self._check_profile(launch)
            self.counts.created += 1
            held = RayJobView(
                name, self.make_uid(), job.uid, launch.step, launch.attempt, self.make_version()
            )
            self.ray_jobs[name] = held
            self.progress[launch.attempt] = ""
        elif held.is_deleting:
            raise ConflictError
        self._maybe_crash()
        return held

    async def find_conflicts(self, job: JobView, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name in self.foreign)

    async def find_hints(self, observed: Observed, ray_job: RayJobView) -> tuple[Hint, ...]:
        self._maybe_crash()
        self.num_looks += 1
        return self.hints

    async def read_logs(self, observed: Observed, attempt: int) -> tuple[PodLog, ...]:
        self._maybe_crash()
        assert any(one.number == attempt for one in read_status(observed.job.status).attempts)
        return self.logs

    async def resize_workers(self, job: JobView, resize: ResizeWorkers) -> None:
        self._maybe_crash(before=True)
        held = [one for one in self.ray_jobs.values() if one.cluster == resize.cluster]
        for one in held:
            self._check_resize(one, resize)
            self.counts.resized += 1
            self.resizes.append(resize)
            for name in resize.unwanted:
                self.pods.pop(name, None)
            self.update_ray_job(one.name, desired_workers=resize.num_workers)
        self._maybe_crash()

    async def delete_ray_cluster(self, job: JobView, name: str) -> None:
        self._maybe_crash(before=True)
        for one in self.ray_jobs.values():
            if one.cluster == name:
                assert one.attempt in self.successes, "took the pods of what is not done"
                self.counts.deleted += 1
                self._end_pods(one.name)
        self._maybe_crash()

    async def delete_ray_job(self, job: JobView, name: str, uid: str) -> None:
        self._maybe_crash(before=True)
        held = self.ray_jobs.get(name)
        if held is not None and held.uid == uid and not held.is_deleting:
            status = read_status(self.job.status) if self.job else None
            live = [one for one in status.attempts if not one.reason] if status else []
            assert held.attempt not in {one.number for one in live}, "deleted the live attempt"
            self.counts.deleted += 1
            self.delete_job_object(name)
        self._maybe_crash()

    async def delete_access(self, job: JobView) -> None:
        self.counts.deleted += len(CHILDREN)
        self.missing = set(CHILDREN)
        self.profile_copy = ""

    # --- what must never happen ------------------------------------------------------------
    def _check_launch(self, launch: Launch) -> None:
        assert self.job is not None
        status = read_status(self.job.status)
        state = read_state(status)
        assert state is not None
        assert not state.is_terminal, "an attempt after the end"
        assert not status.attempts[-1].reason, "an attempt that no status tells of"
        assert status.attempts[-1].number == launch.attempt, "an attempt out of order"
        working = [
            pod.name
            for pod in self.pods.values()
            if self._may_work(pod)
            and not (pod.job_uid == self.job.uid and pod.attempt in self.successes)
        ]
        assert not working, f"attempt {launch.attempt} beside {working}"
        steps = list_steps(check_spec(self.job))
        if self.has_trained and FINISH in steps:
            assert launch.step == FINISH, "GPUs for what is trained already"
            assert launch.run_key, "the pods do not know which run they finish"
        if launch.step == TRAIN and REVIEW in steps:
            assert is_decided(status), "trained on rows that nobody has looked at"
            assert launch.review, "the pods do not know what was decided"

    def _check_resize(self, one: RayJobView, resize: ResizeWorkers) -> None:
        assert self.job is not None
        workers = check_spec(self.job).compute.workers
        assert workers.min <= resize.num_workers <= workers.max
        live = find_live(read_status(self.job.status))
        assert live is not None
        assert live.number == one.attempt, "resized what has ended"
        if resize.num_workers < one.desired_workers:
            assert one.job_status == "", "took workers from a job that runs"
        phases = {self.pods[name].phase for name in resize.unwanted if name in self.pods}
        assert phases <= {"Pending"}, "gave up a worker that is there"

    def _check_profile(self, launch: Launch) -> None:
        """A job keeps to the rules that it started under, until somebody asks for a retry."""
        assert self.job is not None
        status = read_status(self.job.status)
        assert status.profile == launch.profile.use, "rules that no status tells of"
        if status.profile:
            assert self.ruled_in == status.first_counted_attempt, "rules of before the retry"
        if self.profile_copy and self.copied_in == status.first_counted_attempt:
            assert launch.profile.copy == self.profile_copy, "other rules than at the start"
        # A copy from before a retry may hold the very rules that were in force at the retry.
        elif launch.profile.copy != self.profile_copy:
            assert launch.profile == self._find_profile(), "rules that hold no more"
        assert not list_excesses(
            check_spec(self.job), self.job.queue_labels, launch.profile, has_started=False
        ), "more than is allowed"
        self.profile_copy, self.copied_in = launch.profile.copy, status.first_counted_attempt

    def _find_profile(self) -> Profile:
        """That of the rules that hold now."""
        assert self.job is not None
        return find_profile(self.describe_tenancy(), check_spec(self.job))

    def _may_work(self, pod: PodView) -> bool:
        if pod.is_over or not pod.job_uid:
            return False
        return pod.deletion_due is None or self.now() < pod.deletion_due + timedelta(seconds=120)

    def _check_status(self, before: Any, raw: dict[str, Any]) -> None:
        after = read_status(raw)
        old, new = read_state(before), read_state(after)
        assert new is not None
        if old is None:
            assert new.name in INITIAL_STATES
        elif old != new:
            assert new.name in old.next_states, f"{old.name} -> {new.name} is not in the table"
        if old != new:
            self.transitions.append(new.name)
        assert measure_status(after) <= MAX_STATUS_BYTES
        if new.name == "AwaitingReview":
            assert all(one.reason for one in after.attempts), "pods are held while a person reads"
        if after.review is not None and after.review != before.review:
            assert not refuses_all(after.review), "went on with rows that were refused"
        self._check_finish(new.name, after)
        if after.profile not in (before.profile, None):
            assert after.profile == self._find_profile().use, "rules that hold no more"
            self.ruled_in = after.first_counted_attempt
        if before.usage is not None:
            assert after.usage is not None
            assert after.usage.gpu_seconds >= before.usage.gpu_seconds, "GPU time was taken back"
        numbers = [attempt.number for attempt in after.attempts]
        assert numbers == sorted(set(numbers))
        assert len([one for one in after.attempts if not one.reason]) <= 1
        ended = {one.number: one for one in after.attempts}
        for one in before.attempts:
            if one.reason and one.number in ended:
                assert ended[one.number] == one, "an ended attempt was written again"
        if new.name == "Succeeded":
            assert after.attempts[-1].number in self.successes, "a success out of thin air"
        conditions = {condition.type: condition.status for condition in after.conditions}
        assert (conditions["Complete"] == "True") == (new.phase == "Succeeded")
        assert (conditions["Failed"] == "True") == (new.phase == "Failed")

    def _check_finish(self, state: str, after: Any) -> None:
        """With its adapter trained a job says so, and asks for no GPU any more."""
        assert self.job is not None
        ends = {(one.step, one.reason) for one in after.attempts}
        self.has_trained |= (TRAIN, "Succeeded") in ends
        live = find_live(after)
        if live is None or live.step != FINISH:
            return
        assert self.has_trained, "finished what was not trained"
        assert after.gpus is None
        assert state != "Starting" or live.admissions, "a trained job seems to begin anew"
        assert [one.status for one in after.conditions if one.type == "Trained"] == ["True"]

    def _maybe_crash(self, before: bool = False) -> None:
        """Die at the chosen call, before or after it has had its effect."""
        if self.crash_in is None or before == self.crash_after:
            return
        self.crash_in -= 1
        if self.crash_in < 0:
            self.crash_in = None
            raise Crash

    # --- what happens ----------------------------------------------------------------------
    def make_uid(self) -> str:
        self.next_uid += 1
        return f"uid-{self.next_uid}"

    def make_version(self) -> str:
        self.version += 1
        return str(self.version)

    def update_job(self, **fields: Any) -> None:
        assert self.job is not None
        self.job = replace(self.job, resource_version=self.make_version(), **fields)

    def change_spec(self, **fields: Any) -> None:
        assert self.job is not None
        self.spec = {**self.spec, **fields}
        self.update_job(spec=self.spec, generation=self.job.generation + 1)

    def update_ray_job(self, name: str, **fields: Any) -> None:
        self.ray_jobs[name] = replace(
            self.ray_jobs[name], resource_version=self.make_version(), **fields
        )
        self._note_successes()

    def update_pod(self, name: str, **fields: Any) -> None:
        self.pods[name] = replace(self.pods[name], resource_version=self.make_version(), **fields)

    def delete_job_object(self, name: str) -> None:
        """Foreground deletion: the RayJob stays until its pods are gone."""
        self.update_ray_job(name, is_deleting=True)
        self._end_pods(name)

    def _end_pods(self, name: str) -> None:
        for pod in self.list_pods(name):
            if pod.deletion_due is None:
                self.update_pod(pod.name, deletion_due=self.now() + timedelta(seconds=120))

    def collect_garbage(self) -> None:
        """One round: pods whose time is over go, then the RayJobs that waited for them."""
        for pod in list(self.pods.values()):
            if pod.deletion_due is not None:
                del self.pods[pod.name]
        for ray_job in list(self.ray_jobs.values()):
            if ray_job.is_deleting and not self.list_pods(ray_job.name):
                del self.ray_jobs[ray_job.name]

    def list_maps(self) -> list[str]:
        return [f"job-{one}" for one in MAPS if one not in self.missing]

    def list_pods(self, ray_job: str) -> list[PodView]:
        if ray_job not in self.ray_jobs:
            return []
        uid = self.ray_jobs[ray_job].uid
        return [pod for pod in self.pods.values() if pod.name.startswith(f"{uid}-")]

    def find_ray_job(self, step: str, attempt: int) -> RayJobView | None:
        return self.ray_jobs.get(name_attempt("job", step, attempt))

    def find_head(self, ray_job: str) -> PodView | None:
        heads = [pod for pod in self.list_pods(ray_job) if pod.role == "head"]
        return heads[0] if heads else None

    def add_pod(self, ray_job: str, role: Any) -> None:
        one = self.ray_jobs[ray_job]
        uid = self.make_uid()
        name = f"{one.uid}-{role}-{uid}"
        self.pods[name] = PodView(
            *(name, uid, role, one.attempt),
            resource_version=self.make_version(),
            unschedulable="there is no room",
            waiting_since=self.now(),
            job_uid=one.owner_uid,
            gpus=int(role == "worker"),
        )
        self._schedule()

    def _schedule(self) -> None:
        """Give pods a node: heads always, workers as far as there is room."""
        for pod in list(self.pods.values()):
            placed = [one for one in self.pods.values() if one.role == "worker" and one.node_since]
            if pod.unschedulable and (pod.role != "worker" or len(placed) < self.room):
                running = {"phase": "Running", "unschedulable": "", "node_since": self.now()}
                self.update_pod(pod.name, **running)

    def _reconcile_pods(self, name: str) -> None:
        """KubeRay makes the workers that a RayCluster is to have, and lacks."""
        alive = [
            pod for pod in self.list_pods(name) if pod.role == "worker" and pod.deletion_due is None
        ]
        wanted = self.ray_jobs[name].desired_workers
        for _ in range(min(wanted, self.quota) - len(alive)):
            self.add_pod(name, "worker")
        if wanted > self.quota and not self.ray_jobs[name].refusal:
            words = "exceeded quota: team"
            self.update_ray_job(name, refusal=words, refused_since=self.now())
        self._schedule()

    def advance_ray_job(self, name: str, exit_code: int = 0) -> None:
        """KubeRay and the runtime do the next thing for a RayJob."""
        one = self.ray_jobs[name]
        if one.is_deleting:
            return
        if one.is_over:
            for pod in self.list_pods(name):
                self.update_pod(pod.name, deletion_due=self.now())
            return
        if one.deployment_status in ("", "Suspended"):
            assert self.job is not None
            self.update_ray_job(
                name,
                deployment_status="Initializing",
                job_id=self.make_uid(),
                cluster=f"cluster-{self.make_uid()}",
                desired_workers=count_workers(one.step, check_spec(self.job)),
            )
            self.add_pod(name, "head")
            self._reconcile_pods(name)
            return
        self._reconcile_pods(name)
        if one.job_status == "":
            self._submit(name)
        elif one.job_status == "RUNNING":
            self._work(name, exit_code)

    def _submit(self, name: str) -> None:
        """The entrypoint claims (attempt, jobId); another head's claim is in its way for good."""
        one, head = self.ray_jobs[name], self.find_head(name)
        if head is None or head.is_over or head.deletion_due is not None:
            return
        running = [pod for pod in self.list_pods(name) if pod.phase == "Running"]
        if len(running) != one.desired_workers + 1:
            return
        holder = self.claims.setdefault((one.attempt, one.job_id), head.uid)
        if holder != head.uid:
            self.fail_ray_job(name, "Job entrypoint command failed with exit code 1")
        else:
            self.update_ray_job(name, job_status="RUNNING", deployment_status="Running")

    def _work(self, name: str, exit_code: int) -> None:
        one, head = self.ray_jobs[name], self.find_head(name)
        if head is None or head.is_over or self.claims.get((one.attempt, one.job_id)) != head.uid:
            self.fail_ray_job(name, "The head does not answer.")
            return
        stages = STAGES[one.step]
        told = self._read_progress(one)
        index = stages.index(told.stage) + 1 if told and told.stage in stages else 0
        if exit_code == 0 and index < len(stages):
            self.say(one.attempt, ProgressDocument(attempt=one.attempt, stage=stages[index]))
            return
        found: dict[str, Any] = {"cost": f"{one.attempt}.50 USD", "teacher_requests": one.attempt}
        if exit_code == 0:
            found |= {"run_key": RUN_KEY, "worker_memory_bytes": 5 * 2**30}
        result = ResultDocument(exit_code=exit_code, message="as it went", **found)
        self.say(one.attempt, ProgressDocument(attempt=one.attempt, result=result))
        if exit_code:
            self.fail_ray_job(name, f"Job entrypoint command failed with exit code {exit_code}")
            return
        self.update_ray_job(name, job_status="SUCCEEDED", deployment_status="Complete")

    def say(self, attempt: int, document: ProgressDocument) -> None:
        """By the pods that are there now."""
        ids = [one.job_id for one in self.ray_jobs.values() if one.attempt == attempt]
        document = document.model_copy(update={"job_id": ids[0]}) if ids else document
        if attempt in self.progress:
            self.write_progress(attempt, document.to_json())

    def _read_progress(self, one: RayJobView) -> ProgressDocument | None:
        told = parse_progress(self.progress.get(one.attempt, ""), one.attempt)
        return told if told and told.job_id in ("", one.job_id) else None

    def write_progress(self, attempt: int, text: str) -> None:
        self.progress[attempt] = text
        self._note_successes()

    def _note_successes(self) -> None:
        """A success takes both: KubeRay's word and a valid result."""
        for one in self.ray_jobs.values():
            told = self._read_progress(one)
            is_done = (one.job_status, one.deployment_status) == ("SUCCEEDED", "Complete")
            if is_done and told and told.result and told.result.exit_code == 0:
                self.successes.add(one.attempt)

    def fail_ray_job(self, name: str, message: str) -> None:
        self.update_ray_job(
            name,
            job_status="FAILED",
            deployment_status="Failed",
            reason="AppFailed",
            message=message,
        )

    def replace_head(self, name: str) -> None:
        """The head pod is lost and KubeRay makes another; its process is not submitted again."""
        head = self.find_head(name)
        if head is not None:
            del self.pods[head.name]
            if not self.ray_jobs[name].is_deleting and not self.ray_jobs[name].is_over:
                self.add_pod(name, "head")

    def hold(self, name: str) -> None:
        """A queue takes the RayJob's pods away; it will admit it again."""
        one = self.ray_jobs[name]
        if one.is_over or one.is_deleting:
            return
        for pod in self.list_pods(name):
            del self.pods[pod.name]
        self.killed.pop(one.attempt, None)
        self.update_ray_job(
            name, deployment_status="Suspended", job_status="", job_id="", cluster=""
        )

    def kill_for_memory(self, name: str, role: str) -> None:
        """KubeRay deletes the pod at once and makes another: the event of its deletion says how it
        ended, and nothing that can be read afterwards does."""
        one = self.ray_jobs[name]
        for pod in self.list_pods(name):
            if pod.role == role:
                self.update_pod(pod.name, phase="Failed", is_oom_killed=True, exit_code=137)
                self.last_words[pod.name] = self.pods.pop(pod.name)
                self.killed.setdefault(one.attempt, set()).add(pod.uid)
                if not one.is_deleting and not one.is_over and role == "head":
                    self.add_pod(name, role)


def _merge(held: Any, patch: dict[str, Any]) -> dict[str, Any]:
    """JSON merge patch."""
    merged = dict(held)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = _merge(merged.get(name) or {}, value)
        else:
            merged[name] = value
    return merged


class Operator:
    """One operator process: its memory is lost when it is restarted."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.restart()

    def restart(self) -> None:
        """A new process lists everything before it decides anything."""
        self.cache = Cache()
        self.told = set(self.world.last_words)  # nobody tells a new process
        self.heard_kills: set[str] = set()
        self.throttle = ProgressThrottle()
        self.worker = Worker(
            self.cache,
            self.world,
            self.throttle,
            is_leader=lambda: True,
            now=self.world.now,
            clock=lambda: self.world.seconds,
        )
        self.hear_all()

    def hear_all(self) -> None:
        """Every event has arrived, once or more often."""
        self.hear_job()
        self.cache.put_profile_copy(KEY, self.world.profile_copy)
        for name in {**self.world.ray_jobs, **self._held("ray_jobs")}:
            self.hear_ray_job(name)
        for name in self.list_pods():
            self.hear_pod(name)
        self.hear_progress()
        self.hear_maps()

    def _held(self, kind: str) -> dict[Any, Any]:
        entry = self.cache._entries.get(KEY)
        return dict(getattr(entry, kind)) if entry else {}

    def hear_job(self) -> None:
        if self.world.job is not None:
            self.cache.put_job(self.world.job)
        else:
            self.cache.forget(KEY)

    def hear_ray_job(self, name: str) -> None:
        if name in self.world.ray_jobs:
            self.cache.put_ray_job(KEY, self.world.ray_jobs[name])
        elif name in self._held("ray_jobs"):
            self.cache.remove_ray_job(KEY, name, self._held("ray_jobs")[name].uid)

    def list_pods(self) -> set[str]:
        """Those of which there is something to hear."""
        ended = self.world.last_words.keys() - self.told
        return {*self.world.pods, *self._held("pods"), *ended}

    def hear_pod(self, name: str) -> None:
        held = self._held("pods").get(name)
        if name in self.world.pods:
            self.cache.put_pod(KEY, self.world.pods[name])
        elif name in self.world.last_words and name not in self.told:
            pod = self.world.last_words[name]
            self.cache.remove_pod(KEY, pod)
            self.told.add(name)
            self.heard_kills.add(pod.uid)
        elif held is not None:
            self.cache.remove_pod(KEY, held)

    def hear_maps(self) -> None:
        for name in {*self.world.list_maps(), *self._held("maps")}:
            if name in self.world.list_maps():
                self.cache.put_map(KEY, name, "uid-job")
            else:
                self.cache.remove_map(KEY, name)

    def hear_progress(self, _: str = "") -> None:
        """All attempts write to one object, so that they are heard together."""
        if self.world.progress:
            self.cache.put_progress(KEY, dict(self.world.progress))
        else:
            self.cache.remove_progress(KEY)

    def work(self) -> float | None:
        """One pass over the job; a crash loses the process."""
        try:
            # Nothing in the model waits, so the pass runs to its end in one go.
            self.worker.work_on(KEY).send(None)
        except StopIteration as done:
            return done.value
        except Crash:
            self.restart()
            return 0.0
        raise AssertionError("a pass waited for something outside the model")
