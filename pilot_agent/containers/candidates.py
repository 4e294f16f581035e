"""A candidate of the image dictionary: where it comes from, what its content must be, and how it was judged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from pilot_agent import CVMFS
from pilot_agent.config_images import DIGEST, PLATFORM, REMOTE_SCHEMES, digest_problem
from pilot_agent.containers.needs import NodeNeeds, architecture_named, unmet
from pilot_agent.model import FailureKind, ImageCandidate, Json
from pilot_agent.spelling import nearest

Source = Literal["cvmfs", "directory", "file", "docker", "oras", "https"]
Form = Literal["directory", "file", "remote"]

BELOW_CVMFS = f"{CVMFS}/"
NOT_FOR_THIS_NODE = "image.not_in_dictionary"
"""The code of candidates that are for other nodes."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_REFERENCE = re.compile(rf"(?:{'|'.join(REMOTE_SCHEMES)})://[A-Za-z0-9_\[][!-~]*")
REFUSED_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\"'`$;\\]")
_IMAGE_FILE = re.compile(r"\.(?:sif|simg|img|sqsh|sqfs|squashfs|ext3)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Located:
    """A candidate that may be taken.

    ``path`` is physical, without links, so that a republished image does not change under a running job; of the form
    "remote" it is the reference, which nobody has looked at yet.
    """

    candidate: ImageCandidate
    path: str
    form: Form

    @property
    def source(self) -> Source | None:
        """Where it really comes from."""
        return source_of(self.path, self.form)


@dataclass(frozen=True, slots=True)
class Refused:
    """A candidate that is not taken. ``kind`` and ``code`` tell what it means when there is no other, ``hint`` who
    must do what, ``facts`` what was seen of it."""

    candidate: ImageCandidate
    code: str
    kind: FailureKind
    reason: str
    hint: str = "the VO corrects the path in images, or the site provides it"
    facts: Mapping[str, Json] = field(default_factory=dict)


def source_of(path: str, form: Form | None = None) -> Source | None:
    """Where an image comes from, None when from nowhere that is known.

    Everything under /cvmfs is ``cvmfs``. Of other paths ``form`` says whether it is a directory or a file; without it
    the name does.
    """
    scheme = path.partition("://")[0]
    if scheme in REMOTE_SCHEMES:
        return cast("Source", scheme)
    if not path.startswith("/"):
        return None
    if path.startswith(BELOW_CVMFS):
        return "cvmfs"
    if form is None:
        return "file" if _IMAGE_FILE.search(path) else "directory"
    return "file" if form == "file" else "directory"


def is_remote(path: str) -> bool:
    """Whether it has to be fetched."""
    return source_of(path) in REMOTE_SCHEMES


def pin_of(candidate: ImageCandidate) -> str:
    """The digest that its content must have: its own, or the one in ``docker://name@sha256:...``; empty without."""
    if candidate.digest:
        return candidate.digest
    return _own_digest(candidate.path)


def _own_digest(path: str) -> str:
    return path.partition("@")[2] if path.startswith(("docker://", "oras://")) else ""


def refusal(candidate: ImageCandidate, node: NodeNeeds) -> Refused | None:
    """Why this node cannot take the candidate, judged without looking at the path; None when it can."""

    def refused(code: str, reason: str) -> Refused:
        return Refused(candidate, code, FailureKind.CONFIG, reason)

    if not re.fullmatch(PLATFORM, candidate.platform):
        return refused("image.name", f"{candidate.platform!r}: a platform's name has letters, digits and . _ + - only")
    bad = REFUSED_CHARACTERS.search(candidate.path)
    if bad:
        return refused("image.path", f"the path has the character {bad[0]!r}; quotes, backquote, backslash, $, ; and "
                       "control characters are refused")  # fmt: skip
    reason = unmet(candidate, node)
    if reason:
        return replace(refused(NOT_FOR_THIS_NODE, reason), facts=_wanted_by(candidate))
    if not candidate.path.startswith("/"):
        problem = _reference_problem(candidate.path)
        if problem:
            return refused(*problem)
    own, pin = _own_digest(candidate.path), candidate.digest
    for digest in filter(None, (own, pin)):
        if not re.fullmatch(DIGEST, digest):
            return refused("image.digest", digest_problem(digest) or "")
    if own and pin and own != pin:
        return refused("image.digest", f"the reference names another digest than {pin}")
    return None


def _wanted_by(candidate: ImageCandidate) -> dict[str, Json]:
    """What the dictionary says of an image at which nobody looked counts as its facts."""
    facts: dict[str, Json] = {}
    if candidate.architecture:
        facts["os.arch"] = architecture_named(candidate.architecture)
    if candidate.requires:
        facts["requires"] = dict(candidate.requires)
    return facts


def _reference_problem(path: str) -> tuple[str, str] | None:
    """Code and reason why ``path`` is no reference to an image that can be fetched."""
    scheme = _SCHEME.match(path)
    if scheme is None:
        return "image.path", "neither an absolute path nor a reference such as docker://name"
    if scheme[1] not in REMOTE_SCHEMES:
        known = nearest(scheme[1], REMOTE_SCHEMES) or f"; known: {', '.join(REMOTE_SCHEMES)}"
        return "image.source", f"{scheme[1]!r} is no source of images{known}"
    if not _REFERENCE.fullmatch(path):
        return "image.path", f"no reference: {scheme[1]}:// and a name without spaces is needed"
    return None
