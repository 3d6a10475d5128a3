"""A base model behind the completions endpoint of an OpenAI-compatible server (vLLM, llama.cpp).

It continues a text instead of following instructions: what in-context synthesis was written for
(arXiv:2404.02422), with any model in the place of the job's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest
from loam_runtime.synthesis.faults import AttemptFailed
from loam_runtime.synthesis.openai_teacher import OPENAI, OpenAICompatibleTeacher, read_completion

_MARK = "#completions"


class CompletionsTeacher(OpenAICompatibleTeacher):
    """See `OpenAICompatibleTeacher`; the arguments are the same."""

    is_chat = False

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        self._sends_top_k = self.endpoint != OPENAI  # which refuses what it does not know
        # Part of every request's identity: a chat model's answers are not a base model's.
        self._address, self.endpoint = super().base_url, self.endpoint + _MARK

    @property
    def base_url(self) -> str:
        """The address in full."""
        return self._address

    async def answer(self, requests: Sequence[TeacherRequest]) -> list[TeacherAnswer]:
        """See `Teacher`."""
        (request,) = requests
        body = await self._post("completions", request)
        return [read_completion(_as_chat(body), request)]

    def build_body(self, request: TeacherRequest) -> dict[str, object]:
        """The JSON of a request: its contents as one text."""
        body = super().build_body(request)
        del body["messages"]
        text = "\n\n".join(content for _, content in request.messages)
        top_k = {"top_k": request.top_k} if request.top_k and self._sends_top_k else {}
        return self.dialect.write({**body, "prompt": text, **top_k})


def _as_chat(body: object) -> object:
    """A completion's body in the shape of a chat completion's."""
    try:
        choices = [{**choice, "message": {"content": choice["text"]}} for choice in body["choices"]]
        return {**body, "choices": choices}
    except (TypeError, KeyError) as exc:
        raise AttemptFailed("a response that is not a completion") from exc
