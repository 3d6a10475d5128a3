"""Whether the operator still hears and works; answers to the kubelet and to Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

# The Lease is written every few seconds; its echo by a watch is the watches' pulse.
PULSE_SECONDS = 90.0
_MOST_BETWEEN_SECONDS = 5.0  # two renewals, but for an API server that does not answer


class Health:
    """What the probes are told.

    Args:
        clock: seconds that never go back.
        is_ready: whether this is the operator that writes.
    """

    def __init__(self, clock: Callable[[], float], is_ready: Callable[[], bool]) -> None:
        self._clock = clock
        self._renewed_at = clock()
        self._silence = 0.0
        self.is_ready = is_ready

    def note_renewal(self) -> None:
        """The Lease is renewed, by this process or as it has just read: a watch has to tell of it.

        The time in which the API server did not answer is no silence of the watches, and a new
        process would hear no more.
        """
        now = self._clock()
        self._silence += min(now - self._renewed_at, _MOST_BETWEEN_SECONDS)
        self._renewed_at = now

    def hear_pulse(self) -> None:
        """A watch has delivered a renewal of the Lease."""
        self._silence = 0.0

    def find_trouble(self) -> str:
        """Why the process should be restarted; "" for no reason."""
        if self._silence > PULSE_SECONDS:
            return f"no watch event for {self._silence:.0f} s although the lease is renewed"
        return ""


async def serve(health: Health, port: int, refresh: Callable[[], None]) -> web.AppRunner:
    """Serve /healthz, /readyz and /metrics; the caller cleans the runner up."""

    async def answer_live(_: web.Request) -> web.Response:
        trouble = health.find_trouble()
        return web.Response(status=503 if trouble else 200, text=trouble or "ok")

    async def answer_ready(_: web.Request) -> web.Response:
        return web.Response(status=200 if health.is_ready() else 503)

    async def answer_metrics(_: web.Request) -> web.Response:
        refresh()
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", answer_live)
    app.router.add_get("/readyz", answer_ready)
    app.router.add_get("/metrics", answer_metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()
    return runner
