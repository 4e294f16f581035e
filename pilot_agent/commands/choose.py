"""In what ``exec`` runs a command: an image of the dictionary, one that was named, or the node itself."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pilot_agent import CVMFS
from pilot_agent.containers.candidates import Located, is_remote
from pilot_agent.containers.images import locate_all
from pilot_agent.containers.job_ad import JobAd
from pilot_agent.containers.selection import ANY_PLATFORM, Choice, Offer, Wishes, choose
from pilot_agent.model import ContainerDecision, Failure, FailureKind, ImageCandidate, Json, PilotError
from pilot_agent.spelling import nearest

FETCHED = ("docker", "oras", "https")


@dataclass(frozen=True, slots=True)
class Place:
    """``image``: None on the node itself; a path, or a reference to fetch first. ``proven``: the pilot's start ran a
    program in it. ``reason`` is the end of a sentence."""

    image: str | None
    reason: str
    platform: str | None = None
    proven: bool = False


def place_for(decision: ContainerDecision, wanted: str | None, job: JobAd | None, allowed: Json = ()) -> Place:
    """Where a command runs: ``wanted`` is what ``--image`` says, ``job`` an ad, neither a job that says nothing.

    ``allowed`` is ``containers.allowed_paths``. Raises ``PilotError`` where a job would not run, or be held.
    """
    if wanted is not None:
        return _wanted(decision, wanted)
    asked = job or JobAd()
    named = asked.wishes.singularity_image or asked.wishes.container_image
    if decision.runtime is None:
        if named is not None:
            raise _no_container(decision, f"the job names the image {named!r}")
        return _on_the_node(asked.wishes, f"{decision.decision} ({decision.cell}): {decision.reason}")
    if not asked.want_container and decision.decision != "REQUIRED":
        return Place(None, "the job says WantContainer = false")
    choice = choose(asked.wishes, Offer(decision.images, decision.default_platform))
    if choice.image is None:
        if decision.decision == "REQUIRED":
            raise _nothing_on_offer(f"{choice.reason}, and containers are required")
        return _on_the_node(asked.wishes, choice.reason)
    if choice.platform is None:
        choice = _named_by_job(choice, decision, allowed)
    return _place(decision, choice)


def _place(decision: ContainerDecision, choice: Choice) -> Place:
    proven = any(verdict.proven and verdict.taken and verdict.path == choice.image for verdict in decision.verdicts)
    return Place(choice.image, choice.reason, choice.platform, proven)


def _wanted(decision: ContainerDecision, wanted: str) -> Place:
    """``--image``: the name of a platform first, then a path."""
    if decision.runtime is None:
        raise _no_container(decision, f"--image {wanted} was asked for")
    known = {platform.lower(): platform for platform in reversed(list(decision.images))}
    if wanted.lower() in known:
        platform = known[wanted.lower()]
        return _place(decision, Choice(decision.images[platform], platform, f"--image names the platform {platform}"))
    if wanted.startswith(tuple(f"{scheme}://" for scheme in FETCHED)):
        return _place(decision, Choice(wanted, None, "--image names it"))
    candidate = ImageCandidate(wanted, os.path.abspath(wanted), origin="--image")
    located = locate_all([candidate], mount_point=decision.cvmfs)[0]
    if isinstance(located, Located):
        return _place(decision, Choice(located.path, None, "--image names it"))
    if located.code != "image.missing":
        raise PilotError(Failure(located.kind, located.code, f"--image {wanted}: {located.reason}"))
    refused = [f"{one.platform}: {one.reason}" for one in decision.verdicts if one.platform.lower() == wanted.lower()]
    has = ", ".join(decision.images) or "none"
    message = f"--image {wanted}: there is no such file or directory, and the platforms on offer are: {has}"
    message += nearest(wanted, decision.images) if "/" not in wanted else ""
    message = f"--image {wanted}: no candidate of it can be taken here: {'; '.join(refused)}" if refused else message
    raise PilotError(Failure(FailureKind.CONFIG, "image.not_in_dictionary", message, "`pilot-agent images` lists them"))


def _on_the_node(wishes: Wishes, why: str) -> Place:
    """Without a container, where a job would match at all: START asks for a platform on offer."""
    words = (wishes.required_os or "").replace(",", " ").lower().split(" ")
    if wishes.required_os and not set(words) & set(ANY_PLATFORM):
        raise _nothing_on_offer(why if "REQUIRED_OS" in why else f"REQUIRED_OS = {wishes.required_os!r}, and {why}")
    return Place(None, why)


def _named_by_job(choice: Choice, decision: ContainerDecision, allowed: Json) -> Choice:
    """An image that the job itself names, by the rule of the guard that looks at jobs."""
    image = choice.image or ""
    scheme = image.partition("://")[0] if "://" in image else ""
    if image in decision.images.values() or scheme in FETCHED:
        return choice
    if scheme or ":" in image:
        message = f"{image!r} comes from {scheme or 'a source without //'}, and pilots fetch {', '.join(FETCHED)} only"
        raise PilotError(Failure(FailureKind.CONFIG, "image.source", message, "name a file that was fetched before"))
    if not image.startswith("/"):
        # HTCondor transfers such a file into the scratch directory; here it is taken from where the caller is.
        path = os.path.abspath(image)
        if not os.path.exists(path):
            message = f"the job's image {image!r} is a file that is transferred, and there is no {path}"
            hint = "start where condor_submit was called, or use --image"
            raise PilotError(Failure(FailureKind.USAGE, "usage", message, hint))
        return Choice(path, None, f"{choice.reason}, as a transferred file")
    above = (CVMFS, *(path.rstrip("/") for path in allowed))
    if not image.startswith(tuple(f"{path}/" for path in above)):
        message = f"pilots hold such a job: its image {image!r} is not on offer"
        hint = "use REQUIRED_OS, a transferred file, a registry or /cvmfs; the site may add containers.allowed_paths"
        raise PilotError(Failure(FailureKind.CONFIG, "job.refused", message, hint))
    return choice


def must_fetch(place: Place) -> bool:
    """Whether the image is not on the node yet."""
    return place.image is not None and is_remote(place.image)


def _no_container(decision: ContainerDecision, asked: str) -> PilotError:
    message = f"{asked}, and no job gets a container here: {decision.reason}"
    hint = "VO and site agree on containers, or the site installs Apptainer; `pilot-agent images` says more"
    return PilotError(Failure(FailureKind.CONFIG, "container.none", message[:1500], hint))


def _nothing_on_offer(reason: str) -> PilotError:
    message = f"such a job does not start here: {reason}"
    hint = "the VO adds a candidate that this node can use to images; `pilot-agent images` says what it has"
    return PilotError(Failure(FailureKind.CONFIG, "image.not_in_dictionary", message[:1500], hint))
