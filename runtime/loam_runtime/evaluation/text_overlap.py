"""How alike two answers are: SQuAD's token F1 and ROUGE-L, in any script."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Scripts without spaces: each character is a token.
_UNSPACED = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


def normalize_answer(text: str) -> str:
    """Lower case without punctuation, English articles and extra spaces (SQuAD 1.1)."""
    kept = "".join(character for character in text.lower() if not _is_punctuation(character))
    return " ".join(_ARTICLES.sub(" ", kept).split())


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def compute_token_f1(predicted: str, target: str) -> float:
    """F1 of the tokens in common, 0 to 1; two empty answers agree (SQuAD 1.1)."""
    predicted_tokens = _TOKEN.findall(normalize_answer(predicted))
    target_tokens = _TOKEN.findall(normalize_answer(target))
    if not predicted_tokens or not target_tokens:
        return float(predicted_tokens == target_tokens)
    num_common = (Counter(predicted_tokens) & Counter(target_tokens)).total()
    return 2 * num_common / (len(predicted_tokens) + len(target_tokens))


def compute_rouge_l(predicted: str, target: str) -> float:
    """F measure of the longest common subsequence of tokens, 0 to 1 (Lin 2004), no stemming."""
    return _build_rouge().score(target, predicted)["rougeL"].fmeasure


class _Tokenizer:
    """Words of any script; rouge-score's own keeps a-z and 0-9 alone."""

    def tokenize(self, text: str) -> list[str]:
        return _TOKEN.findall(text.lower())


@lru_cache(maxsize=1)
def _build_rouge() -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=_Tokenizer())
