"""The head at supervised positions only gives the loss that full logits give."""

from __future__ import annotations

import pytest
import torch
from tests.tools.training_tools import make_config, make_rows

from loam_runtime.errors import InputError
from loam_runtime.models.loading import load_base
from loam_runtime.training import objective as objective_module
from loam_runtime.training.collate import collate
from loam_runtime.training.methods.lora import add_adapters
from loam_runtime.training.objective import SupervisedObjective


def _compute_reference(model: torch.nn.Module, rows) -> torch.Tensor:
    """The loss in its plainest form: one row at a time, all logits, labels of -100."""
    total = torch.zeros(())
    for row in rows:
        ids = torch.tensor([row.input_ids])
        labels = ids.clone()
        labels[:, : row.num_prompt_tokens] = -100
        logits = model(input_ids=ids, use_cache=False).logits.float()
        total = total + torch.nn.functional.cross_entropy(
            logits[0, :-1], labels[0, 1:], ignore_index=-100, reduction="sum"
        )
    return total


@pytest.mark.parametrize("kind", ["gemma", "llama"])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_loss_equals_that_of_full_logits(kind, softcap, request):
    """Ragged rows, padding on the right, an adapter on top: a wrong shift, mask or soft cap
    would train on other tokens than generation needs."""
    base = load_base(request.getfixturevalue(f"{kind}_folder"), device="cpu", dtype=torch.float32)
    base.config.final_logit_softcapping = softcap if kind == "gemma" else None
    model = add_adapters(base, make_config()).train()
    rows = make_rows(7)
    torch.testing.assert_close(
        SupervisedObjective(model)(collate(rows)),
        _compute_reference(model, rows),
        rtol=1e-5,
        atol=0,
    )


def test_chunks_change_neither_loss_nor_gradient(llama_folder, monkeypatch):
    """Chunks exist for memory alone."""
    batch = collate(make_rows(7))

    def run():
        model = load_base(llama_folder, device="cpu", dtype=torch.float32).requires_grad_(True)
        loss = SupervisedObjective(model)(batch)
        loss.backward()
        return loss, model.lm_head.weight.grad, model.model.embed_tokens.weight.grad

    whole = run()
    monkeypatch.setattr(objective_module, "POSITIONS_PER_CHUNK", 5)
    for one, other in zip(whole, run(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_answer_is_learned_with_its_end():
    """Of each row exactly the tokens after the prompt, the terminator last: without it the
    model never stops. Padding is token 0 here, and would be the terminator in many models."""
    rows = make_rows(3)
    answers = [token for row in rows for token in row.input_ids[row.num_prompt_tokens :]]
    assert collate(rows).targets.tolist() == answers


def test_placeholder_has_gradients_of_zero(llama_folder):
    """A rank without rows takes part in every reduction and adds nothing."""
    model = load_base(llama_folder, device="cpu", dtype=torch.float32).requires_grad_(True)
    SupervisedObjective(model)(collate([])).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_unknown_head_is_refused(llama_folder):
    """A family that scales its logits in its own way would silently be trained wrongly."""
    model = load_base(llama_folder, device="cpu", dtype=torch.float32)
    SupervisedObjective(model).check_head()
    forward = model.forward

    def scale_logits(**inputs):
        output = forward(**inputs)
        output.logits = output.logits * 0.5
        return output

    model.forward = scale_logits
    with pytest.raises(InputError, match="llama"):
        SupervisedObjective(model).check_head()
