"""The image dictionary: which candidates a node may take for each platform, and where they really are."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pilot_agent import CVMFS
from pilot_agent.config_images import flattened
from pilot_agent.containers import cvmfs_paths
from pilot_agent.containers.candidates import (
    BELOW_CVMFS,
    REFUSED_CHARACTERS,
    Located,
    Refused,
    is_remote,
    pin_of,
    refusal,
)
from pilot_agent.containers.needs import NodeNeeds
from pilot_agent.containers.restrictions import Restrictions
from pilot_agent.model import FailureKind, ImageCandidate, Json
from pilot_agent.process import Runner, WakeUp

if TYPE_CHECKING:
    from pilot_agent.hookspecs import Context

__all__ = ["Located", "NodeNeeds", "Refused", "Resolver", "dictionary", "locate_all", "refusal", "resolve", "resolver"]

LOCATE_SECONDS = 10.0
"""How long one look at the paths may take; a dead mount never answers."""

DIGEST_SECONDS = 30.0
"""How long the files with a digest may be read, all of them together."""

# Byte offsets and values by which the runtime itself tells the formats apart.
_MAGIC = ((32, b"SIF_MAGIC"), (0, b"hsqs"), (1080, b"\x53\xef"))


def dictionary(images: Json, *, origin: str = "configuration") -> Iterator[ImageCandidate]:
    """The candidates of a valid ``images`` of any form, in their order."""
    for platform, entries in flattened(images).items():
        for entry in entries:
            fields: Mapping[str, Json] = {"path": entry} if isinstance(entry, str) else entry
            yield ImageCandidate(
                platform,
                fields["path"],
                fields.get("arch") or "",
                dict(fields.get("requires") or {}),
                origin,
                fields.get("digest") or "",
            )


def locate_all(
    candidates: Sequence[ImageCandidate],
    wake: WakeUp | None = None,
    restrictions: Restrictions | None = None,
    mount_point: str = CVMFS,
) -> list[Located | Refused]:
    """Resolve every path, in a child: a look at a dead mount would never return. ``mount_point`` is where the node has
    what is below /cvmfs. Raises ``Interrupted``."""
    rules = restrictions or Restrictions()
    asked = [(candidate.path, rules.directories_above(candidate.path)) for candidate in candidates]
    found: list[Located | Refused] = []
    while len(found) < len(candidates):
        rest = asked[len(found) :]
        with Runner(wake) as runner:
            handle = runner.start_call(
                lambda rest=rest: _look_at(rest, mount_point),  # type: ignore[misc]
                name="image paths",
                deadline_seconds=LOCATE_SECONDS,
            )
            result = runner.wait(handle)
        answers = [json.loads(line) for line in result.stdout.splitlines() if line.endswith(b"}")][: len(rest)]
        judged = candidates[len(found) :]
        found += [_judged(candidate, answer, rules) for candidate, answer in zip(judged, answers, strict=False)]
        if len(answers) < len(rest):
            stuck = judged[len(answers)]
            reason = f"a look at {stuck.path} did not return within {LOCATE_SECONDS:g} s: the mount it is on is dead"
            found.append(Refused(stuck, "image.mount_dead", FailureKind.NODE_RESOURCE, reason))
    return found


def _look_at(asked: Sequence[tuple[str, Sequence[str]]], mount_point: str) -> bytes:
    """One line of JSON for each path, each written before the next is looked at."""
    for path, prefixes in asked:
        answer: dict[str, Json] = dict(_looked(path, mount_point))
        answer["prefixes"] = {prefix: _resolved(prefix, mount_point) for prefix in prefixes}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return b""


def _resolved(prefix: str, mount_point: str) -> str:
    try:
        return cvmfs_paths.resolve(prefix, mount_point)
    except OSError:
        return os.path.realpath(prefix)


def _looked(path: str, mount_point: str) -> dict[str, str]:
    try:
        real = cvmfs_paths.resolve(path, mount_point)
        place = cvmfs_paths.physical(real, mount_point)
        mode = os.stat(place).st_mode
        if stat.S_ISDIR(mode):
            os.listdir(place)
            return {"path": real, "form": "directory"}
        if not stat.S_ISREG(mode):
            return {"path": real, "form": "unknown"}
        with open(place, "rb") as file:
            head = file.read(1082)
    except OSError as error:
        return {"error": error.strerror or str(error)}
    if not any(head[offset : offset + len(magic)] == magic for offset, magic in _MAGIC):
        return {"path": real, "form": "unknown"}
    return {"path": real, "form": "file"}


def _judged(candidate: ImageCandidate, answer: Mapping[str, Json], restrictions: Restrictions) -> Located | Refused:
    kind = FailureKind.NODE_RESOURCE if candidate.path.startswith(BELOW_CVMFS) else FailureKind.CONFIG
    if "error" in answer:
        return Refused(candidate, "image.missing", kind, f"{candidate.path}: {answer['error']}")
    if answer["form"] == "unknown":
        reason = f"{candidate.path} is neither a directory nor a SIF, squashfs or ext3 file"
        return Refused(candidate, "image.format", kind, reason)
    if REFUSED_CHARACTERS.search(answer["path"]):
        return Refused(candidate, "image.path", kind, f"it leads to {answer['path']!r}, which has refused characters")
    image = Located(candidate, answer["path"], "directory" if answer["form"] == "directory" else "file")
    return _allowed(image, restrictions, answer["prefixes"])


def _allowed(image: Located, restrictions: Restrictions, physical: Mapping[str, str]) -> Located | Refused:
    reason = restrictions.forbid(image, physical)
    if reason is not None:
        hint = "the VO offers an image that is allowed, or whoever restricts them allows this one"
        return Refused(image.candidate, "image.restricted", FailureKind.CONFIG, reason, hint, _place(image))
    if image.form == "directory" and pin_of(image.candidate):
        reason = "its digest cannot be checked: it is a directory, and only files and remote images have one"
        hint = "the VO takes the digest out of images, or offers the image as a file or by reference"
        return Refused(image.candidate, "image.digest", FailureKind.CONFIG, reason, hint, _place(image))
    return image


def _place(image: Located) -> dict[str, Json]:
    """Where an image really lies, when that is elsewhere."""
    return {"leads_to": image.path} if image.path != image.candidate.path else {}


def check_digests(
    found: Sequence[Located | Refused], wake: WakeUp | None = None, mount_point: str = CVMFS
) -> list[Located | Refused]:
    """``found`` with those files refused that have another content than their digest says. Raises ``Interrupted``.

    Files are read in a child; those that could not be read to their end in ``DIGEST_SECONDS`` are refused too.
    """
    end = time.monotonic() + DIGEST_SECONDS
    read: dict[str, str | None] = {}
    checked: list[Located | Refused] = []
    for image in found:
        pin = pin_of(image.candidate)
        if isinstance(image, Refused) or image.form != "file" or not pin:
            checked.append(image)
            continue
        if image.path not in read:
            place = cvmfs_paths.physical(image.path, mount_point)
            read[image.path] = _digest_of(place, max(0.0, end - time.monotonic()), wake)
        checked.append(_compared(image, pin, read[image.path]))
    return checked


def _compared(image: Located, pin: str, digest: str | None) -> Located | Refused:
    if digest is None:
        reason = f"its digest cannot be checked: {image.path} was not read to its end within {DIGEST_SECONDS:g} s"
        hint = "the site looks at the file system, or the VO publishes the image on CVMFS, which checks what it reads"
        return Refused(image.candidate, "image.digest", FailureKind.NODE_RESOURCE, reason, hint, _place(image))
    if digest != pin:
        reason = f"{image.path} has the digest {digest}, and {pin} is wanted"
        hint = "the VO corrects the digest, or finds out with the site who changed the image"
        seen = {**_place(image), "digest": digest}
        return Refused(image.candidate, "image.digest", FailureKind.CORRUPTION, reason, hint, seen)
    return image


def _digest_of(path: str, seconds: float, wake: WakeUp | None) -> str | None:
    with Runner(wake) as runner:
        handle = runner.start_call(lambda: _hashed(path), name="image digest", deadline_seconds=seconds)
        result = runner.wait(handle)
    return result.answer.decode() if result.ok and result.answer else None


def _hashed(path: str) -> bytes:
    """The digest of a file. Raises ``OSError``."""
    import hashlib

    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}".encode()


Resolver = Callable[[Sequence[ImageCandidate]], "list[Located | Refused]"]
"""Judges and locates candidates; the answers are in the order of the candidates."""


def resolve(
    candidates: Sequence[ImageCandidate],
    node: NodeNeeds,
    wake: WakeUp | None = None,
    restrictions: Restrictions | None = None,
    mount_point: str = CVMFS,
) -> list[Located | Refused]:
    """What this node can take of ``candidates``, each located; of remote ones nothing is looked at.

    Raises ``Interrupted``.
    """
    rules = restrictions or Restrictions()
    refusals = [refusal(candidate, node) for candidate in candidates]
    wanted = [candidate for candidate, refused in zip(candidates, refusals, strict=True) if refused is None]
    local = [candidate for candidate in wanted if not is_remote(candidate.path)]
    located = iter(locate_all(local, wake, rules, mount_point))
    found: list[Located | Refused] = []
    for candidate, refused in zip(candidates, refusals, strict=True):
        if refused is not None:
            found.append(refused)
        elif is_remote(candidate.path):
            found.append(_allowed(Located(candidate, candidate.path, "remote"), rules, {}))
        else:
            found.append(next(located))
    return check_digests(found, wake, mount_point)


def resolver(context: Context, wake: WakeUp | None = None) -> Resolver:
    """The resolver for a node of which ``context`` has the facts and the configuration."""
    node = NodeNeeds(
        architecture=context.value("os.arch", ""),
        cpu_level=context.value("os.microarch", ""),
        kernel=context.value("os.kernel", ""),
        gpus=int(context.value("gpu.count", 0)),
        cuda_driver=str(context.value("gpu.cuda_driver", "")),
    )
    restrictions = Restrictions.of(context.config["containers"])
    mount_point = str(context.value("cvmfs.mount_point", CVMFS))
    return lambda candidates: resolve(candidates, node, wake, restrictions, mount_point)
