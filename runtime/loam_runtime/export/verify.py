"""Proof that what is published is what was trained: loaded afresh, it must say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from scipy.special import log_softmax

from loam_runtime.errors import DivergenceError
from loam_runtime.export.adapter import ADAPTER_CONFIG, refuse_pickles
from loam_runtime.export.errors import ExportError
from loam_runtime.models.loading import Quantization, load_adapted, load_base

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Mean KL divergence in nats between the trained model and the loaded one. float32 differs only
# by the order of sums; bfloat16 keeps 8 bits, so logits around 20 come in steps of 1/8.
TOLERANCE_NATS = {torch.float32: 1e-4, torch.bfloat16: 1e-2}
MERGED_TOLERANCE_NATS = 5e-2  # a merge rounds every weight once more, to 16 bits
# Below this an adapter changes nothing: the loaded model is compared with its own base in the
# same process, where an adapter of zeros gives exactly 0.
MIN_CHANGE_NATS = 1e-7


@dataclass(frozen=True, slots=True)
class Verification:
    """What the comparison measured; goes into the manifest.

    Attributes:
        num_prompts: prompts compared.
        reproduction_nats: mean KL(trained || loaded), about 0.
        change_nats: mean KL(loaded || base), clearly above 0.
    """

    num_prompts: int
    reproduction_nats: float
    change_nats: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def compute_next_logits(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> np.ndarray:
    """Logits of the token after each prompt, float32 [num_prompts, vocabulary].

    One prompt at a time: without padding the result depends on nothing but model and prompt.
    """
    rows = []
    model.eval()
    for prompt in prompts:
        input_ids = torch.tensor([list(prompt)], device=model.device)
        with torch.inference_mode():
            output = model(input_ids=input_ids, use_cache=False, logits_to_keep=1)
        rows.append(output.logits[0, -1].float().cpu().numpy())
    return np.stack(rows)


def verify_adapter(
    folder: Path,
    base_folder: Path,
    prompts: Sequence[Sequence[int]],
    trained_logits: np.ndarray,
    *,
    device: str,
    dtype: torch.dtype,
    quantization: Quantization = "",
) -> Verification:
    """Load the assembled folder afresh and compare it with the model that was trained.

    Args:
        folder: adapter on `base_folder`, or after full fine-tuning a whole model.
        prompts: token ids, a few prompts of real rows.
        trained_logits: `compute_next_logits` of the trained model for them.

    Raises:
        DivergenceError: weights that are not finite.
        ExportError: other outputs than the trained model's, or the same as the base's.
    """
    refuse_pickles(folder)
    check_finite_weights(folder)
    load = {"device": device, "dtype": dtype, "quantization": quantization}
    if (folder / ADAPTER_CONFIG).is_file():
        model = load_adapted(base_folder, folder, **load)
        loaded_logits = compute_next_logits(model, prompts)
        with model.disable_adapter():
            base_logits = compute_next_logits(model, prompts)
    else:
        loaded_logits = compute_next_logits(load_base(folder, **load), prompts)
        base_logits = compute_next_logits(load_base(base_folder, **load), prompts)
    verification = Verification(
        num_prompts=len(prompts),
        reproduction_nats=compute_mean_kl(trained_logits, loaded_logits),
        change_nats=compute_mean_kl(loaded_logits, base_logits),
    )
    _check(folder, verification, TOLERANCE_NATS[dtype])
    return verification


def verify_merged(
    folder: Path,
    prompts: Sequence[Sequence[int]],
    trained_logits: np.ndarray,
    *,
    device: str,
    dtype: torch.dtype,
) -> float:
    """Load a merged model afresh; return its mean KL divergence from the trained one, in nats.

    Raises:
        DivergenceError: weights that are not finite.
        ExportError: the merge changed the outputs by more than rounding does.
    """
    refuse_pickles(folder)
    check_finite_weights(folder)
    merged_logits = compute_next_logits(load_base(folder, device=device, dtype=dtype), prompts)
    divergence = compute_mean_kl(trained_logits, merged_logits)
    if not divergence <= MERGED_TOLERANCE_NATS:
        raise ExportError(
            f"The merged model in {folder} differs from the trained one by {divergence:.2g} nats "
            f"a token, over the {MERGED_TOLERANCE_NATS:.2g} that rounding explains.",
            remedy="Publish without output.merge, and use the adapter on its base.",
        )
    return divergence


def compute_mean_kl(logits: np.ndarray, other_logits: np.ndarray) -> float:
    """Mean over rows of KL(softmax(logits) || softmax(other_logits)), in nats."""
    log_p = log_softmax(logits.astype(np.float64), axis=-1)
    log_q = log_softmax(other_logits.astype(np.float64), axis=-1)
    return float(np.mean(np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)))


def check_finite_weights(folder: Path) -> None:
    """Check every weight in the folder's safetensors, one tensor in memory at a time.

    Raises:
        DivergenceError: names the first tensors with NaN or infinity.
    """
    broken = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                    broken.append(name)
    if broken:
        raise DivergenceError(
            f"{folder} has {len(broken)} weights that are not finite: {', '.join(broken[:3])} ...",
            remedy="Lower training.learningRate, or set training.precision to fp32.",
        )


def _check(folder: Path, verification: Verification, tolerance: float) -> None:
    # "not <=": a NaN must fail too.
    if not verification.reproduction_nats <= tolerance:
        raise ExportError(
            f"The adapter in {folder}, loaded afresh, differs from the model that was trained by "
            f"{verification.reproduction_nats:.2g} nats a token; {tolerance:.2g} is allowed.",
            remedy="It is not published. This is a fault of Loam or of a library: please report "
            "it with the run's manifest.",
        )
    if not verification.change_nats > MIN_CHANGE_NATS:
        raise ExportError(
            f"The adapter in {folder} changes nothing: its outputs are the base model's.",
            remedy="Train longer or with a higher training.learningRate.",
        )
