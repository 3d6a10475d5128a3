"""A teacher that is down, slow, rate-limiting or talks nonsense, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from tests.tools.fault_teacher import Call, FaultTeacher, Reply, Script, serve_script

from loam_runtime.errors import BudgetError, CredentialsError, TeacherError
from loam_runtime.synthesis.budget import BudgetLedger
from loam_runtime.synthesis.client import TeacherClient
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.journal import Journal
from loam_runtime.synthesis.openai_teacher import OpenAICompatibleTeacher
from loam_runtime.synthesis.pacing import RetryPolicy
from loam_runtime.synthesis.refusals import MOST_IN_A_ROW
from loam_runtime.synthesis.usage import Usage

QUICK = RetryPolicy(
    base_delay_seconds=0.01,
    max_delay_seconds=0.05,
    patience_seconds=1.0,
    first_patience_seconds=1.0,
)

# Where it is not the patience that is tried: on a busy machine a second may pass unused.
PATIENT = replace(QUICK, patience_seconds=60.0, first_patience_seconds=60.0)


def make_requests(count: int, max_tokens: int = 50) -> list[TeacherRequest]:
    return [
        TeacherRequest((("user", f"question {i}"),), max_tokens=max_tokens, draw=i)
        for i in range(count)
    ]


def ask(
    base_url: str,
    folder: Path,
    requests: list[TeacherRequest],
    *,
    concurrency: int = 8,
    timeout_seconds: float = 10.0,
    policy: RetryPolicy = QUICK,
    budget: dict[str, int] | None = None,
    key: str = "secret-key",
) -> tuple[list[TeacherAnswer | None], Usage]:
    """One start of a run: journal, budget, client, all requests."""

    async def work() -> tuple[list[TeacherAnswer | None], Usage]:
        teacher = OpenAICompatibleTeacher(
            "m", base_url, key, concurrency=concurrency, timeout_seconds=timeout_seconds
        )
        try:
            async with Journal(folder, "run") as journal:
                ledger = BudgetLedger(
                    **(budget or {}),
                    spent=journal.spent,
                )
                client = TeacherClient(teacher, journal, ledger, policy=policy)
                return await client.ask_many(requests), client.usage
        finally:
            await teacher.close()

    return asyncio.run(work())


def refuse_prompt(status: int) -> Reply:
    error = {"message": "the prompt is filtered", "code": "content_filter"}
    return Reply(status=status, raw_body=json.dumps({"error": error}))


def answer_after(fault: Reply, times: int = 1) -> Script:
    """Each question meets the fault first, then is answered."""

    def script(call: Call) -> Reply:
        return fault if call.attempt < times else Reply(text=f"re: {call.question}")

    return script


@pytest.mark.parametrize(
    "fault",
    [
        Reply(status=429, headers={"Retry-After": "0.05"}),
        Reply(status=500),
        Reply(status=502),
        Reply(status=503),
        Reply(status=520),
        Reply(drop=True),
        Reply(raw_body="<html>gateway</html>"),
        Reply(raw_body='{"choices": []}'),
        Reply(raw_body='{"object": "chat.completion"}'),
    ],
    ids=["429", "500", "502", "503", "520", "dropped", "not JSON", "no choices", "no body"],
)
def test_passing_fault(tmp_path: Path, fault: Reply) -> None:
    """A fault that passes costs one retry per request and no answer; it is never cached."""
    with serve_script(answer_after(fault)) as server:
        answers, usage = ask(server.base_url, tmp_path, make_requests(12))
        assert [answer.text for answer in answers] == [f"re: question {i}" for i in range(12)]
        assert usage.retries == 12
        again, _ = ask(server.base_url, tmp_path, make_requests(12))
    assert again == answers
    assert server.num_requests == 24


def test_retry_after_is_kept(tmp_path: Path) -> None:
    """No retry comes sooner than the endpoint asked, while other requests go on."""
    first_seen: dict[str, float] = {}
    early: list[str] = []

    def script(call: Call) -> Reply:
        now = time.monotonic()
        if call.attempt == 0 and call.question.endswith(("1", "4")):
            first_seen[call.question] = now
            return Reply(status=429, headers={"Retry-After": "0.4"})
        if call.question in first_seen and now - first_seen[call.question] < 0.4:
            early.append(call.question)
        return Reply(text="fine")

    with serve_script(script) as server:
        answers, usage = ask(server.base_url, tmp_path, make_requests(20))
    assert all(answers)
    assert usage.rate_limited == 4
    assert early == []


def test_true_cap_is_found(tmp_path: Path) -> None:
    """Under a cap of 8 open requests, 32 allowed ones settle near the cap: most requests are
    answered at once instead of being refused again and again."""
    open_now = threading.Semaphore(8)

    def script(call: Call) -> Reply:
        if not open_now.acquire(blocking=False):
            return Reply(status=429, headers={"Retry-After": "0.1"})
        time.sleep(0.02)  # the teacher's own latency
        open_now.release()
        return Reply(text="fine")

    with serve_script(script) as server:
        requests = make_requests(200)
        answers, _ = ask(server.base_url, tmp_path, requests, concurrency=32, policy=PATIENT)
    assert all(answers)
    assert server.num_requests < 1.6 * 200


def test_one_bad_prompt(tmp_path: Path) -> None:
    """A prompt that always fails is given up alone, and asked again by the next start."""

    def script(call: Call) -> Reply:
        return Reply(status=500) if call.question == "question 3" else Reply(text="fine")

    with serve_script(script) as server:
        answers, usage = ask(server.base_url, tmp_path, make_requests(6))
        assert [answer is None for answer in answers] == [i == 3 for i in range(6)]
        assert usage.given_up == 1
        server.script = lambda call: Reply(text="fine")
        answers, usage = ask(server.base_url, tmp_path, make_requests(6))
    assert all(answers)
    assert (usage.reused, usage.requests) == (5, 1)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_refused_prompt(tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int) -> None:
    """A prompt that a content filter stops, or that is too long, is given up alone, without a
    second try and with the endpoint's words; else it would end the run, in each start again."""
    bad = {"question 3", "question 4"}

    def script(call: Call) -> Reply:
        return refuse_prompt(status) if call.question in bad else Reply(text="fine")

    requests = make_requests(6)
    with serve_script(script) as server:
        answers, usage = ask(server.base_url, tmp_path, requests, concurrency=1)
        assert [answer is None for answer in answers] == [i in (3, 4) for i in range(6)]
        assert (usage.given_up, usage.retries, server.num_requests) == (2, 0, 6)
        again, usage = ask(server.base_url, tmp_path, requests, concurrency=1)
    assert again == answers
    assert (usage.given_up, usage.reused, server.num_requests) == (2, 4, 8)
    assert caplog.text.count("the prompt is filtered") == 2  # once a start


def test_a_prompt_refused_before_any_answer(tmp_path: Path) -> None:
    """A refusal comes sooner than an answer: it waits for what is under way before it ends the
    run."""
    has_refused = threading.Event()

    def script(call: Call) -> Reply:
        if call.question == "question 0":
            has_refused.set()
            return refuse_prompt(400)
        has_refused.wait(30)
        time.sleep(0.2)  # the teacher's own latency
        return Reply(text="fine")

    with serve_script(script) as server:
        answers, usage = ask(server.base_url, tmp_path, make_requests(12), policy=PATIENT)
    assert [answer is None for answer in answers] == [i == 0 for i in range(12)]
    assert usage.given_up == 1


def test_an_endpoint_that_begins_to_refuse_all(tmp_path: Path) -> None:
    """That nothing else is answered is no matter of single prompts: the run ends with the
    endpoint's words, and the queue is not drained for nothing."""

    def script(call: Call) -> Reply:
        return Reply(text="fine") if call.number < 5 else refuse_prompt(400)

    with serve_script(script) as server:
        with pytest.raises(TeacherError, match="the prompt is filtered"):
            ask(server.base_url, tmp_path, make_requests(200), concurrency=4)
        assert server.num_requests <= 5 + MOST_IN_A_ROW + 2 * 4


def test_pauses_grow_where_none_is_asked_for(tmp_path: Path) -> None:
    """An endpoint that refuses for load and names no pause is asked ever more seldom, although
    such a refusal uses up no try; else each request would come ten times a second."""
    seen: list[float] = []

    def script(call: Call) -> Reply:
        seen.append(time.monotonic())
        return Reply(status=503) if call.attempt < 7 else Reply(text="fine")

    policy = replace(PATIENT, max_tries=2, base_delay_seconds=0.01, max_delay_seconds=10.0)
    with serve_script(script) as server:
        answers, usage = ask(server.base_url, tmp_path, make_requests(1), policy=policy)
    assert all(answers)
    assert usage.retries == 7
    pauses = [later - earlier for earlier, later in pairwise(seen)]
    assert all(pause >= 0.01 * 2**number for number, pause in enumerate(pauses))


@pytest.mark.parametrize(
    ("given", "environment", "is_own"),
    [
        ("", "{url}", True),
        ("{url}", "{url}/", True),
        ("{url}", "", False),  # an address of this machine as well: another program may listen
        ("{url}", "https://api.openai.com/v1", False),
    ],
)
def test_key_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, environment: str, is_own: bool
) -> None:
    """OPENAI_API_KEY and the account beside it go to the environment's address alone: a judge of
    another provider must not receive them."""
    with serve_script(lambda call: Reply(text="fine")) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "own-key")
        monkeypatch.setenv("OPENAI_ORG_ID", "own-account")
        monkeypatch.setenv("OPENAI_BASE_URL", environment.format(url=server.base_url))
        ask(given.format(url=server.base_url), tmp_path, make_requests(1), key="")
    (headers,) = server.headers
    assert headers["Authorization"] == ("Bearer own-key" if is_own else None)
    assert headers["OpenAI-Organization"] == ("own-account" if is_own else None)


def test_a_key_given_goes_where_it_was_given_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of its own goes before the environment's, whose account it does not belong to."""
    monkeypatch.setenv("OPENAI_API_KEY", "own-key")
    monkeypatch.setenv("OPENAI_ORG_ID", "own-account")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with serve_script(lambda call: Reply(text="fine")) as server:
        ask(server.base_url, tmp_path, make_requests(1))
    (headers,) = server.headers
    assert headers["Authorization"] == "Bearer secret-key"
    assert headers["OpenAI-Organization"] is None


def test_slow_teacher(tmp_path: Path) -> None:
    """An answer that never comes is a time-out of its own request; others are not held."""
    held: set[str] = set()

    def script(call: Call) -> Reply:
        if call.question == "question 0" and not held:
            held.add(call.question)
            return Reply(text="late", hold=True)
        return Reply(text="fine")

    with serve_script(script) as server:
        answers, usage = ask(server.base_url, tmp_path, make_requests(10), timeout_seconds=0.5)
    assert [answer.text for answer in answers] == ["fine"] * 10
    assert usage.retries == 1


def test_queueing_is_not_a_timeout(tmp_path: Path) -> None:
    """Twenty answers of 0.1 s through one slot take longer than the time-out: each is timed
    from when it is sent, so none times out."""

    def script(call: Call) -> Reply:
        time.sleep(0.1)  # the teacher's own latency
        return Reply(text="fine")

    with serve_script(script) as server:
        answers, usage = ask(
            server.base_url, tmp_path, make_requests(20), concurrency=1, timeout_seconds=1.0
        )
    assert all(answers)
    assert usage.retries == 0


def test_teacher_is_down(tmp_path: Path) -> None:
    """Nobody listens: after bounded patience the error names the address."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        started = time.monotonic()
        with pytest.raises(TeacherError, match=url):
            ask(url, tmp_path, make_requests(30))
    assert time.monotonic() - started < 30


def test_teacher_goes_down(tmp_path: Path) -> None:
    """A teacher that stops answering ends the run; the answers it gave are kept."""

    def script(call: Call) -> Reply:
        return Reply(text="fine") if call.number < 5 else Reply(status=503)

    with serve_script(script) as server:
        with pytest.raises(TeacherError, match="HTTP 503"):
            ask(server.base_url, tmp_path, make_requests(20))
        server.script = lambda call: Reply(text="fine")
        _, usage = ask(server.base_url, tmp_path, make_requests(20))
    assert usage.reused == 5


def test_outage_costs_no_request_its_tries(tmp_path: Path) -> None:
    """Through an outage single probes are sent, and afterwards every request is answered; else
    each of them spends all its tries on it and is given up."""
    outage_over = threading.Event()
    num_failed = [0]

    def script(call: Call) -> Reply:
        if outage_over.is_set():
            return Reply(text="fine")
        num_failed[0] += 1
        if num_failed[0] == 25:
            outage_over.set()
        return Reply(status=500)

    few_tries = replace(PATIENT, max_tries=3)
    with serve_script(script) as server:
        answers, usage = ask(server.base_url, tmp_path, make_requests(10), policy=few_tries)
    assert all(answers)
    assert usage.given_up == 0


def test_redirect_is_not_followed(tmp_path: Path) -> None:
    """A redirect is a refusal: the key must not travel to an address that nobody named."""
    away = Reply(status=307, headers={"Location": "http://127.0.0.1:9/v1/chat/completions"})
    with (
        serve_script(lambda call: away) as server,
        pytest.raises(TeacherError, match="HTTP 307"),
    ):
        ask(server.base_url, tmp_path, make_requests(1))


def test_quota_for_tomorrow(tmp_path: Path) -> None:
    """A Retry-After beyond all patience is said instead of waited for."""
    reply = Reply(status=429, headers={"Retry-After": "86400"})
    with serve_script(lambda call: reply) as server, pytest.raises(TeacherError, match="86400 s"):
        ask(server.base_url, tmp_path, make_requests(2))


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, CredentialsError, "key"),
        (403, CredentialsError, "key"),
        (404, TeacherError, "model"),
        (400, TeacherError, "scripted status 400"),
    ],
)
def test_refusal_is_final(tmp_path: Path, status: int, error: type[Exception], words: str) -> None:
    """What no retry cures is told at once with what to check, and without the key."""
    with serve_script(lambda call: Reply(status=status)) as server:
        with pytest.raises(error, match=words) as caught:
            ask(server.base_url, tmp_path, make_requests(40), concurrency=4)
        assert server.num_requests <= 8
    assert "secret-key" not in str(caught.value)


def test_no_usage_reported(tmp_path: Path) -> None:
    """Tokens are estimated where the endpoint reports none: a budget must still bind."""
    with serve_script(lambda call: Reply(text="twelve chars", has_usage=False)) as server:
        (answer,), _ = ask(server.base_url, tmp_path, make_requests(1))
    assert answer.prompt_tokens > 0
    assert answer.completion_tokens == 3


def test_empty_answers_are_counted(tmp_path: Path) -> None:
    """An empty answer was paid: it is kept, counted, and not asked again."""
    with serve_script(lambda call: Reply(text="")) as server:
        _, usage = ask(server.base_url, tmp_path, make_requests(3))
        _, again = ask(server.base_url, tmp_path, make_requests(3))
    assert (usage.empty, again.reused) == (3, 3)
    assert server.num_requests == 3


def test_budget_stops_and_resumes(tmp_path: Path) -> None:
    """Spending never passes the limit; a raised budget goes on where it stopped, repeating
    nothing."""
    requests = make_requests(30)
    with serve_script(lambda call: Reply(text="fine")) as server:
        with pytest.raises(BudgetError, match="of 800 tokens"):
            ask(server.base_url, tmp_path, requests, budget={"max_tokens": 800})
        num_first = server.num_requests
        assert 60 * num_first <= 800
        with pytest.raises(BudgetError):
            ask(server.base_url, tmp_path, requests, budget={"max_tokens": 800})
        assert server.num_requests == num_first
        answers, _ = ask(server.base_url, tmp_path, requests, budget={"max_tokens": 9000})
    assert all(answers)
    assert server.num_requests == 30
    assert server.num_repeated == 0


def test_request_budget_counts_dropped_ones(tmp_path: Path) -> None:
    """A dropped connection may be billed: it counts against the budget."""
    with (
        serve_script(lambda call: Reply(drop=True)) as server,
        pytest.raises(BudgetError, match="3 of 3 requests"),
    ):
        ask(server.base_url, tmp_path, make_requests(9), budget={"max_requests": 3})
    assert server.num_requests == 3


def test_endpoint_sees_what_was_asked(tmp_path: Path) -> None:
    """Sampling and messages arrive as given, and at most `concurrency` requests are open."""
    server: FaultTeacher
    with serve_script(lambda call: Reply(text="fine")) as server:
        ask(server.base_url, tmp_path, make_requests(40), concurrency=5)
    body = server.bodies[0]
    assert body["max_tokens"] == 50
    assert body["messages"][0]["role"] == "user"
    assert server.peak_open <= 5
    assert json.dumps(body).count("secret-key") == 0


def test_schema_where_it_is_taken(tmp_path: Path) -> None:
    """Rows are asked for by a schema; an endpoint that refuses it is asked without from then on,
    and nothing is lost or charged twice."""

    def script(call: Call) -> Reply:
        return Reply(status=400) if "response_format" in call.body else Reply(text="fine")

    requests = [replace(request, row_keys=("input",)) for request in make_requests(20)]
    with serve_script(script) as server:
        answers, usage = ask(
            server.base_url, tmp_path, requests, concurrency=1, budget={"max_requests": 20}
        )
        assert all(answers)
        assert server.num_requests == 21
        assert usage.given_up == 0
    with serve_script(lambda call: Reply(text="fine")) as server:
        ask(server.base_url, tmp_path / "b", requests[:1])
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["rows"]["items"]["required"] == ["input"]


def test_a_prompt_that_is_refused_costs_no_schema(tmp_path: Path) -> None:
    """A content filter speaks of one prompt: taken for a refusal of the schema, it would leave all
    later answers without one."""

    def script(call: Call) -> Reply:
        bad = refuse("prompt", "content_filter", "The prompt was filtered.")
        return bad if call.question == "question 3" else Reply(text="fine")

    requests = [
        TeacherRequest((("user", f"question {number}"),), max_tokens=50, row_keys=("input",))
        for number in range(6)
    ]
    with serve_script(script) as server:
        answers, usage = ask(server.base_url, tmp_path, requests, concurrency=1)
    assert [bool(answer) for answer in answers] == [True, True, True, False, True, True]
    assert usage.given_up == 1
    assert all("response_format" in body for body in server.bodies)


def refuse_parameters(call: Call) -> Reply:
    """A model that reasons, as OpenAI's endpoint speaks for it: one parameter a refusal."""
    body = call.body
    if "response_format" in body:
        return Reply(status=400)  # of another make: it says nothing more
    if "max_tokens" in body:
        return refuse("max_tokens", "unsupported_parameter", "Use 'max_completion_tokens' instead.")
    if "temperature" in body:
        return refuse("temperature", "unsupported_value", "Only the default (1) is supported.")
    return Reply(text="fine")


def refuse(name: str, code: str | None, words: str) -> Reply:
    message = f"Unsupported parameter: '{name}' is not supported with this model. {words}"
    error = {"message": message, "param": name if code else None, "code": code}
    return Reply(status=400, raw_body=json.dumps({"error": error}))


def test_refused_parameters_are_learnt(tmp_path: Path) -> None:
    """A model that knows no max_tokens and no temperature is asked as it wants to be, after one
    refusal for each: its limit stays, so that the budget does, and nothing is charged for it."""
    requests = [replace(request, row_keys=("input",)) for request in make_requests(20)]
    with serve_script(refuse_parameters) as server:
        answers, usage = ask(
            server.base_url, tmp_path, requests, concurrency=1, budget={"max_requests": 20}
        )
    assert all(answers)
    assert server.num_requests == 23
    assert usage.given_up == usage.retries == 0
    for body in server.bodies[3:]:
        assert body["max_completion_tokens"] == 50
        assert not {"max_tokens", "temperature", "response_format"} & body.keys()
        assert "top_p" in body


@pytest.mark.parametrize("code", ["unsupported_parameter", None])
def test_refusals_of_all_open_requests_teach_the_same(tmp_path: Path, code: str | None) -> None:
    """Requests that were open when the first refusal came are asked anew, not given up; also where
    the words alone name the parameter."""

    def script(call: Call) -> Reply:
        is_old = "max_tokens" in call.body
        return refuse("max_tokens", code, "") if is_old else Reply(text="fine")

    with serve_script(script) as server:
        answers, usage = ask(server.base_url, tmp_path, make_requests(40), concurrency=16)
    assert all(answers)
    assert usage.given_up == 0
    assert server.num_requests <= 40 + 16


def test_wrong_values_are_told(tmp_path: Path) -> None:
    """A temperature out of range is the user's to correct: asked without it, the run would be
    another one than the manifest says."""
    error = {"message": "'temperature' must be 2 or less", "param": "temperature", "code": None}
    refusal = Reply(status=400, raw_body=json.dumps({"error": error}))
    with (
        serve_script(lambda call: refusal) as server,
        pytest.raises(TeacherError, match="must be 2 or less"),
    ):
        ask(server.base_url, tmp_path, make_requests(1))
    assert server.num_requests == 1
