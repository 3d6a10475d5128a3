"""One job's way, with everybody acting in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.unit.operator.world import Operator, World

from loam_operator.decision import Launch
from loam_operator.observed import JobView
from loam_operator.status import read_state, read_status


class Lane:
    """A world with one operator that hears everything at once."""

    def __init__(self, **spec: Any) -> None:
        self.world = World()
        self.world.change_spec(**spec)
        self.operator = Operator(self.world)

    def work(self, passes: int = 3) -> None:
        for _ in range(passes):
            self.operator.hear_all()
            self.operator.work()

    def run_until(self, state: str, exit_code: int = 0, most: int = 200) -> None:
        """Let everybody act until the job is in this state."""
        self.act_until(lambda: self.state == state, state, exit_code, most)

    def act_until(
        self, is_so: Callable[[], Any], what: str, exit_code: int = 0, most: int = 200
    ) -> None:
        """Let everybody act until the operator has made it so."""
        for _ in range(most):
            self.work(1)
            if is_so():
                return
            self.act(exit_code)
        raise AssertionError(f"never {what}: {self.world.transitions}")

    def act(self, exit_code: int = 0) -> None:
        for name in sorted(self.world.ray_jobs):
            self.world.advance_ray_job(name, exit_code)
        self.world.collect_garbage()
        self.world.seconds += 5

    def note_launches(self) -> list[Launch]:
        """A list that fills with what the operator launches."""
        launches: list[Launch] = []
        create = self.world.create_attempt

        async def note(job: JobView, launch: Launch) -> Any:
            if not any(one.attempt == launch.attempt for one in launches):
                launches.append(launch)
            return await create(job, launch)

        self.world.create_attempt = note  # type: ignore[method-assign]
        return launches

    @property
    def status(self) -> Any:
        assert self.world.job is not None
        return read_status(self.world.job.status)

    @property
    def state(self) -> str:
        state = read_state(self.status)
        return state.name if state else ""

    @property
    def message(self) -> str:
        return str(next(one.message for one in self.status.conditions if one.type == "Ready"))

    @property
    def reasons(self) -> list[str]:
        return [attempt.reason for attempt in self.status.attempts]
