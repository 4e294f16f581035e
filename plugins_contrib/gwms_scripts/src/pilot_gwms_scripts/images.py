"""Settings of Singularity that scripts leave in glidein_config, as image candidates and binds of jobs."""

from __future__ import annotations

from collections.abc import Mapping

from pilot_agent.model import ImageCandidate, Json

DICTIONARY = "SINGULARITY_IMAGES_DICT"
LEGACY = {
    "SINGULARITY_IMAGE_DEFAULT6": "rhel6",
    "SINGULARITY_IMAGE_DEFAULT7": "rhel7",
    "SINGULARITY_IMAGE_DEFAULT": "default",
}
"""Keys that name one image -> the platform it is for."""
BINDS = ("GLIDEIN_SINGULARITY_BINDPATH_DEFAULT", "GLIDEIN_SINGULARITY_BINDPATH")


def dictionary_text(images: Json) -> str:
    """The configuration's image dictionary as ``platform:image,platform:image``, the first candidate of each."""
    if not isinstance(images, dict):
        return ""
    pairs = []
    for platform, candidates in images.items():
        first = candidates[0] if isinstance(candidates, list) and candidates else candidates
        path = first.get("path") if isinstance(first, dict) else first
        if isinstance(path, str) and "," not in path and ":" not in platform:
            pairs.append(f"{platform}:{path}")
    return ",".join(pairs)


def images_of(values: Mapping[str, str]) -> dict[str, str]:
    """Platform -> image. Of a platform that is there twice the last counts, as jobs' wrappers have it."""
    found = {}
    for item in values.get(DICTIONARY, "").split(","):
        platform, _, image = item.strip().partition(":")
        if platform and image:
            found[platform] = image
    return found | {platform: values[key] for key, platform in LEGACY.items() if values.get(key)}


def candidates(found: Mapping[str, str], told: Mapping[str, str], who: str) -> tuple[ImageCandidate, ...]:
    """Those that are not known yet."""
    return tuple(
        ImageCandidate(platform, image, origin=who) for platform, image in found.items() if told.get(platform) != image
    )


def binds_of(values: Mapping[str, str]) -> list[str]:
    """``source[:target[:ro]]`` of each bind that scripts ask for."""
    texts = [item.strip() for key in BINDS for item in values.get(key, "").split(",")]
    return [text.removesuffix(":rw") for text in dict.fromkeys(texts) if text.startswith("/")]
