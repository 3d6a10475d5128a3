"""What a plan starts from: the model's and the data's sizes, as far as they are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Sizes of a decoder-only transformer; 0 where unknown.

    Attributes:
        num_parameters: all of them, a tied output head counted once.
        weight_bytes: as stored.
        head_dim: width of one attention head; need not be hidden_size / heads (Gemma's is not).
    """

    model_type: str = ""
    num_parameters: int = 0
    weight_bytes: int = 0
    hidden_size: int = 0
    num_layers: int = 0
    vocab_size: int = 0
    intermediate_size: int = 0
    num_attention_heads: int = 0
    num_key_value_heads: int = 0
    head_dim: int = 0
    tie_word_embeddings: bool = True
    max_position_embeddings: int = 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelFacts:
        """From what a model's headers say; keys that are not fields here are passed over."""
        names = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

    @property
    def is_known(self) -> bool:
        """Whether memory and time can be computed."""
        return bool(self.num_parameters and self.hidden_size and self.num_layers)

    @property
    def num_head_parameters(self) -> int:
        """Of the output head, which multiplies every scored position with the vocabulary."""
        return self.vocab_size * self.hidden_size

    @property
    def num_embedding_parameters(self) -> int:
        """Of the token embeddings and, where it is not tied to them, the output head."""
        return self.num_head_parameters * (1 if self.tie_word_embeddings else 2)

    def get_linear_shapes(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of one layer's linear modules, in the naming of Llama and its kin."""
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        hidden, inner = self.hidden_size, self.intermediate_size
        return {
            "q_proj": (hidden, queries),
            "k_proj": (hidden, keys),
            "v_proj": (hidden, keys),
            "o_proj": (queries, hidden),
            "gate_proj": (hidden, inner),
            "up_proj": (hidden, inner),
            "down_proj": (inner, hidden),
        }

    @property
    def norm_width(self) -> int:
        """Elements that pass through the norms of one layer, for one token."""
        if not self.model_type.startswith("gemma"):
            return 2 * self.hidden_size
        # Gemma norms before and after attention and MLP, and each query and key head.
        heads = self.num_attention_heads + self.num_key_value_heads
        return 4 * self.hidden_size + heads * self.head_dim

    @property
    def num_linear_parameters(self) -> int:
        """Weights of all layers' linear modules: what 4-bit quantization replaces."""
        per_layer = sum(rows * columns for rows, columns in self.get_linear_shapes().values())
        return per_layer * self.num_layers


@dataclass(frozen=True, slots=True)
class DataFacts:
    """Rows and token lengths of the training set; 0 where unknown.

    Attributes:
        num_real_rows: training rows given by the user, after the splits.
        num_synthetic_rows: None before synthesis: as many as the job asks for are expected.
        num_validation_rows: None before the split.
        num_test_rows: None before the split.
        num_preference_rows: those of the real rows that have a refused answer beside the chosen.
        min_rows_per_class: rows of the smallest class; 0 without classes.
        p50_tokens, max_tokens: length of a row, prompt and answer together.
        num_tokens: of all training rows, one pass.
        num_supervised_tokens: those with a loss, one pass.
    """

    num_real_rows: int = 0
    num_synthetic_rows: int | None = None
    num_validation_rows: int | None = None
    num_test_rows: int | None = None
    num_preference_rows: int = 0
    min_rows_per_class: int = 0
    p50_tokens: int = 0
    max_tokens: int = 0
    num_tokens: int = 0
    num_supervised_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of a job's inputs when it is planned."""

    model: ModelFacts = field(default_factory=ModelFacts)
    data: DataFacts = field(default_factory=DataFacts)
