"""Whatever happens, in whatever order it is heard of: one truth, one attempt at a time, few writes.

Events are delivered late, twice, out of order between objects or not at all; the operator is
killed between any two calls, and two of them may run on memories of different age.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.tools.cases import count_cases
from tests.unit.operator.world import CHILDREN, ELASTIC, JUDGED, Operator, World, make_profile

from loam_api.review import ANNOTATION, ROWS_ANNOTATION, RUN_ANNOTATION
from loam_operator.history import find_live
from loam_operator.observed import Hint
from loam_operator.status import read_state, read_status

# No shrinking: it takes minutes, longer than a test may. Add Phase.shrink to study a failure.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
EXITS = st.sampled_from([0, 0, 0, 1, 2, 10, 11, 12, 13, 14, 15, 130, 200])
PICK = st.integers(0, 10)
RUBBISH = (
    "",
    "{",
    "[]",
    "x" * 20_000,
    "[" * 9_000,
    '{"attempt": 1, "stage": "no", "result": {"exitCode": 0}}',
    '{"attempt": ATTEMPT, "result": {"exitCode": 0}}',
    '{"attempt": 7, "result": {"exitCode": 0}}',
)

REVIEWED: dict[str, Any] = {"targetCount": 10, "spotCheck": {"required": True}}
WORDS = ("", "approved", "rejected", "aproved\n\x00")

PROFILES: dict[str, dict[str, Any]] = {
    "closed": {"default": True, "allow": {"models": []}},
    "open": {"default": True, "limits": {"activeDeadlineSeconds": 10_000}},
    "theirs": {"default": True, "namespaceSelector": {"matchLabels": {"team": "theirs"}}},
}


def has_ray_jobs(machine: Job) -> bool:
    return bool(machine.world.ray_jobs)


class Job(RuleBasedStateMachine):
    """One job among a user, a queue, KubeRay, failing machines and two forgetful operators."""

    @initialize(
        backoff=st.integers(0, 8),
        deadline=st.sampled_from([0, 0, 600]),
        ttl=st.sampled_from([0, 60]),
        is_reviewed=st.booleans(),
        is_judged=st.booleans(),
        is_elastic=st.booleans(),
        last_exit=EXITS,
    )
    def apply(
        self,
        backoff: int,
        deadline: int,
        ttl: int,
        is_reviewed: bool,
        is_judged: bool,
        is_elastic: bool,
        last_exit: int,
    ) -> None:
        self.world = World()
        self.world.change_spec(
            backoffLimit=backoff, activeDeadlineSeconds=deadline, clusterTTLSeconds=ttl
        )
        if is_reviewed:
            self.world.change_spec(synthesis=REVIEWED)
        if is_judged:
            self.world.change_spec(**JUDGED)
        if is_elastic:
            self.world.change_spec(**ELASTIC)
        self.operators = [Operator(self.world), Operator(self.world)]
        self.disturbances = 1
        self.last_exit = last_exit

    def pick_ray_job(self, pick: int) -> str:
        names = sorted(self.world.ray_jobs)
        return names[pick % len(names)]

    # --- the operators ---------------------------------------------------------------------
    @rule(which=st.sampled_from([0, 0, 0, 1]), is_all_heard=st.booleans())
    def operate(self, which: int, is_all_heard: bool) -> None:
        if is_all_heard:
            self.operators[which].hear_all()
        self.operators[which].work()
        if is_all_heard:
            self.check_kills(self.operators[which])

    def check_kills(self, operator: Operator) -> None:
        """A kill for memory that was heard of ends the attempt, though the pod is gone by then:
        else the job goes on to die of it until it fails for no known reason."""
        live = find_live(read_status(self.world.job.status))
        ray_job = self.world.find_ray_job(live.step, live.number) if live else None
        if ray_job is not None and not ray_job.is_held:
            assert not self.world.killed.get(live.number, set()) & operator.heard_kills

    @rule(calls=st.integers(0, 4), is_after=st.booleans())
    def kill_operator(self, calls: int, is_after: bool) -> None:
        self.disturbances += 1
        self.world.crash_in, self.world.crash_after = calls, is_after
        self.operators[0].work()
        self.world.crash_in = None

    @rule(reason=st.sampled_from(["", "FailedMount", "FailedCreate", "Nonsense"]))
    def hint(self, reason: str) -> None:
        self.world.hints = (Hint("Pod p", reason, "as it is"),) if reason else ()

    @rule(words=st.sampled_from(["", "", "exceeded quota: small", "denied by a webhook"]))
    def refuse(self, words: str) -> None:
        self.disturbances += 1
        self.world.refusal = words

    @rule(which=st.sampled_from([0, 1]))
    def restart_operator(self, which: int) -> None:
        self.disturbances += 1
        self.operators[which].restart()

    @rule(
        rounds=st.integers(1, 6),
        exit_code=EXITS,
        ears=st.lists(st.sampled_from(["job", "ray_job", "pod", "progress"]), unique=True),
        which=st.sampled_from([0, 0, 1]),
    )
    def go_on(self, rounds: int, exit_code: int, ears: list[str], which: int) -> None:
        """Everybody does what they do, and some news gets through."""
        for _ in range(rounds):
            self.hear_some(self.operators[which], ears)
            self.operators[which].work()
            for name in sorted(self.world.ray_jobs):
                self.world.advance_ray_job(name, exit_code)
            self.world.collect_garbage()
            self.world.seconds += 7

    def hear_some(self, operator: Operator, ears: list[str]) -> None:
        world = self.world
        if "job" in ears:
            operator.hear_job()
        for kind, true in (
            ("ray_job", world.ray_jobs),
            ("pod", world.pods),
            ("progress", world.progress),
        ):
            if kind in ears:
                held = operator._held("progress" if kind == "progress" else f"{kind}s")
                names = operator.list_pods() if kind == "pod" else {**true, **held}
                for name in names:
                    getattr(operator, f"hear_{kind}")(name)

    # --- the cluster -----------------------------------------------------------------------
    @precondition(has_ray_jobs)
    @rule(pick=PICK, exit_code=EXITS)
    def run_ray_job(self, pick: int, exit_code: int) -> None:
        self.world.advance_ray_job(self.pick_ray_job(pick), exit_code)

    @precondition(has_ray_jobs)
    @rule(pick=PICK)
    def end_without_result(self, pick: int) -> None:
        name = self.pick_ray_job(pick)
        if self.world.ray_jobs[name].job_status == "RUNNING":
            self.disturbances += 1
            self.world.update_ray_job(name, job_status="SUCCEEDED", deployment_status="Complete")

    @rule()
    def collect_garbage(self) -> None:
        self.world.collect_garbage()

    @precondition(has_ray_jobs)
    @rule(pick=PICK)
    def replace_head(self, pick: int) -> None:
        self.disturbances += 1
        self.world.replace_head(self.pick_ray_job(pick))

    @precondition(has_ray_jobs)
    @rule(pick=PICK)
    def preempt(self, pick: int) -> None:
        self.disturbances += 1
        self.world.hold(self.pick_ray_job(pick))

    @precondition(has_ray_jobs)
    @rule(pick=PICK, role=st.sampled_from(["head", "worker"]))
    def kill_for_memory(self, pick: int, role: str) -> None:
        self.disturbances += 1
        self.world.kill_for_memory(self.pick_ray_job(pick), role)

    @precondition(has_ray_jobs)
    @rule(pick=PICK, is_at_once=st.booleans())
    def delete_child(self, pick: int, is_at_once: bool) -> None:
        """By hand: in the foreground, or at once with its pods left to themselves for a while."""
        self.disturbances += 1
        name = self.pick_ray_job(pick)
        self.world.delete_job_object(name)
        if is_at_once:
            del self.world.ray_jobs[name]

    @precondition(has_ray_jobs)
    @rule(pick=PICK, which=st.integers(0, len(RUBBISH) - 1))
    def write_rubbish(self, pick: int, which: int) -> None:
        attempts = sorted(self.world.progress)
        if attempts:
            attempt = attempts[pick % len(attempts)]
            self.world.write_progress(attempt, RUBBISH[which].replace("ATTEMPT", str(attempt)))

    @rule(room=st.integers(0, 3))
    def fill_nodes(self, room: int) -> None:
        self.disturbances += 1
        self.world.room = room

    @rule(seconds=st.sampled_from([1, 15, 130, 400]))
    def pass_time(self, seconds: int) -> None:
        self.world.seconds += seconds

    # --- the platform team -----------------------------------------------------------------
    @rule(names=st.sets(st.sampled_from(sorted(PROFILES))), is_theirs=st.booleans())
    def change_profiles(self, names: set[str], is_theirs: bool) -> None:
        self.disturbances += 1
        self.world.profiles = {name: make_profile(name, **PROFILES[name]) for name in names}
        self.world.namespace_labels = {"team": "theirs"} if is_theirs else {}

    @rule(text=st.sampled_from(["", "{", '{"name": "mine", "spec": {"default": true}}']))
    def tamper_with_copy(self, text: str) -> None:
        """Whoever may write ConfigMaps may write the job's, but not its status."""
        self.disturbances += 1
        self.world.profile_copy, self.world.copied_in = text, -1

    # --- the user --------------------------------------------------------------------------
    @rule(is_suspended=st.booleans())
    def suspend(self, is_suspended: bool) -> None:
        self.disturbances += 1
        self.world.change_spec(suspend=is_suspended)

    @rule(token=st.sampled_from(["a", "b", "c\n\x00"]))
    def ask_for_retry(self, token: str) -> None:
        self.disturbances += 1
        self.world.update_job(retry_token=token)

    @rule(
        word=st.sampled_from(WORDS),
        rows=st.sampled_from(["", "a1,b2", "a" * 100, ", ,"]),
        run=st.sampled_from([None, "0123456789abcdef", "another"]),
    )
    def review(self, word: str, rows: str, run: str | None) -> None:
        self.disturbances += 1
        said = {ANNOTATION: word, ROWS_ANNOTATION: rows, RUN_ANNOTATION: run}
        self.world.update_job(review={name: one for name, one in said.items() if one is not None})

    @rule(is_there=st.booleans())
    def take_a_name(self, is_there: bool) -> None:
        self.disturbances += 1
        self.world.foreign = {"ConfigMap job-manifest"} if is_there else set()

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def writes_are_few(self) -> None:
        # An attempt costs at most: start, three phases, its end; two objects and a deletion.
        attempts = read_status(self.world.job.status).attempts
        last = attempts[-1].number if attempts else 0
        assert self.world.counts.total <= 12 + 14 * last + 6 * self.disturbances

    def teardown(self) -> None:
        """With the trouble over, every job comes to a true end, and then nothing is written. An
        elastic one does with room for its fewest workers alone.

        What fails behind the training is asked for once more: it is the last that can be seen.
        """
        if not hasattr(self, "world"):
            return
        world = self.world
        world.foreign, world.refusal, world.crash_in = set(), "", None
        world.profiles = {}
        world.room = max(world.room, 1)
        world.change_spec(suspend=False)
        world.update_job(review={ANNOTATION: "approved"})
        self.run_to_end(self.last_exit)
        if world.has_trained and self.find_phase() == "Failed":
            world.update_job(retry_token="after the training")
            self.run_to_end(0)
            assert self.find_phase() == "Succeeded", world.transitions
        self.check_quiet()

    def run_to_end(self, last_exit: int) -> None:
        """Let everybody act, the last step ending so, until the job and its children are gone."""
        world, operator = self.world, self.operators[0]
        for _ in range(400):
            before = world.counts.total
            operator.hear_all()
            operator.work()
            is_clean = not world.ray_jobs and not world.list_maps()
            if is_clean and self.is_ended() and world.counts.total == before:
                break
            for name in sorted(world.ray_jobs):
                world.advance_ray_job(name, last_exit if "-finish-" in name else 0)
            world.collect_garbage()
            world.seconds += 20
        assert self.is_ended(), f"still {self.find_phase()} after: {world.transitions}"
        assert not world.ray_jobs, "RayJobs outlived clusterTTLSeconds"
        assert world.missing == set(CHILDREN), "children outlived clusterTTLSeconds"

    def find_phase(self) -> str:
        return str(read_status(self.world.job.status).phase)

    def is_ended(self) -> bool:
        state = read_state(read_status(self.world.job.status))
        return state is not None and state.is_terminal

    def check_quiet(self) -> None:
        before = self.world.counts.total, self.world.counts.progress
        for operator in self.operators:
            for _ in range(3):
                operator.hear_all()
                operator.work()
            operator.restart()
            operator.work()
            self.world.seconds += 1000
        assert (self.world.counts.total, self.world.counts.progress) == before


TestJob = Job.TestCase
TestJob.settings = settings(
    max_examples=count_cases(200),
    stateful_step_count=40,
    deadline=None,
    phases=PHASES,
    suppress_health_check=list(HealthCheck),
)
