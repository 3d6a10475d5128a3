"""vLLM's side of `vllm_model.py`. The interpreter that has vLLM runs it: it imports no Loam.

One JSON object a line, an answer for each question:

    {"operation": "probe"}                      version, device, architectures
    {"operation": "load", ...}                  arguments of the engine
    {"operation": "answer", "requests": [...]}  one answer for each, see `_answer`

It ends with its standard input, so that no GPU stays taken when its parent is killed.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from typing import Any, TextIO

Requests = list[dict[str, Any]]


class Worker:
    """Answers one question at a time."""

    def __init__(self) -> None:
        self._engine: Any = None

    def probe(self) -> dict[str, Any]:
        """What this vLLM is and can load."""
        import vllm
        from vllm.model_executor.models import ModelRegistry
        from vllm.platforms import current_platform

        architectures = sorted(ModelRegistry.get_supported_archs())
        return {
            "version": vllm.__version__,
            "device": current_platform.device_type,
            "architectures": architectures,
        }

    def load(self, **arguments: Any) -> None:
        """Load a model into an engine of this process."""
        from vllm import EngineArgs, LLMEngine

        self._engine = LLMEngine.from_engine_args(EngineArgs(**arguments))

    def answer(self, requests: Requests) -> Requests:
        """Tokens, and log p where it is asked for, of each request.

        What was computed for earlier questions is forgotten: how sums are rounded depends on
        what is taken from the cache, and an answer must not depend on who was asked before.
        """
        self._engine.reset_prefix_cache()
        for number, request in enumerate(requests):
            prompt = {"prompt_token_ids": request["prompt"]}
            self._engine.add_request(str(number), prompt, _build_parameters(request))
        answers: dict[int, dict[str, Any]] = {}
        while self._engine.has_unfinished_requests():
            for output in self._engine.step():
                number = int(output.request_id)
                made = output.outputs[0]
                stops = requests[number].get("stops_at_newline") and "\n" in made.text.lstrip()
                if stops and not output.finished:
                    self._engine.abort_request([output.request_id])
                if stops or output.finished:
                    answers[number] = _answer(requests[number], made, bool(stops))
        return [answers[number] for number in range(len(requests))]


def _build_parameters(request: dict[str, Any]) -> Any:
    from vllm import SamplingParams

    wanted = request.get("wanted")
    if wanted is not None:
        return SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=wanted)
    return SamplingParams(
        max_tokens=request["max_tokens"],
        temperature=request["temperature"],
        top_k=request["top_k"],
        top_p=request["top_p"],
        seed=request["seed"],
        stop_token_ids=request["end_ids"],
        skip_special_tokens=True,
        spaces_between_special_tokens=False,
    )


def _answer(request: dict[str, Any], made: Any, stopped: bool) -> dict[str, Any]:
    wanted = request.get("wanted")
    if wanted is not None:
        return {"log_probs": [made.logprobs[0][token].logprob for token in wanted]}
    finished = stopped or made.finish_reason == "stop"
    return {"ids": list(made.token_ids), "finished": finished}


def _read_lines(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)  # also in the midst of an answer: nobody waits for it


def _open_channel() -> TextIO:
    """Standard output for answers alone: what vLLM prints goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def main() -> None:
    channel = _open_channel()
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_lines, args=(lines,), daemon=True).start()
    worker = Worker()
    while True:
        question = json.loads(lines.get())
        operation = question.pop("operation")
        try:
            reply = {"result": getattr(worker, operation)(**question)}
        except ValueError as exc:  # so vLLM refuses what it cannot do; anything else ends it
            reply = {"error": str(exc)}
        channel.write(json.dumps(reply) + "\n")
        channel.flush()


if __name__ == "__main__":
    main()
