"""The `data` block: the examples, how they are read, split and worded."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from loam_api.base import (
    ApiModel,
    FieldName,
    LongText,
    OptionalFieldName,
    OptionalUri,
    RequiredText,
    Rule,
    Uri,
)

Task = Literal["classification", "generation", "extraction", "summarization", "text"]
# Those whose rows have an input and an answer that is a text.
FREE_TEXT_TASKS = ("generation", "extraction", "summarization")
RowFormat = Literal["auto", "textLabel", "promptCompletion", "chat", "chosenRejected", "text"]
FileFormat = Literal["auto", "jsonl", "csv", "parquet"]


class FieldMapping(ApiModel):
    """Which columns of the files hold what; an empty name means the usual ones are looked for."""

    text: OptionalFieldName = Field(default="", description="Column of the input text.")
    label: OptionalFieldName = Field(default="", description="Column of the label.")
    prompt: OptionalFieldName = Field(default="", description="Column of the prompt.")
    completion: OptionalFieldName = Field(default="", description="Column of the completion.")
    messages: OptionalFieldName = Field(default="", description="Column of the chat messages.")
    chosen: OptionalFieldName = Field(default="", description="Column of the preferred answer.")
    rejected: OptionalFieldName = Field(default="", description="Column of the refused answer.")
    rationale: OptionalFieldName = Field(
        default="", description="Column that explains the label or completion, step by step."
    )
    group: OptionalFieldName = Field(
        default="",
        description="Column that names a group (a document, a customer). Rows of one group "
        "never fall on both sides of a split.",
    )


class DataSource(ApiModel):
    """Rows of one or several files."""

    uri: Uri = Field(
        description="A file, or a folder whose data files are all read. "
        "A relative file:// path starts at the manifest's folder."
    )
    file_format: FileFormat = Field(default="auto", description="auto goes by the file's ending.")


class ValidationSplit(ApiModel):
    """Where the rows that steer early stopping come from."""

    rules = (
        Rule(
            cel="self.mode != 'uri' || self.uri != ''",
            holds=lambda it: it.mode != "uri" or it.uri != "",
            message="mode uri needs the address of a file in uri",
            field="uri",
        ),
        Rule(
            cel="self.uri == '' || self.mode == 'uri'",
            holds=lambda it: it.uri == "" or it.mode == "uri",
            message="a uri is read only with mode: uri",
            field="mode",
        ),
    )

    mode: Literal["auto", "none", "fraction", "uri"] = Field(
        default="auto",
        description="auto: a stratified 20 % where every class has at least 10 rows, else none.",
    )
    fraction: float = Field(
        default=0.2, gt=0, lt=0.9, description="Share of the seeds, with mode: fraction."
    )
    uri: OptionalUri = Field(default="", description="A file of its own, with mode: uri.")


class Template(ApiModel):
    """The one prompt contract: the same wording in synthesis, training, evaluation and serving."""

    rules = (
        Rule(
            cel="self.prompt == '' || self.prompt.contains('{input}')",
            holds=lambda it: it.prompt == "" or "{input}" in it.prompt,
            message="the wording must say where the input goes: {input}",
            field="prompt",
        ),
        Rule(
            cel="self.labels.all(a, self.labels.all(b, a == b || "
            "self.labels[a] != self.labels[b]))",
            holds=lambda it: len(set(it.labels.values())) == len(it.labels),
            message="two labels cannot be written alike: the answers could not be told apart",
            field="labels",
        ),
    )

    system: LongText = Field(default="", description="System prompt; empty for none.")
    prompt: LongText = Field(
        default="",
        description="Wording around the input, with the place holders {input}, {labels} and "
        "{description}; empty for the task's default.",
    )
    labels: dict[FieldName, FieldName] = Field(
        default_factory=dict,
        max_length=256,
        description="What the model writes for each label; a label not listed is written as it is.",
    )


class DataSpec(ApiModel):
    """The examples and how they are read."""

    rules = (
        Rule(
            cel="self.task != 'text' || self.rowFormat in ['auto', 'text']",
            holds=lambda it: it.task != "text" or it.row_format in ("auto", "text"),
            message="task text reads plain text: rowFormat must be auto or text",
            field="rowFormat",
        ),
        Rule(
            cel="self.task == 'text' || self.rowFormat != 'text'",
            holds=lambda it: it.task == "text" or it.row_format != "text",
            message="rows of plain text hold no answer to learn: they need task: text",
            field="rowFormat",
        ),
        Rule(
            cel="self.task == 'classification' || self.template.labels.size() == 0",
            holds=lambda it: it.task == "classification" or not it.template.labels,
            message="template.labels has a meaning only with task: classification",
            field="template.labels",
        ),
    )

    seeds: DataSource = Field(description="The examples to start from.")
    test: DataSource | None = Field(
        default=None,
        description="Held-out rows for the verdict. Without it, 30 % of the seeds are held out "
        "where there are enough.",
    )
    validation: ValidationSplit = Field(
        default_factory=ValidationSplit,
        description="Where the rows that steer early stopping come from.",
    )
    task: Task = Field(description="What the model learns to do.")
    row_format: RowFormat = Field(default="auto", description="auto goes by the columns present.")
    fields: FieldMapping = Field(
        default_factory=FieldMapping, description="Which columns hold what; empty: the usual ones."
    )
    template: Template = Field(
        default_factory=Template,
        description="The one wording of synthesis, training, evaluation and serving.",
    )
    description: LongText = Field(default="", description="The task in a sentence or two.")
    domain_constraints: list[RequiredText] = Field(
        default_factory=list,
        max_length=64,
        description="What every synthetic example must respect.",
    )
    on_bad_row: Literal["fail", "skip"] = Field(
        default="fail", description="skip drops bad rows and reports how many, and why."
    )
    on_conflict: Literal["fail", "drop", "keep"] = Field(
        default="drop", description="What becomes of equal inputs with different labels."
    )
