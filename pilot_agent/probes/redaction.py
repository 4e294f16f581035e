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
    r"(?i)token|jwt|secret|passw|passphrase|credential|cookie|private|api_?key|access_?key|claim_?id"
)
_KEPT_VARIABLE = re.compile(
    r"_?CONDOR_|SLURM|PBS_|LSB_|LS_|SGE_|PE$|PE_HOSTFILE$|RESTARTED$|LSFUSER$|NSLOTS$|NHOSTS$|QUEUE$|JOB_ID$|JOB_NAME$|NCPUS$|OMP_|MACHINEFEATURES$|"
    r"JOBFEATURES$|OSG_|GLIDEIN_|GLITE_|CUDA_|NVIDIA_|ROCR_|HIP_|GPU_|ZE_|CVMFS|APPTAINER_|SINGULARITY_|MODULE|LMOD|"
    r"KUBERNETES_SERVICE_|container$|(HTTPS?|FTP|NO|ALL)_PROXY$|PATH$|LD_LIBRARY_PATH$|PYTHON|TMP|TEMP|SCRATCH|EDG_WL_SCRATCH$|TG_|LOCAL_SCRATCH$|CH_RUNNING$|SHIFTER_RUNTIME$|"
    r"WORKDIR$|HOME$|SHELL$|LANG$|LC_|TZ$|USER$|LOGNAME$|HOSTNAME$",
    re.IGNORECASE,
)
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    # A private key, whole or cut off.
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), REMOVED),
    # A signed token (RFC 7519): two base64url parts that begin like a JSON object, and a signature.
    (re.compile(r"eyJ[A-Za-z0-9_-]{5,}\.eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?"), REMOVED),
    # User and password in an address (RFC 3986, section 3.2.1).
    (re.compile(r"(://)[^/\s@'\"]+@"), rf"\1{REMOVED}@"),
    # The secret part of an HTCondor claim: <address>#birth#number#secret.
    (re.compile(r"(<[^<>\s]{3,300}>#[0-9]+#[0-9]+#)[^\s'\",;]+"), rf"\1{REMOVED}"),
    (
        re.compile(
            r"(?im)(?<![\w.-])([\w.-]*(?:token|secret|passw(?:or)?d|passphrase|credential|cookie|api_?key|access_?key|"
            r"claim_?ids?)[\w.-]*\s*[:=]\s*|capability\s*=\s*)\S.*$"
        ),
        rf"\1{REMOVED}",
    ),
    (re.compile(r"(?i)\b(authorization\s*:\s*(?:basic|bearer)\s+)\S+"), rf"\1{REMOVED}"),
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
    """The same at any depth of an answer; a member whose name speaks of a secret loses its text."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list | tuple):
        return [redact_json(item) for item in value]
    if isinstance(value, dict):
        return {
            key: REMOVED if isinstance(item, str) and item and _SECRET_NAME.search(str(key)) else redact_json(item)
            for key, item in value.items()
        }
    return value


def kept_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that probes look at, without those whose name speaks of a secret."""
    return {
        name: redact(value)
        for name, value in sorted(environment.items())
        if _KEPT_VARIABLE.match(name) and not _SECRET_NAME.search(name)
    }
