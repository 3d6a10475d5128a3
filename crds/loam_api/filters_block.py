"""The `synthesis.filters` block: which rows of a teacher are dropped, and from when on."""

from __future__ import annotations

from pydantic import Field

from loam_api.base import ApiModel, LanguageCode, Rule, Uri

# Not a bound of the schema: the API server rounds a bound down to compare it with a whole number.
_AT_LEAST_HALF = Rule(
    cel="self.similarity >= 0.5",
    holds=lambda it: it.similarity >= 0.5,
    message="rows that share less than half (0.5) are no duplicates",
    field="similarity",
)


class LengthFilter(ApiModel):
    """Rows far longer or shorter than the seeds."""

    enabled: bool = Field(default=True, description="false lets rows of any length pass.")


class NearDuplicateFilter(ApiModel):
    """Rows nearly equal to a seed or to an earlier row."""

    rules = (_AT_LEAST_HALF,)

    enabled: bool = Field(default=True, description="false drops exact duplicates alone.")
    similarity: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="Least Jaccard similarity of the character 5-grams of a duplicate.",
    )


class EmbeddingDuplicateFilter(ApiModel):
    """Rows that say in other words what a seed or an earlier row says."""

    rules = (_AT_LEAST_HALF,)

    enabled: bool = Field(default=True, description="false keeps rows that mean the same.")
    similarity: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="Least cosine similarity of the embeddings of a duplicate.",
    )


class LanguageFilter(ApiModel):
    """Rows in another language."""

    enabled: bool = Field(default=True, description="false lets rows in any language pass.")
    languages: list[LanguageCode] = Field(
        default_factory=list,
        max_length=32,
        description="Languages that rows may be in; none named: those of the seeds.",
    )


class PersonalDataFilter(ApiModel):
    """Rows with an e-mail address, a phone number, a payment card number or an IBAN."""

    enabled: bool = Field(default=False, description="true drops such rows.")


class Database(ApiModel):
    """A SQLite file."""

    uri: Uri = Field(description="The file: s3://, file:// or hf://. It is only read.")


class StructuredFilter(ApiModel):
    """Answers in JSON or SQL, as the seeds' are, that do not parse."""

    enabled: bool = Field(default=True, description="false lets answers pass that do not parse.")
    database: Database | None = Field(
        default=None, description="Where SQL answers must run; none: they need only parse."
    )


class GroundingFilter(ApiModel):
    """Answers that are not in their context, summaries that say what their document does not."""

    enabled: bool = Field(default=True, description="false lets made-up answers pass.")


class ConsistencyFilter(ApiModel):
    """Rows whose label is not the one that the teacher, or the judge, gives them when asked."""

    enabled: bool = Field(
        default=True,
        description="false asks for no label again: a remote teacher then gets two or three "
        "requests a row less.",
    )


class UnsafeFilter(ApiModel):
    """Rows that a model that follows instructions calls harmful."""

    enabled: bool = Field(
        default=False,
        description="true asks `synthesis.judge`, or else the teacher, about every row that is "
        "left, which must be chat models.",
    )


class Filters(ApiModel):
    """What is dropped beside rows that are exact duplicates, or would give a held-out row away.

    The order is that in which rows meet the filters, cheap ones first.
    """

    length: LengthFilter = Field(
        default_factory=LengthFilter, description="Rows far longer or shorter than the seeds."
    )
    structured: StructuredFilter = Field(
        default_factory=StructuredFilter,
        description="Answers in JSON or SQL, as the seeds' are, that do not parse or run.",
    )
    personal_data: PersonalDataFilter = Field(
        default_factory=PersonalDataFilter,
        description="Rows with an e-mail address, a phone number, a payment card number or an "
        "IBAN.",
    )
    near_duplicates: NearDuplicateFilter = Field(
        default_factory=NearDuplicateFilter,
        description="Rows nearly equal to a seed or to an earlier row.",
    )
    language: LanguageFilter = Field(
        default_factory=LanguageFilter, description="Rows in another language."
    )
    embedding_duplicates: EmbeddingDuplicateFilter = Field(
        default_factory=EmbeddingDuplicateFilter,
        description="Rows that say in other words what a seed or an earlier row says.",
    )
    grounding: GroundingFilter = Field(
        default_factory=GroundingFilter,
        description="For extraction and summarization: answers that are not in their context, "
        "summaries that say what their document does not.",
    )
    unsafe: UnsafeFilter = Field(
        default_factory=UnsafeFilter,
        description="Rows that `synthesis.judge`, or else the teacher, calls harmful: violence, "
        "crime, hate, self-harm and the like.",
    )
    consistency: ConsistencyFilter = Field(
        default_factory=ConsistencyFilter,
        description="For classification: rows whose label is not the one that the teacher, or "
        "`synthesis.judge`, gives them when asked.",
    )
