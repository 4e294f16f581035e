"""Secrets out of what a recording keeps: a site attaches it to a ticket, and anybody may read it there.

Names decide first (a variable called ``..._TOKEN`` is never kept), then the shape of the text: whatever looks like a
credential is replaced, wherever it stands. Too much removed is a nuisance, too little a disaster. Redacting again what
was redacted changes nothing, so that the answer to a command is found under the command's redacted words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from pilot_agent.model import Json
from pilot_agent.probes.kept_variables import is_kept

REMOVED = "(removed)"
# What was removed may leave another shape behind.
_MOST_PASSES = 4

_ANYWHERE = (
    r"token|jwt|secret|passw(?:or)?d|passphrase|credential|cookie|api[_-]?key|access[_-]?key|private[_-]?key|claim_?id"
)
# What harmless names have as a part of a word (bypass, author, compass) counts only as the last word of a name.
_SECRET_IN_TEXT = re.compile(
    rf"(?i){_ANYWHERE}|(?:(?:^|[_.-])(?:pass|pw|pwd|auth|sig)|authori[sz]ation|signature|(?<!public)[_-]key)[0-9]?$|"
    r"(?-i:(?<=[A-Z0-9])(?<!BY)PASS$)"
)
# Names of variables and members are no prose and may be judged more freely.
_SECRET_NAME = re.compile(rf"(?i){_SECRET_IN_TEXT.pattern[4:]}|passw|pass(?:[_-]|$)|_pw|pwd|private|auth(?!ors?$|orit)")
_WORKING_DIRECTORIES = ("PWD", "OLDPWD")

_NAMED = re.compile(r"(?<![\w.-])([\w.-]++)([\"']?)[ \t]*[:=]\s*")
_OPTION = re.compile(r"(?<![\w-])(--?[\w-]++)[ \t]+(?:\\\r?\n[ \t]*)?")
_ELEMENT = re.compile(r"<([\w:.-]++)[^<>]*(?<!/)>")
_PROPERTY = re.compile(r"\bname=[\"']([\w.-]++)[\"']\s+value=[\"']")
# curl's and wget's way of giving a user and a password.
_USER_OPTION = re.compile(r"-u|-U|--(?:proxy-)?user")
_QUOTED = re.compile(r"\"(?:[^\"\\\n]|\\.)*+\"(?=\s*(?:[,;}\])]|$))|'(?:[^'\\\n]|\\.)*+'(?=\s*(?:[,;}\])]|$))")
_WORD = re.compile(r"(?!--)(?:\"[^\"\n]*\"|'[^'\n]*'|\S+)")
_BRACKET = re.compile(r"[\[\]{}]")
_END_OF_LINE = re.compile(r"[^\r\n]*")
_ADDRESS = re.compile(r"://((?:(?!://)\S)*+)")
# CVMFS's configuration has addresses with names to be filled in (http://host/cvmfs/@fqrn@), which hide nothing.
_AT = re.compile(r"@(?:fqrn|org)@|@")
_DOTTED = re.compile(r"[A-Za-z0-9_.-]{10,}+")
# How a JSON object begins in base64.
_OBJECT = "eyJ"

_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    # A private key as OpenSSL, OpenSSH and PGP write it, whole or cut off.
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r".*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
            re.DOTALL,
        ),
        REMOVED,
    ),
    # Tokens of GitHub, GitLab, Slack, Docker, Vault and Amazon, which say what they are.
    (
        re.compile(
            r"\b(?:gh[pousr]_|github_pat_|gl(?:pat|ptt|dt|rt|ft|cbt|imt|agent|soat|oas)-|xox[a-z]-|dckr_pat_|hvs\.)[A-Za-z0-9_.-]{6,}+"
        ),
        REMOVED,
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}+"), REMOVED),
    # The secret part of an HTCondor claim, <address>#birth#number#[session]secret; a session may have any mark in it.
    (re.compile(r"(<[^<>\s]{3,300}>#[0-9]{1,20}#[0-9]{1,20}#)[^\r\n]+"), rf"\1{REMOVED}"),
    (re.compile(r"(?i)\b(capability\s*=\s*)\S[^\r\n]*"), rf"\1{REMOVED}"),
    # A proxy without a scheme, which programs take as well.
    (re.compile(r"(?i)(\bcvmfs_\w{0,40}proxy[\"']?\s*[:=]\s*[\"']?)(?!\w{1,20}://)[^\s|;]*@"), rf"\1{REMOVED}@"),
    (re.compile(r"(?i)((?:https?|ftp|all)_proxy[\"']?\s*[:=]\s*[\"']?)(?!\w{1,20}://)\S*@"), rf"\1{REMOVED}@"),
    # What HTTP sends (RFC 9110, section 11.4), also where the header's name is missing.
    (re.compile(r"(?i)\b(bearer[ \t]+)[^\s\"',;<>]+"), rf"\1{REMOVED}"),
    (re.compile(r"(?i)\b((?:basic|negotiate)[ \t]+)(?=[a-z]*[0-9+/=])[a-z0-9+/._~-]{12,}+=*"), rf"\1{REMOVED}"),
    (re.compile(r"(?i)\b(digest[ \t]+)(?=[a-z]{1,20}=)[^\r\n]+"), rf"\1{REMOVED}"),
    # netrc(5).
    (re.compile(r"(?im)((?:^[ \t]*+|\blogin[ \t]+\S++[ \t]+)password[ \t]+)\S+"), rf"\1{REMOVED}"),
)


def redact(text: str) -> str:
    """The text with everything replaced that has the shape of a credential."""
    for _ in range(_MOST_PASSES):
        before, text = text, _redacted_once(text)
        if text == before:
            break
    return text


def redact_bytes(content: bytes) -> bytes:
    """The same for the content of a file; what is no text stays as it is."""
    text = content.decode("utf-8", "surrogateescape")
    cleaned = redact(text)
    return content if cleaned == text else cleaned.encode("utf-8", "surrogateescape")


def redact_json(value: Json) -> Json:
    """The same at any depth of an answer; a member whose name speaks of a secret loses all text that is in it, and so
    does the argument of such an option in a list of words."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list | tuple):
        return [*_redacted_words(value)]
    if isinstance(value, dict):
        return {
            redact(str(key)): _removed(item) if _is_secret_member(str(key)) else redact_json(item)
            for key, item in value.items()
        }
    return value


def kept_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that probes look at, without those whose name speaks of a secret."""
    return {
        name: _redacted_variable(name, value)
        for name, value in sorted(environment.items())
        if is_kept(name) and not _SECRET_NAME.search(name)
    }


def _redacted_once(text: str) -> str:
    document = _redacted_document(text)
    if document is not None:
        return document
    text = _ADDRESS.sub(lambda found: f"://{_without_account(found[1])}", text)
    if _OBJECT in text:
        text = _DOTTED.sub(_without_signed_token, text)
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    for naming, value_of in ((_OPTION, _after_option), (_ELEMENT, _in_element), (_PROPERTY, _in_quotes)):
        text = _without_values(text, naming, value_of)
    return _without_values(text, _NAMED, _after_name)


def _redacted_document(text: str) -> str | None:
    """A text that is one JSON document, redacted by the names in it; None for any other."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        document = json.loads(text, object_pairs_hook=_no_duplicates)
        cleaned = redact_json(document)
        if cleaned == document:
            return text
        return json.dumps(cleaned, indent=1 if "\n" in text.strip() else None, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def _no_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("what stands twice would be looked at once")
    return document


def _redacted_words(items: Sequence[Json]) -> Iterator[Json]:
    before: Json = None
    for item in items:
        if isinstance(item, str) and isinstance(before, str) and _is_argument(before, item):
            yield REMOVED
        else:
            yield redact_json(item)
        before = item


def _is_argument(option: str, word: str) -> bool:
    """True when the word after an option is its secret argument."""
    if word.startswith("--"):
        return False
    if _USER_OPTION.fullmatch(option):
        return ":" in word
    return option.startswith("-") and _is_secret(option)


def _is_secret(name: str) -> bool:
    return name not in _WORKING_DIRECTORIES and _SECRET_IN_TEXT.search(name) is not None


def _is_secret_member(name: str) -> bool:
    # Paths, hosts and repositories are names that nobody chose for what they hold.
    return "/" not in name and "." not in name and _SECRET_NAME.search(name) is not None


def _removed(value: Json) -> Json:
    if isinstance(value, list | tuple):
        return [_removed(item) for item in value]
    if isinstance(value, dict):
        return {redact(str(key)): _removed(item) for key, item in value.items()}
    # A number counts tokens or says when one ends.
    return REMOVED if isinstance(value, str) and value else value


def _without_account(address: str) -> str:
    """What follows ``://``, without all before its last ``@``: a password may have any mark in it, although RFC 3986
    wants most of them written as %XX."""
    last = max((found.start() for found in _AT.finditer(address) if found[0] == "@"), default=None)
    return address if last is None else REMOVED + address[last:]


def _without_signed_token(found: re.Match[str]) -> str:
    """A run of base64url parts, without those of a signed or encrypted token (RFC 7515, RFC 7516)."""
    before, _, token = found[0].partition(_OBJECT)
    header, dot, _ = token.partition(".")
    return before + REMOVED if dot and len(header) >= 5 else found[0]


def _redacted_variable(name: str, value: str) -> str:
    """The value of a variable; of one that names proxies also without the accounts of those that have no scheme."""
    upper = name.upper()
    if not upper.endswith("_PROXY") and upper != "OSG_SQUID_LOCATION":
        return redact(value)
    # CVMFS's has several, and no mark that separates them can be in one.
    parts = re.split(r"([|;])", value) if upper.startswith("CVMFS") else [value]
    return "".join(redact(_proxy_without_account(part)) for part in parts)


def _proxy_without_account(proxy: str) -> str:
    scheme = re.match(r"\s*(?:[A-Za-z][A-Za-z0-9+.-]{0,20}://)?", proxy)
    kept = scheme[0] if scheme else ""
    _, at, host = proxy.rpartition("@")
    return f"{kept}{REMOVED}@{host}" if at else proxy


def _without_values(
    text: str, naming: re.Pattern[str], value_of: Callable[[str, re.Match[str]], tuple[int, int]]
) -> str:
    """The text without the values that follow names of secrets. Names are judged one by one and never again, so that
    no text costs more than a few times its length."""
    parts: list[str] = []
    done = 0
    for found in naming.finditer(text):
        if found.start() < done:
            continue
        start, end = value_of(text, found)
        if start < end:
            parts += [text[done:start], REMOVED]
            done = end
    return "".join([*parts, text[done:]])


def _after_name(text: str, found: re.Match[str]) -> tuple[int, int]:
    """To the end of the line; of ``"name": "value"`` only the value, of a list or an object what is in it."""
    if not _is_secret(found[1]):
        return 0, 0
    if found[2] and text[found.end() : found.end() + 1] in ("[", "{"):
        return found.end() + 1, _closing(text, found.end())
    quoted = _QUOTED.match(text, found.end()) if found[2] else None
    return (quoted.start() + 1, quoted.end() - 1) if quoted else _span(_END_OF_LINE, text, found.end())


def _after_option(text: str, found: re.Match[str]) -> tuple[int, int]:
    start, end = _span(_WORD, text, found.end())
    return (start, end) if _is_argument(found[1], text[start:end]) else (0, 0)


def _in_element(text: str, found: re.Match[str]) -> tuple[int, int]:
    return (found.end(), _until(text, "<", found.end())) if _is_secret(found[1]) else (0, 0)


def _in_quotes(text: str, found: re.Match[str]) -> tuple[int, int]:
    return (found.end(), _until(text, text[found.end() - 1], found.end())) if _is_secret(found[1]) else (0, 0)


def _span(pattern: re.Pattern[str], text: str, position: int) -> tuple[int, int]:
    found = pattern.match(text, position)
    return found.span() if found else (position, position)


def _closing(text: str, position: int) -> int:
    """Where the list or object that begins at ``position`` is closed; the end of a text that is cut before."""
    depth = 0
    for mark in _BRACKET.finditer(text, position):
        depth += 1 if mark[0] in "[{" else -1
        if not depth:
            return mark.start()
    return len(text)


def _until(text: str, mark: str, position: int) -> int:
    end = text.find(mark, position)
    return len(text) if end < 0 else end
