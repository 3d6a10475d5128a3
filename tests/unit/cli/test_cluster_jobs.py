"""The cluster commands' parts that need no cluster: what is read, and how errors are told."""

from __future__ import annotations

import pytest
from tests.unit.cli.test_cli import run_cli

from loam_runtime.cluster_jobs import _explain, read_state

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


def test_a_job_that_nobody_has_seen_yet_can_be_read():
    """Between `kubectl apply` and the operator's first word there is no status at all."""
    state = read_state({"metadata": {"name": "a", "namespace": "n"}})
    assert (state.phase, state.reason, state.is_over) == ("Pending", "", False)


@pytest.mark.parametrize(
    ("status", "words", "code", "told"),
    [
        (404, "404 page not found", 10, "Loam is not installed"),
        (404, '"a" not found', 10, "no FineTuneJob a in namespace n"),
        (403, "forbidden", 11, "refuses"),
        (500, "etcd", 1, "answers 500"),
    ],
)
def test_each_refusal_has_its_class_and_way_out(status: int, words: str, code: int, told: str):
    """A script must tell a missing job from a missing cluster, and a person what to do."""
    error = _explain(status, words, "a", "n")
    assert error.exit_code == code
    assert told in error.message
    assert error.remedy.endswith(".")


def test_a_cluster_that_does_not_answer_is_named(monkeypatch, capsys, tmp_path):
    """A traceback of urllib3 does not say which kubeconfig was read."""
    (tmp_path / "config").write_text(KUBECONFIG)
    config = str(tmp_path / "config")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", config)
    assert run_cli(monkeypatch, "wait", "a") == 1
    told = capsys.readouterr().err
    assert "http://127.0.0.1:1" in told
    assert "KUBECONFIG" in told
