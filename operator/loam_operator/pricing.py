"""What a job's teacher costs by its FineTuneProfile: a limit in money is as true as the prices."""

from __future__ import annotations

from loam_api.finetuneprofile import TeacherPrice
from loam_api.teacher_prices import LIST_PRICES
from loam_operator.addresses import is_under
from loam_operator.profiles import Profile


def find_stated(base_url: str, model: str, profile: Profile) -> TeacherPrice | None:
    """The profile's price of a teacher: the first that fits."""
    for price in profile.spec.teacher_prices:
        if price.model == model and (price.base_url is None or is_under(base_url, price.base_url)):
            return price
    return None


def may_price_itself(profile: Profile) -> bool:
    """Whether a job's own prices count: not where they would stretch a limit in money."""
    return profile.spec.limits.teacher_cost is None


def is_priced(base_url: str, model: str, profile: Profile) -> bool:
    """Whether a limit in money can be kept: the profile or Loam's list has the price."""
    return find_stated(base_url, model, profile) is not None or model in LIST_PRICES
