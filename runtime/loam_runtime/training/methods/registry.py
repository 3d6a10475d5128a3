"""All methods by name. A new one is a file beside this and a line here."""

from __future__ import annotations

from loam_runtime.errors import InputError
from loam_runtime.training.config import TrainConfig
from loam_runtime.training.methods.base import Method
from loam_runtime.training.methods.full import FULL
from loam_runtime.training.methods.lora import LORA
from loam_runtime.training.methods.qlora import QLORA

METHODS: dict[str, Method] = {method.name: method for method in (LORA, QLORA, FULL)}


def select_method(config: TrainConfig) -> Method:
    """The method of `config`.

    Raises:
        InputError: it does not work with the sharding asked for; the reason is given.
    """
    method = METHODS[config.method]
    reason = method.refused_shardings.get(config.sharding)
    if reason:
        raise InputError(
            f"spec.training: method {config.method} with sharding {config.sharding}: {reason}",
            remedy="Use sharding none, or method full.",
        )
    return method
