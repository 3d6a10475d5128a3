"""What the operator is told of a run: the latest, seldom, and the result for sure."""

from __future__ import annotations

import threading

from loam_api.progress_document import ProgressDocument, ResultDocument, parse_progress
from loam_runtime.observability import config_map
from loam_runtime.observability.config_map import ConfigMapProgress


class Shown:
    """An inner progress that notes what it was told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str):
        return lambda *arguments: self.calls.append(name)


class Server:
    """Takes documents, after having refused some."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.documents: list[ProgressDocument] = []
        self.has_some = threading.Event()

    def write(self, document: ProgressDocument) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError("refused")
        self.documents.append(document)
        self.has_some.set()


def test_result_arrives_though_the_server_was_away(monkeypatch):
    """A success that was never told would be run again."""
    monkeypatch.setattr(config_map, "_RETRY_SECONDS", 0.01)
    server = Server(refusals=3)
    progress = ConfigMapProgress(Shown(), server.write, attempt=2)
    progress.finish(ResultDocument(exit_code=0))
    assert server.documents[-1].result == ResultDocument(exit_code=0)
    assert parse_progress(server.documents[-1].to_json(), 2) == server.documents[-1]


def test_a_document_says_whose_it_is():
    """It stays where it is when a queue takes the pods away: without a name on it the operator
    would believe it of the next ones."""
    server = Server()
    progress = ConfigMapProgress(Shown(), server.write, 2, "job-train-a2-x7k2p")
    progress.finish(ResultDocument(exit_code=0))
    told = parse_progress(server.documents[-1].to_json(), 2)
    assert told is not None
    assert told.job_id == "job-train-a2-x7k2p"


def test_many_steps_are_few_writes(monkeypatch):
    """A write a step would be thousands, to an API server that has other things to do; and what it
    is told last has to say whether the training learns, as most people look nowhere else."""
    monkeypatch.setattr(config_map, "WRITE_INTERVAL_SECONDS", 60.0)
    server, shown = Server(), Shown()
    progress = ConfigMapProgress(shown, server.write, attempt=1)
    progress.start_stage("train")
    assert server.has_some.wait(10)
    progress.start_work("train", 1000, "steps")
    for _ in range(620):
        progress.advance("train", 1, {"loss": 0.4123, "tokens_per_s": 90})
    progress.finish(ResultDocument(exit_code=15, message="NaN"))
    assert len(server.documents) == 2
    assert server.documents[-1].stage == "train"
    assert server.documents[-1].summary == "train 62%, step 620 of 1000, loss 0.412"
    assert shown.calls.count("advance") == 620


def test_only_training_has_steps_and_no_summary_is_too_long():
    """A document over its bounds is taken for hostile, and its result is lost with it."""
    server = Server()
    progress = ConfigMapProgress(Shown(), server.write, attempt=1)
    progress.start_stage("synthesize")
    progress.start_work("synthesize", 10**12, "rows")
    progress.advance("synthesize", 10**12, {"kept": 4})
    assert progress._document.summary == "synthesize 100%"
    progress.start_work("synthesize", 10**30, "steps")
    progress.advance("synthesize", 10**29, {"loss": 1e-300})
    progress.finish(ResultDocument(exit_code=0))
    told = parse_progress(server.documents[-1].to_json(), 1)
    assert told is not None
    assert told.summary.startswith("synthesize 10%, step 1")


def test_waits_add_up_in_the_document():
    """GPUs that wait for a checkpoint are paid for: from the sums the operator tells how many."""
    server, shown = Server(), Shown()
    progress = ConfigMapProgress(shown, server.write, attempt=1)
    progress.start_stage("train")
    for seconds in (0.5, 1.25):
        progress.note_wait("checkpoint", seconds)
    progress.note_wait("download", 40.0)
    progress.finish(ResultDocument(exit_code=0))
    told = parse_progress(server.documents[-1].to_json(), 1)
    assert told is not None
    assert (told.checkpoint_seconds, told.download_seconds) == (1.75, 40.0)
    assert shown.calls.count("note_wait") == 3


def test_every_stage_of_the_pipeline_can_be_told():
    """A stage that the document does not know would make it invalid, and a success unheard."""
    from loam_runtime.pipeline import DOWNLOAD, STAGES

    for stage in (DOWNLOAD, *STAGES):
        document = ProgressDocument.model_validate({"attempt": 1, "stage": stage})
        assert parse_progress(document.to_json(), 1) == document
