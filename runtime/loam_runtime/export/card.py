"""The model card: README.md of a published adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from loam_runtime.export.adapter import PROMPT_FILE, BaseModel
from loam_runtime.export.licenses import License

_METHOD_WORDS = {
    "lora": "low-rank adaptation (LoRA)",
    "qlora": "low-rank adaptation of its 4-bit quantization (QLoRA)",
    "full": "full fine-tuning",
}
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]{}()#+!|<>~$&])")


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a model card tells.

    Attributes:
        name: the job's.
        verdict: whether it was worth it, in a sentence or two.
        method: "lora", "qlora" or "full".
        metrics: one entry a model, {"name": "Fine-tuned", "values": {"accuracy": {"value",
            "low", "high"}}}; empty where nothing was measured.
        teacher: who wrote the synthetic rows.
    """

    name: str
    base: BaseModel
    task: str
    method: str
    verdict: str
    num_seed_rows: int
    description: str = ""
    labels: tuple[str, ...] = ()
    metrics: tuple[Mapping[str, Any], ...] = ()
    num_test_rows: int = 0
    num_synthetic_rows: int = 0
    teacher: str = ""


def render_card(facts: CardFacts) -> str:
    """The card as Markdown with YAML front matter; everything user-supplied is escaped."""
    template = load_template("card.md.j2")
    return template.render(
        facts=facts,
        front_matter=_build_front_matter(facts),
        metric_table=_build_metric_table(facts.metrics),
        method_words=_METHOD_WORDS[facts.method],
        prompt_file=PROMPT_FILE,
    )


def load_template(name: str, **options: bool) -> Template:
    """A Markdown template of this folder; `options` are Jinja's, about white space."""
    environment = Environment(
        loader=PackageLoader("loam_runtime", "export"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML: the `plain` filter escapes for both
        **options,
    )
    environment.filters["plain"] = escape_markdown
    return environment.get_template(name)


def escape_markdown(text: object) -> str:
    """Text that Markdown shows as it is: one line, no markup, no HTML."""
    one_line = " ".join(str(text).split())
    escaped = _MARKDOWN_SPECIAL.sub(r"\\\1", one_line)
    # A dash or an equals sign starts a list, a rule or a heading only at the start of a line.
    return "\\" + escaped if escaped.startswith(("-", "=")) else escaped


def _build_front_matter(facts: CardFacts) -> str:
    is_full = facts.method == "full"
    values = {
        "base_model": facts.base.name,
        "base_model_relation": "finetune" if is_full else "adapter",
        "library_name": "transformers" if is_full else "peft",
        "pipeline_tag": "text-generation",
        **_build_license(facts.base.license),
        "tags": ["loam", facts.method, facts.task],
    }
    # ASCII: YAML folds line breaks of its own, such as U+0085, wherever they are not escaped.
    return yaml.safe_dump(values, sort_keys=False)


def _build_license(base_license: License) -> dict[str, str]:
    """An identifier as hubs know them, else a name under "other"."""
    link = {"license_link": base_license.link} if base_license.link else {}
    if re.fullmatch(r"[a-z0-9][a-z0-9.-]*", base_license.name):
        return {"license": base_license.name, **link}
    return {"license": "other", "license_name": base_license.name or "see-base-model", **link}


def _build_metric_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows are models, columns are metrics; a metric that a model lacks is left blank."""
    names = list({name: None for row in rows for name in row["values"]})
    lines = [["Model", *names], ["---"] * (len(names) + 1)]
    for row in rows:
        cells = [_format_interval(row["values"].get(name)) for name in names]
        lines.append([escape_markdown(row["name"]), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _format_interval(estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return ""
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
