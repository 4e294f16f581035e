"""Which image a job gets: the one rule, for the prepare-job hook and for commands that run something as a job would.

HTCondor decides the same with an expression (``startd.containers.image_expression``); a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

ANY_PLATFORM = ("any", "default")
"""Platform words with which a job says that it does not mind; so does an empty REQUIRED_OS."""

_SEPARATORS = re.compile(r"[, ]")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a job's ad says about its image; None: the attribute is not there, or is no string."""

    container_image: str | None = None
    singularity_image: str | None = None
    required_os: str | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """What the pilot has: platform -> image in the dictionary's order, and the default platform, if any."""

    images: Mapping[str, str] = field(default_factory=dict)
    default_platform: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """``image`` is None when the job asks for a platform that is not on offer, or when there is no default;
    ``platform`` is None when the job named the image itself. ``reason`` is a sentence for its owner."""

    image: str | None
    platform: str | None
    reason: str


def choose(wishes: Wishes, offer: Offer) -> Choice:
    """The job's own image first, then the first platform of its REQUIRED_OS, in the job's order, that is on offer,
    then the default.

    Of the two attributes SingularityImage comes first, as with HTCondor's defaults. Names of platforms are compared in
    any case, as ClassAds compare strings.
    """
    for name, image in (("SingularityImage", wishes.singularity_image), ("ContainerImage", wishes.container_image)):
        if image is not None:
            return Choice(image, None, f"the job names it in {name}")
    if not wishes.required_os:
        return _default(offer, "the job names no platform")
    known = {platform.lower(): platform for platform in reversed(list(offer.images))}
    for word in _SEPARATORS.split(wishes.required_os):
        if word.lower() in known:
            platform = known[word.lower()]
            return Choice(offer.images[platform], platform, f"the first platform of REQUIRED_OS on offer is {platform}")
        if word.lower() in ANY_PLATFORM:
            return _default(offer, f"REQUIRED_OS says {word}")
    has = ", ".join(offer.images) or "none"
    return Choice(None, None, f"REQUIRED_OS = {wishes.required_os!r} names no platform on offer (here: {has})")


def _default(offer: Offer, why: str) -> Choice:
    image = offer.images.get(offer.default_platform or "")
    if image is None:
        return Choice(None, None, f"{why}, and there is no default image")
    return Choice(image, offer.default_platform, f"{why}, and the default is {offer.default_platform}")
