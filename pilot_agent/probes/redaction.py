"""Secrets out of what a recording keeps: a site attaches it to a ticket, and anybody may read it there.

Names decide first (a variable called ``..._TOKEN`` is never kept), then the shape of the text: whatever looks like a
credential is replaced, wherever it stands. Too much removed is a nuisance, too little a disaster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pilot_agent.model import Json

REMOVED = "(removed)"

_SECRET_NAME = re.compile(
    r"(?i)token|jwt|secret|passw|pass$|passphrase|credential|cookie|private|api_?key|access_?key|claim_?id|"
    r"(?:^|[_-])(?:pass|pw|pwd|auth|key|sig|signature)(?:[_-]|$)"
)
# Variables of plugins of Slurm's, of which nobody knows what they hold.
_FOREIGN_VARIABLE = re.compile(r"(?i)(?:SLURM_)?SPANK_|SLURM_SPANK")
_PROXY_VARIABLE = re.compile(r"(?i).*_proxy$")
_SECRET_OPTION = re.compile(
    r"(?i)--?[\w-]*(?:token|passw(?:or)?d|passphrase|secret|credential|cookie|api-?key|access-?key)$"
)
_KEPT_VARIABLE = re.compile(
    r"_?CONDOR_|SLURM|PBS_|LSB_|LS_|SGE_|PE$|PE_HOSTFILE$|RESTARTED$|LSFUSER$|NSLOTS$|NHOSTS$|QUEUE$|JOB_ID$|JOB_NAME$|NCPUS$|OMP_|MACHINEFEATURES$|"
    r"JOBFEATURES$|OSG_|GLIDEIN_|GLITE_|CUDA_|NVIDIA_|ROCR_|HIP_|GPU_|ZE_|CVMFS|APPTAINER_|SINGULARITY_|MODULE|LMOD|"
    r"KUBERNETES_SERVICE_|container$|(HTTPS?|FTP|NO|ALL)_PROXY$|PATH$|LD_LIBRARY_PATH$|PYTHON|TMP|TEMP|SCRATCH|EDG_WL_SCRATCH$|TG_|LOCAL_SCRATCH$|CH_RUNNING$|SHIFTER_RUNTIME$|"
    r"WORKDIR$|HOME$|SHELL$|LANG$|LC_|TZ$|USER$|LOGNAME$|HOSTNAME$",
    re.IGNORECASE,
)
_SPOKEN = (
    r"(?:[\w.-]*(?:token|secret|passw(?:or)?d|passphrase|credential|cookie|api[_-]?key|access[_-]?key|claim[_-]?ids?|signature)"
    r"[\w.-]*|(?:[\w.-]*[_.-])?(?:pass|sig)|[\w.-]*[_.-](?:pwd|pw|auth))"
)
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    # A private key, whole or cut off.
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
            re.DOTALL,
        ),
        REMOVED,
    ),
    # A signed or encrypted token (RFC 7519): base64url parts of which the first begins like a JSON object.
    (
        re.compile(
            r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){2,4}|(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{5,}\.eyJ[A-Za-z0-9_-]+"
        ),
        REMOVED,
    ),
    # Tokens of GitHub and GitLab.
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-)[A-Za-z0-9_-]{10,}"), REMOVED),
    # User and password in an address (RFC 3986, section 3.2.1), also with characters that should have been escaped.
    (re.compile(r"(://)[^\s'\"]{1,1000}@"), rf"\1{REMOVED}@"),
    # The secret part of an HTCondor claim: <address>#birth#number#secret.
    (re.compile(r"(?m)(<[^<>\s]{3,300}>#[0-9]+#[0-9]+#)\S.*$"), rf"\1{REMOVED}"),
    (re.compile(r"(?i)(\bauthorization[\"']?\s*[:=]\s*)\S[^\n]*"), rf"\1{REMOVED}"),
    (re.compile(r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]{8,}"), rf"\1{REMOVED}"),
    (re.compile(rf"(?im)(?<![\w.-])({_SPOKEN}[\"']?\s*[:=]\s*|capability\s*=\s*)\S.*$"), rf"\1{REMOVED}"),
    (re.compile(rf"(?i)(<({_SPOKEN})>)[^<]+"), rf"\1{REMOVED}"),
    # Options of a command, and the lines of a .netrc.
    (re.compile(rf"(?i)(?<!\S)(--?{_SPOKEN}\s+|password\s+)[^\s-]\S*"), rf"\1{REMOVED}"),
)


def redact(text: str) -> str:
    """The text with everything replaced that has the shape of a credential."""
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    return text


def redact_bytes(content: bytes) -> bytes:
    """The same for the content of a file; what is no text stays as it is."""
    text = content.decode("utf-8", "surrogateescape")
    cleaned = redact(text)
    return content if cleaned == text else cleaned.encode("utf-8", "surrogateescape")


def redact_json(value: Json) -> Json:
    """The same at any depth of an answer; a member whose name speaks of a secret loses its text, and so does what
    follows such an option in a command's arguments."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list | tuple):
        after_option = [False, *(isinstance(item, str) and bool(_SECRET_OPTION.fullmatch(item)) for item in value)]
        return [
            _emptied(item) if secret else redact_json(item) for item, secret in zip(value, after_option, strict=False)
        ]
    if isinstance(value, dict):
        return {
            key: _emptied(item) if _SECRET_NAME.search(str(key)) else redact_json(item) for key, item in value.items()
        }
    return value


def _emptied(value: Json) -> Json:
    """The value without any of its text."""
    if isinstance(value, str):
        return REMOVED if value else value
    if isinstance(value, list | tuple):
        return [_emptied(item) for item in value]
    if isinstance(value, dict):
        return {key: _emptied(item) for key, item in value.items()}
    return value


def kept_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that probes look at, without those whose name speaks of a secret."""
    return {
        name: redact(_without_user(value) if _PROXY_VARIABLE.match(name) else value)
        for name, value in sorted(environment.items())
        if _KEPT_VARIABLE.match(name) and not _SECRET_NAME.search(name) and not _FOREIGN_VARIABLE.match(name)
    }


def _without_user(proxy: str) -> str:
    """A proxy's address without user and password, which may stand there without a scheme and with any character."""
    if "@" not in proxy:
        return proxy
    scheme, separator, rest = proxy.partition("://")
    host = (rest if separator else proxy).rpartition("@")[2]
    return f"{scheme if separator else ''}{separator}{REMOVED}@{host}"
