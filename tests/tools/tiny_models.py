"""A tokenizer and models small enough for exactness tests, made from code alone.

Import it as `from tests.tools.tiny_models import build_tiny_model, build_tiny_tokenizer`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

VOCAB_SIZE = 320
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<turn>{{ message['role'] }}\n{{ message['content'] | trim }}<end>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)
_CORPUS = (
    "Text: the film is good\nLabel: positive\n\nText: a bad film\nLabel: negative\n\n"
    "Input: where is my parcel?\nOutput: it is on its way\n\nText: Label: Answer: Summary:"
)


def build_tiny_tokenizer(
    *, chat_template: bool = False, pad_is_eos: bool = False, bos: bool = True
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `VOCAB_SIZE` tokens: any text survives encode and decode.

    Args:
        chat_template: with a template of `<turn>role ... <end>` and its end of turn `<end>`.
        pad_is_eos: the padding token is the end of sequence, as in many Llama setups.
        bos: whether there is a `<bos>`, put first by the tokenizer's own post-processor.
    """
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(_train_backend())
    if bos:
        backend.post_processor = TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", backend.token_to_id("<bos>"))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<bos>" if bos else None,
        eos_token="<eos>",
        pad_token="<eos>" if pad_is_eos else "<pad>",
        additional_special_tokens=["<turn>", "<end>"],
        clean_up_tokenization_spaces=False,
    )
    if chat_template:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@lru_cache(maxsize=1)
def _train_backend() -> str:
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    backend = Tokenizer(BPE())
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<pad>", "<eos>", "<bos>", "<turn>", "<end>"],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([_CORPUS] * 4, trainer)
    return backend.to_str()


def build_tiny_model(
    folder: Path,
    *,
    kind: Literal["gemma3", "llama"] = "gemma3",
    chat_template: bool = False,
    pad_is_eos: bool = False,
    seed: int = 0,
) -> Path:
    """Write a model of about 50,000 random fp32 parameters as safetensors, with its tokenizer.

    Gemma 3 has tied embeddings and sliding windows of 16 tokens (every fourth layer sees all);
    Llama has neither. The same arguments give the same bytes.

    Returns:
        `folder`, ready for `from_pretrained`.
    """
    import torch

    tokenizer = build_tiny_tokenizer(chat_template=chat_template, pad_is_eos=pad_is_eos)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _build_gemma3(tokenizer) if kind == "gemma3" else _build_llama(tokenizer)
    model.generation_config.do_sample = False
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


def _build_common_config(tokenizer: PreTrainedTokenizerFast) -> dict:
    return {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        # Large enough that logits differ clearly between tokens.
        "initializer_range": 0.2,
    }


def _build_gemma3(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        **_build_common_config(tokenizer),
        sliding_window=16,
        layer_types=["sliding_attention"] * 3 + ["full_attention"],
        query_pre_attn_scalar=16,
    )
    return Gemma3ForCausalLM(config)


def _build_llama(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_build_common_config(tokenizer)))


def write_tiny_gguf(
    path: Path,
    *,
    num_tokens: int = 300,
    license_id: str = "",
    license_name: str = "",
    license_link: str = "",
) -> Path:
    """A file with scalars, a string array and two tensors, as the gguf package writes it.

    Args:
        license_id, license_name, license_link: what its header says of its licence; "" is left out.
    """
    import numpy as np
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "gemma3")
    if license_id:
        writer.add_license(license_id)
    if license_name:
        writer.add_license_name(license_name)
    if license_link:
        writer.add_license_link(license_link)
    writer.add_embedding_length(32)
    writer.add_block_count(4)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_key_length(16)
    writer.add_feed_forward_length(64)
    writer.add_context_length(512)
    words = ("<pad>", "naïve", "日本")
    writer.add_token_list([words[index % 3] for index in range(num_tokens)])
    writer.add_token_scores([0.5] * num_tokens)
    writer.add_tensor("token_embd.weight", np.zeros((num_tokens, 32), dtype=np.float32))
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((32, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
