"""What every block of the API is built from: the base model, cross-field rules, bounded strings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError, to_jsonable_python

RULE_ERROR = "cross_field_rule"
# Marks a field of the spec that may change while the job runs; its value says how, in words.
MUTABLE = "x-mutable"
MAY_BE_RAISED = "May be raised."
MAY_CHANGE = "May be changed at any time."

_URI = r"^(s3|file|hf)://.+$"
_OPTIONAL_URI = r"^((s3|file|hf)://.+)?$"
_OUTPUT_URI = r"^(s3|file)://.+$"
# Not \s: what is white space beyond ASCII, the API server and pydantic do not see alike.
_ENDPOINT = r"^https?://[^@\t\n\f\r ]+$"
_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
_SECRET_NAME = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"
_SECRET_KEY = r"^[-._a-zA-Z0-9]+$"
_CPU = r"^([1-9][0-9]{0,4}m?|0\.[0-9]{1,3})$"
_MEMORY = r"^[1-9][0-9]{0,5}(Mi|Gi|Ti)$"
_LABEL_KEY = r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$"
_LABEL_VALUE = r"^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$"
_OPTIONAL_LABEL_VALUE = r"^([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?)?$"
_IMAGE = r"^[a-z0-9][-._/:@A-Za-z0-9]*$"
# No segment begins with a dot, so that there is no way back up.
_PATH = r"(/[-_~+=,@:A-Za-z0-9][-._~+=,@:A-Za-z0-9]*)*/?"
_STORAGE_PREFIX = rf"^(s3|hf)://([A-Za-z0-9][-._A-Za-z0-9]*{_PATH})?$"
_HOST = r"([A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?"
_TEACHER_PREFIX = rf"^https?://({_HOST}{_PATH})?$"
_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_CIDR4 = rf"({_BYTE}\.){{3}}{_BYTE}/(3[0-2]|[12]?[0-9])"
_HEX = r"[0-9a-f]{1,4}"
_CIDR6 = (
    rf"(::|({_HEX}:){{1,7}}:|({_HEX}:){{1,6}}:{_HEX}|({_HEX}:){{7}}{_HEX})"
    r"/(12[0-8]|1[01][0-9]|[1-9]?[0-9])"
)
_CIDR = rf"^({_CIDR4}|{_CIDR6})$"
_LANGUAGE = r"^[a-z]{2}$"
_DEVICE_RESOURCE = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?/[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$"
_CURRENCY = r"^[A-Z]{3}$"

MAX_NAME_LENGTH = 34

# What a reader is told instead of the pattern.
PATTERN_WORDS = {
    _URI: "an address that starts with s3://, file:// or hf://",
    _OPTIONAL_URI: "an address that starts with s3://, file:// or hf://, or nothing",
    _OUTPUT_URI: "an address that starts with s3:// or file://",
    _ENDPOINT: "an address that starts with http:// or https:// and holds no user name or password",
    _NAME: "lower-case letters, digits and dashes, with a letter first and no dash last",
    _SECRET_NAME: "lower-case letters, digits, dots and dashes",
    _SECRET_KEY: "letters, digits, dots, dashes and underscores",
    _CPU: "a number of CPUs such as 4, 0.5 or 500m",
    _MEMORY: "an amount of memory such as 512Mi or 16Gi",
    _LABEL_KEY: "the name of a label, such as team or example.com/team",
    _LABEL_VALUE: "letters, digits, dots, dashes and underscores, with a letter or digit at both "
    "ends",
    _OPTIONAL_LABEL_VALUE: "letters, digits, dots, dashes and underscores, with a letter or digit "
    "at both ends, or nothing",
    _IMAGE: "the name of an image, such as registry.example/loam-runtime:1.0",
    _STORAGE_PREFIX: "s3:// or hf:// alone, or with a bucket or owner and segments of a path, none "
    "of which begins with a dot",
    _TEACHER_PREFIX: "https:// or http:// alone, or with a host, a port and segments of a path, "
    "none of which begins with a dot",
    _CIDR: "a block of addresses such as 10.0.0.0/8 or fd00::/8",
    _DEVICE_RESOURCE: "the name of a resource that a device plug-in offers, such as nvidia.com/gpu",
    _CURRENCY: "the three letters of a currency (ISO 4217), such as USD or EUR",
    _LANGUAGE: "the two letters of a language (ISO 639-1), such as en or es",
}

Uri = Annotated[str, StringConstraints(pattern=_URI, max_length=1024)]
OptionalUri = Annotated[str, StringConstraints(pattern=_OPTIONAL_URI, max_length=1024)]
OutputUri = Annotated[str, StringConstraints(pattern=_OUTPUT_URI, max_length=1024)]
Endpoint = Annotated[str, StringConstraints(pattern=_ENDPOINT, max_length=512)]
Name = Annotated[str, StringConstraints(pattern=_NAME, max_length=MAX_NAME_LENGTH)]
SecretName = Annotated[str, StringConstraints(pattern=_SECRET_NAME, max_length=253)]
SecretKey = Annotated[str, StringConstraints(pattern=_SECRET_KEY, max_length=253)]
Cpu = Annotated[str, StringConstraints(pattern=_CPU, max_length=8)]
Memory = Annotated[str, StringConstraints(pattern=_MEMORY, max_length=8)]
LabelKey = Annotated[str, StringConstraints(pattern=_LABEL_KEY, max_length=317)]
LabelValue = Annotated[str, StringConstraints(pattern=_LABEL_VALUE, max_length=63)]
OptionalLabelValue = Annotated[str, StringConstraints(pattern=_OPTIONAL_LABEL_VALUE, max_length=63)]
ImageName = Annotated[str, StringConstraints(pattern=_IMAGE, max_length=512)]
StoragePrefix = Annotated[str, StringConstraints(pattern=_STORAGE_PREFIX, max_length=512)]
TeacherPrefix = Annotated[str, StringConstraints(pattern=_TEACHER_PREFIX, max_length=512)]
Cidr = Annotated[str, StringConstraints(pattern=_CIDR, max_length=43)]
LanguageCode = Annotated[str, StringConstraints(pattern=_LANGUAGE, max_length=2)]
DeviceResource = Annotated[str, StringConstraints(pattern=_DEVICE_RESOURCE, max_length=128)]
Currency = Annotated[str, StringConstraints(pattern=_CURRENCY, max_length=3)]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
OptionalFieldName = Annotated[str, StringConstraints(max_length=128)]
RequiredText = Annotated[str, StringConstraints(min_length=1, max_length=512)]
ShortText = Annotated[str, StringConstraints(max_length=512)]
LongText = Annotated[str, StringConstraints(max_length=8192)]


@dataclass(frozen=True, slots=True)
class Rule:
    """One cross-field rule, said to the API server in CEL and to Python as a function.

    Attributes:
        cel: the rule over `self`, the block that declares it; camelCase names.
        message: what would be accepted.
        field: camelCase path, below the block, of the field that is reported.
        holds: the same over the block's model. A rule about a change (`oldSelf`) has
            nothing to say about one object: it holds.
    """

    cel: str
    message: str
    field: str
    holds: Callable[[Any], bool] = lambda block: True

    def to_schema(self) -> dict[str, str]:
        """An entry of `x-kubernetes-validations`."""
        return {"rule": self.cel, "message": self.message, "fieldPath": f".{self.field}"}


def _extend_schema(schema: dict[str, Any], model: type[ApiModel]) -> None:
    """Adds what pydantic leaves out: the defaults of whole blocks and the cross-field rules."""
    for field in model.model_fields.values():
        if field.default_factory is not None:
            default = field.get_default(call_default_factory=True)
            schema["properties"][field.alias]["default"] = to_jsonable_python(
                default, exclude_none=True
            )
    if model.rules:
        schema["x-kubernetes-validations"] = [rule.to_schema() for rule in model.rules]


class ApiModel(BaseModel):
    """Base of every block: camelCase in YAML, unknown fields refused, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        json_schema_extra=_extend_schema,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _check_rules(self) -> ApiModel:
        for rule in self.rules:
            if not rule.holds(self):
                raise PydanticCustomError(RULE_ERROR, "{message}", {"message": rule.message})
        return self


class SecretKeyRef(ApiModel):
    """One key of a Secret in the job's own namespace; on a laptop, an environment variable."""

    name: SecretName = Field(description="Name of the Secret.")
    key: SecretKey = Field(
        description="Key inside the Secret. On a laptop, the environment variable of this name."
    )


class SecretRef(ApiModel):
    """A Secret in the job's own namespace, whose keys become environment variables."""

    name: SecretName = Field(description="Name of the Secret.")
