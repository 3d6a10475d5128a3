"""The FineTuneProfile: what a platform team allows, limits and decides for other people's jobs.

Cluster-scoped. A list that is left out allows everything of its kind; an empty list nothing. The
parts that every pod gets are in `profile_pods`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from loam_api.base import (
    ApiModel,
    Cidr,
    Currency,
    LabelKey,
    LabelValue,
    Memory,
    OptionalLabelValue,
    OutputUri,
    RequiredText,
    Rule,
    SecretName,
    StoragePrefix,
    TeacherPrefix,
)
from loam_api.finetunejob import ObjectMeta
from loam_api.profile_pods import ProfilePods
from loam_api.synthesis_block import MAX_COST, MAX_PRICE, TokenPrices

MAX_ENTRIES = 64
_ALLOW = (
    "What a job may name. A list that is left out allows everything, an empty one nothing. An "
    "address is under a prefix if scheme, host (of s3:// the bucket, of hf:// the owner) and port "
    "are the same and its path begins with the prefix's, segment by segment: s3://bucket/team is "
    "over s3://bucket/team/a and not over s3://bucket/team-b. A scheme alone, such as hf://, is "
    "over all its addresses. An address with an empty segment or one that begins with a dot, or "
    "with other characters than letters, digits and -._~+=,@: is under no prefix."
)

ModelPrefixes = Annotated[list[StoragePrefix], Field(max_length=MAX_ENTRIES)]
TeacherPrefixes = Annotated[list[TeacherPrefix], Field(max_length=MAX_ENTRIES)]
ObjectNames = Annotated[list[SecretName], Field(max_length=MAX_ENTRIES)]
LabelValues = Annotated[list[LabelValue], Field(max_length=MAX_ENTRIES)]
Limit = Annotated[int, Field(ge=1, le=10**12)]


class LabelRequirement(ApiModel):
    """One condition on a label, as in any Kubernetes selector."""

    rules = (
        Rule(
            cel="(self.operator in ['In', 'NotIn']) == (size(self.values) > 0)",
            holds=lambda it: (it.operator in ("In", "NotIn")) == (len(it.values) > 0),
            message="In and NotIn need values; Exists and DoesNotExist have none",
            field="values",
        ),
    )

    key: LabelKey = Field(description="Name of the label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label is compared."
    )
    values: list[OptionalLabelValue] = Field(
        default_factory=list, max_length=MAX_ENTRIES, description="For In and NotIn."
    )


class NamespaceSelector(ApiModel):
    """Labels of namespaces; every condition must hold."""

    match_labels: dict[str, OptionalLabelValue] = Field(
        default_factory=dict, max_length=16, description="Labels with these very values."
    )
    match_expressions: list[LabelRequirement] = Field(
        default_factory=list, max_length=16, description="More conditions."
    )


class Allowed(ApiModel):
    """What a job may name."""

    models: ModelPrefixes | None = Field(
        default=None, description="Prefixes of `model.uri`: s3:// or hf://."
    )
    teachers: TeacherPrefixes | None = Field(
        default=None,
        description="Prefixes of the `baseURL` of a teacher or a judge. Private, loopback, "
        "link-local and cluster-internal addresses are allowed only by a prefix here that has "
        "their host.",
    )
    outputs: ModelPrefixes | None = Field(default=None, description="Prefixes of `output.uri`.")
    secrets: ObjectNames | None = Field(
        default=None,
        description="Names of Secrets that a job may refer to. Names and not labels, because the "
        "operator has no right to read Secrets.",
    )
    service_accounts: ObjectNames | None = Field(
        default=None, description="Names that `compute.serviceAccountName` may have."
    )
    queues: LabelValues | None = Field(
        default=None,
        description="Values of the labels `kueue.x-k8s.io/queue-name` and "
        "`volcano.sh/queue-name`. A job must name one of them; with an empty list it may not name "
        "any.",
    )
    priorities: LabelValues | None = Field(
        default=None,
        description="Values of the labels `kueue.x-k8s.io/priority-class` and "
        "`ray.io/priority-class-name`.",
    )


class Limits(ApiModel):
    """The most that one job may ask for; what is left out has no limit."""

    gpus: Annotated[int, Field(ge=0, le=8192)] | None = Field(
        default=None, description="GPUs of all workers together."
    )
    workers: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None, description="Of `compute.workers.max`."
    )
    memory_per_pod: Memory | None = Field(
        default=None,
        description="Memory of the head or of a worker. More than this is not given after a pod "
        "was killed for memory, either.",
    )
    active_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = Field(
        default=None,
        description="Of `activeDeadlineSeconds`. It is also the deadline of a job without one, "
        "and of one whose deadline is raised above it while it runs.",
    )
    teacher_requests: Limit | None = Field(
        default=None,
        description="Of `synthesis.budget.maxRequests`, with a teacher of kind openai, and of "
        "`evaluation.judge.budget.maxRequests`, each for itself; also the budget of a job without "
        "one.",
    )
    teacher_tokens: Limit | None = Field(
        default=None,
        description="Of `synthesis.budget.maxTokens`, with a teacher of kind openai, and of "
        "`evaluation.judge.budget.maxTokens`, each for itself; also the budget of a job without "
        "one.",
    )
    teacher_cost: Annotated[float, Field(gt=0, le=MAX_COST)] | None = Field(
        default=None,
        description="Of `synthesis.budget.maxCost`, with a teacher of kind openai, and of "
        "`evaluation.judge.budget.maxCost`, each for itself; also the budget of a job without one. "
        "Counted by `teacherPrices`, else by the list prices (US dollars), never by the job's own; "
        "a teacher or judge that has neither is refused.",
    )


class TeacherPrice(TokenPrices):
    """A price of a teacher or a judge, in the profile's `currency`."""

    model: RequiredText = Field(description="As `openai.model` of teacher or judge has it.")
    base_url: TeacherPrefix | None = Field(
        default=None,
        alias="baseURL",
        description="Prefix of its `baseURL`, as in `allow`; left out, any.",
    )


class Egress(ApiModel):
    """Where a job's pods may connect to, besides each other and port 53 (DNS) of any pod."""

    public: bool = Field(
        default=True,
        description="All addresses that are not private, shared (100.64.0.0/10), loopback or "
        "link-local.",
    )
    cidrs: Annotated[list[Cidr], Field(max_length=32)] = Field(
        default_factory=list,
        description="And these blocks. They must hold the API server, which the head tells its "
        "progress to, and whatever storage and teachers are inside.",
    )


class FineTuneProfileSpec(ApiModel):
    """What holds for the jobs under this profile. An empty one allows what no profile forbids."""

    rules = (
        Rule(
            cel="!has(self.teacherCache) || self.teacherCache.startsWith('s3://')",
            holds=lambda it: it.teacher_cache is None or it.teacher_cache.startswith("s3://"),
            message="answers are kept in object storage: an address that begins with s3://",
            field="teacherCache",
        ),
    )

    default: bool = Field(
        default=False,
        description="Jobs that name no profile are under this one. In a namespace with two such "
        "profiles every job must name one.",
    )
    namespace_selector: NamespaceSelector | None = Field(
        default=None, description="Namespaces that may use it; left out, all."
    )
    allow: Allowed = Field(default_factory=Allowed, description=_ALLOW)
    limits: Limits = Field(default_factory=Limits, description="The most that one job may ask for.")
    teacher_prices: Annotated[list[TeacherPrice], Field(max_length=MAX_ENTRIES)] = Field(
        default_factory=list,
        description="What teachers and judges cost. The first that fits goes before a job's own "
        "prices.",
    )
    gpu_hour_price: Annotated[float, Field(ge=0, le=MAX_PRICE)] | None = Field(
        default=None,
        description="What a GPU costs for an hour, from the moment that its pod has a node until "
        "the pod has ended; left out, what a job's GPUs cost is not told.",
    )
    currency: Currency | None = Field(
        default=None,
        description="Of `gpuHourPrice`, `teacherPrices`, `limits.teacherCost` and the prices that "
        "jobs give themselves. With another than USD, `teacherPrices` should name every teacher: "
        "list prices are US dollars.",
    )
    teacher_cache: OutputUri | None = Field(
        default=None,
        description="Where the answers of remote teachers are kept for all jobs of a namespace, "
        "each namespace's under its name; left out, beside each job's output, where only jobs with "
        "the same output.uri find them. The jobs' storage credentials must be good for it.",
    )
    pods: ProfilePods = Field(
        default_factory=ProfilePods, description="What the pods of every job get."
    )
    egress: Egress | None = Field(
        default=None,
        description="Where the pods may connect to; left out, everywhere. The cluster's network "
        "plug-in must enforce NetworkPolicies.",
    )


class FineTuneProfile(BaseModel):
    """A platform team's rules for fine-tuning jobs."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )

    api_version: Literal["loam.dev/v1alpha1"]
    kind: Literal["FineTuneProfile"]
    metadata: ObjectMeta
    spec: FineTuneProfileSpec = Field(description="The rules.")
