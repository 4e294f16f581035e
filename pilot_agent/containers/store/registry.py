"""Images by the container runtime: its command lines for pulling and unpacking, and what its messages mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_agent.containers.messages import diagnose
from pilot_agent.containers.store.entries import FILE
from pilot_agent.containers.store.errors import CONFIG, CORRUPTION, CREDENTIAL, NETWORK, NODE, StoreError

if TYPE_CHECKING:
    from pilot_agent.process import Result

_TAG = re.compile(r":[^/:@]*$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FATAL = re.compile(r"^(?:FATAL|ERROR)\s*:\s*(.*)$", re.MULTILINE)


def pull_command(runtime: str, reference: str, digest: str, target: str, form: str) -> list[str]:
    """Fetch from a registry into ``target``, a SIF file or a directory."""
    pinned = pinned_reference(reference, digest)
    if form == FILE:
        return [runtime, "pull", "--force", "--", target, pinned]
    # Without --fix-perms an image's own modes may forbid its owner to read or remove it.
    return [runtime, "build", "--force", "--sandbox", "--fix-perms", "--", target, pinned]


def unpack_command(runtime: str, image: str, target: str) -> list[str]:
    """Unpack an image file into the directory ``target``."""
    return [runtime, "build", "--force", "--sandbox", "--fix-perms", "--", target, image]


def pinned_reference(reference: str, digest: str) -> str:
    """The reference with its digest in place of its tag: registries' clients refuse both at once.

    Raises ``StoreError`` when the reference names another digest itself.
    """
    scheme, _, rest = reference.partition("://")
    name, _, own = rest.partition("@")
    if not digest:
        return reference
    if own and own != digest:
        message = f"{reference} names a digest, and {digest} is wanted"
        raise StoreError("image.digest", CONFIG, message, "the VO corrects one of the two", temporary=False)
    return f"{scheme}://{_TAG.sub('', name)}@{digest}"


@dataclass(frozen=True, slots=True)
class _Known:
    pattern: str
    code: str
    kind: str
    temporary: bool
    hint: str


_LATER = "the job runs elsewhere or later; the site looks at the node's way to the registry"

# The first that matches decides. The texts are those of Apptainer 1.4 and of the libraries in it (containers/image and
# oras), and the codes of the registry's own protocol (OCI distribution specification, "Error Codes").
_KNOWN = (
    _Known(r"no space left on device|disk quota exceeded", "disk.full", NODE, True,
           "the site frees space on the file system that has containers.store_directory"),
    _Known(r"toomanyrequests|too many requests|status(?: code)?:? 429|pull rate limit", "image.rate_limit", NETWORK,
           True, "the registry limits pulls for each address: the VO publishes the image on CVMFS or in a registry of "
           "its own"),
    _Known(r"digest (?:mismatch|did not match)|does not match (?:the )?(?:expected )?digest|manifest digest|"
           r"mismatched digest", "image.digest", CORRUPTION, False,
           "the VO corrects the digest, or finds out who changed the image"),
    _Known(r"manifest unknown|name unknown|name_unknown|manifest_unknown|repository .*not found|404 not found|"
           r"status(?: code)?:? 404|: not found\b", "image.missing", CONFIG, False,
           "the VO corrects the reference, or publishes the image there"),
    _Known(r"unauthorized|authentication required|requested access to the resource is denied|status(?: code)?:? 40[13]|"
           r"denied:|no basic auth|403 forbidden|invalid username/password", "image.unauthorized", CREDENTIAL, False,
           "the image is private or its name is wrong: pilots pull without a password, so publish it for all"),
    _Known(r"invalid reference format|unable to parse image name|could not parse|invalid (?:image )?reference",
           "image.path", CONFIG, False, "the VO corrects the reference"),
    _Known(r"no image found in (?:image index|manifest list) for architecture|no child with platform|"
           r"does not match (?:the )?(?:host )?architecture", "image.wrong_architecture", CONFIG, False,
           "the image is not published for this processor architecture: give its candidate an arch"),
    _Known(r"x509:|certificate (?:signed by|has expired|is not)|tls: failed to verify", "image.certificate", NETWORK,
           True, "the registry's certificate is not trusted here: the site updates the node's authorities, or the "
           "registry its certificate"),
    _Known(r"http: server gave HTTP response to HTTPS client", "image.not_https", CONFIG, False,
           "the registry has no TLS, and images are fetched with it only"),
    _Known(r"no such host|server misbehaving|temporary failure in name resolution|connection refused|connection reset|"
           r"i/o timeout|timeout exceeded|deadline exceeded|network is unreachable|no route to host|unexpected EOF|"
           r"TLS handshake timeout|: EOF\b|broken pipe", "image.unreachable", NETWORK, True, _LATER),
    _Known(r"\b50[0-9] |status(?: code)?:? 5\d\d|internal server error|bad gateway|service unavailable|"
           r"received unexpected HTTP status: 5", "image.server_error", NETWORK, True, _LATER),
    _Known(r"unsupported (?:media|config|layer)|invalid layer mediatype|unknown media type|not a sif|invalid sif|"
           r"no sif layer|unexpected media ?type|image does not contain", "image.format", CONFIG, False,
           "what is published there is no image of the kind that docker:// or oras:// says"),
)  # fmt: skip

_OF_THE_IMAGE = {"image.damaged", "image.format", "image.wrong_architecture", "image.incomplete"}


def read_failure(result: Result, reference: str) -> StoreError:
    """What the runtime's failure to pull or unpack means. What nobody knows counts as the node's: the job goes on
    elsewhere, where it may well work."""
    text = _COLOUR.sub("", result.stderr.decode("utf-8", "replace"))
    said = _FATAL.findall(text) or text.strip().splitlines() or [result.explain()]
    message = f"{reference}: {said[-1].strip()[:400]}"
    for known in _KNOWN:
        if re.search(known.pattern, text, re.IGNORECASE):
            return StoreError(known.code, known.kind, message, known.hint, temporary=known.temporary)
    diagnosis = diagnose(text)
    if diagnosis.code == "image.not_runnable":
        hint = "run the same command by hand on the node; the site looks at the runtime, or the VO at the image"
        return StoreError("image.fetch_failed", NODE, message, hint, temporary=True)
    temporary = diagnosis.code not in _OF_THE_IMAGE
    return StoreError(diagnosis.code, diagnosis.kind.value, message, diagnosis.hint, temporary=temporary)
