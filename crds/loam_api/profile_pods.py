"""The `pods` block of a FineTuneProfile: what the platform team decides for every pod of a job."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from loam_api.base import (
    ApiModel,
    Cpu,
    DeviceResource,
    ImageName,
    LabelKey,
    Memory,
    OptionalLabelValue,
    Rule,
    SecretName,
)

DEFAULT_GPU_RESOURCE = "nvidia.com/gpu"


class Toleration(ApiModel):
    """A taint that pods may run in spite of, as in any pod."""

    rules = (
        Rule(
            cel="self.operator == 'Equal' || self.value == ''",
            holds=lambda it: it.operator == "Equal" or it.value == "",
            message="a value is read only with operator: Equal",
            field="value",
        ),
    )

    key: LabelKey = Field(description="Key of the taint.")
    operator: Literal["Exists", "Equal"] = Field(
        default="Exists", description="Exists: any value. Equal: this value."
    )
    value: OptionalLabelValue = Field(default="", description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        default="NoSchedule", description="Effect of the taint."
    )


class TopologySpread(ApiModel):
    """How a job's workers are spread over nodes, zones or racks."""

    topology_key: LabelKey = Field(description="Label of nodes, e.g. topology.kubernetes.io/zone.")
    max_skew: int = Field(
        default=1, ge=1, le=1024, description="Most workers by which two places may differ."
    )
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        default="ScheduleAnyway", description="Whether a worker waits where it cannot be kept."
    )


class HeadPods(ApiModel):
    """The head pod, and where the pod that submits to it runs."""

    cpu: Cpu | None = Field(
        default=None, description="Where the job does not say `compute.head.cpu`."
    )
    memory: Memory | None = Field(
        default=None, description="Where the job does not say `compute.head.memory`."
    )
    node_selector: dict[str, OptionalLabelValue] = Field(
        default_factory=dict, max_length=16, description="Labels that its node must have."
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=16, description="Taints that its node may have."
    )


class WorkerPods(ApiModel):
    """The pods that train."""

    cpu: Cpu | None = Field(
        default=None, description="Where the job does not say `compute.worker.cpu`."
    )
    gpu_resource: DeviceResource = Field(
        default=DEFAULT_GPU_RESOURCE,
        description="As what their GPUs are asked for: the resource of the cluster's device "
        "plug-in, e.g. amd.com/gpu, or nvidia.com/mig-1g.5gb for slices of GPUs, each of which "
        "counts as one.",
    )
    node_selector: dict[str, OptionalLabelValue] = Field(
        default_factory=dict, max_length=16, description="Labels that their nodes must have."
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=16, description="Taints that their nodes may have."
    )
    topology_spread: Annotated[list[TopologySpread], Field(max_length=4)] = Field(
        default_factory=list, description="How they are spread over the cluster."
    )


class ProfilePods(ApiModel):
    """What the pods of every job get; a job cannot choose otherwise."""

    image: ImageName | None = Field(
        default=None, description="The runtime's image; by default the one that the chart names."
    )
    shared_memory: Memory | None = Field(
        default=None, description="Most of /dev/shm in each pod, counted as its memory; else 512Mi."
    )
    priority_class_name: SecretName | None = Field(
        default=None, description="Of the pods; it must exist in the cluster."
    )
    head: HeadPods = Field(default_factory=HeadPods, description="The head pod.")
    worker: WorkerPods = Field(default_factory=WorkerPods, description="The pods that train.")
