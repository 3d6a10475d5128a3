"""Which FineTuneProfile a job is under: the copy from its start, or else one of the cluster's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from pydantic import ValidationError

from loam_api.finetunejob import FineTuneJobSpec
from loam_api.finetuneprofile import FineTuneProfileSpec, LabelRequirement, NamespaceSelector
from loam_api.status import ProfileUse
from loam_operator.observed import Observed, ProfileView, Tenancy


@dataclass(frozen=True, slots=True)
class Profile:
    """The rules that a job is under; those of no profile forbid next to nothing.

    Attributes:
        name: of the FineTuneProfile; "" for none.
        copy: what the job keeps of it, as text.
    """

    name: str = ""
    spec: FineTuneProfileSpec = field(default_factory=FineTuneProfileSpec)
    copy: str = ""

    @property
    def use(self) -> ProfileUse | None:
        """What the status says of it."""
        if not self.name:
            return None
        return ProfileUse(name=self.name, digest=_digest(self.copy))


class NoProfileError(Exception):
    """There is no profile for a job, or no clear one; the message says why."""


def find_profile(tenancy: Tenancy, spec: FineTuneJobSpec) -> Profile:
    """The rules for a job that has kept none.

    Raises:
        NoProfileError: the job has to wait for one.
    """
    name = spec.compute.profile
    view = _find_named(tenancy, name) if name else _find_default(tenancy)
    if view is None or view.spec is None:
        return Profile()
    return Profile(view.name, view.spec, write_copy(view.name, view.spec))


def find_kept(observed: Observed, held: ProfileUse | None) -> Profile | None:
    """The profile that the job has kept since its start, if its copy is what the status says."""
    if held is None or not observed.profile_copy or _digest(observed.profile_copy) != held.digest:
        return None
    return _read_copy(observed.profile_copy)


def write_copy(name: str, spec: FineTuneProfileSpec) -> str:
    """A profile as text; the same for the same rules."""
    rules = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return json.dumps({"name": name, "spec": rules}, sort_keys=True)


@lru_cache(maxsize=256)
def _read_copy(text: str) -> Profile | None:
    """None for what a newer operator wrote: then the cluster's own profile counts."""
    try:
        document = json.loads(text)
        return Profile(document["name"], FineTuneProfileSpec.model_validate(document["spec"]), text)
    except (ValueError, KeyError, TypeError, ValidationError):
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _find_named(tenancy: Tenancy, name: str) -> ProfileView:
    view = next((one for one in tenancy.profiles if one.name == name), None)
    if view is None:
        raise NoProfileError(f"FineTuneProfile {name} does not exist.")
    if view.spec is None:
        raise NoProfileError(f"FineTuneProfile {name} cannot be read: {view.trouble}")
    if not _is_for(view.spec, tenancy.namespace_labels):
        raise NoProfileError(
            f"FineTuneProfile {name} is not for this namespace: its namespaceSelector does not "
            "match the namespace's labels."
        )
    return view


def _find_default(tenancy: Tenancy) -> ProfileView | None:
    """None where the cluster has no profile and needs none."""
    found = [
        one
        for one in tenancy.profiles
        if one.spec and one.spec.default and _is_for(one.spec, tenancy.namespace_labels)
    ]
    if len(found) > 1:
        names = " and ".join(one.name for one in found)
        raise NoProfileError(
            f"FineTuneProfiles {names} are both the default of this namespace: the job must name "
            "one in spec.compute.profile."
        )
    if not found and (tenancy.profiles or tenancy.is_required):
        raise NoProfileError(
            "No FineTuneProfile is the default of this namespace: the job must name one in "
            "spec.compute.profile."
        )
    return found[0] if found else None


def _is_for(spec: FineTuneProfileSpec, labels: Mapping[str, str]) -> bool:
    selector = spec.namespace_selector
    return selector is None or matches(selector, labels)


def matches(selector: NamespaceSelector, labels: Mapping[str, str]) -> bool:
    """Whether all of a selector's conditions hold."""
    has_labels = all(labels.get(key) == value for key, value in selector.match_labels.items())
    return has_labels and all(_holds(one, labels) for one in selector.match_expressions)


def _holds(requirement: LabelRequirement, labels: Mapping[str, str]) -> bool:
    """As Kubernetes does: a label that is not there is in no list."""
    match requirement.operator:
        case "In":
            return labels.get(requirement.key) in requirement.values
        case "NotIn":
            return labels.get(requirement.key) not in requirement.values
        case "Exists":
            return requirement.key in labels
        case "DoesNotExist":
            return requirement.key not in labels
