"""Raw configuration lines of plugins: read, and refused where they touch what keeps the pilot safe."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pilot_agent.model import Failure, FailureKind, PilotError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pilot_agent.startd.plan import PluginFragment

# Who may talk to the daemons and as whom, which programs they run, which files they read and write, what contains the
# jobs, how large the slots are. Several of them hold for one daemon or one type of slot and hide the one for all.
SECURITY_KNOBS = re.compile(
    r"""(?ix) ^(?:
        SEC_ .* | ALLOW_ .* | DENY_ .* | HOST(?:ALLOW|DENY) .* | .* TOKEN .* | .* PASSWORD .* | .* CREDENTIAL .*
      | AUTH_SSL_ .* | CERTIFICATE_MAPFILE .* | CLASSAD_USER_MAP .* | TRUST_DOMAIN | UID_DOMAIN | TRUST_UID_DOMAIN
      | SETTABLE_ATTRS .* | ENABLE_RUNTIME_CONFIG | ENABLE_PERSISTENT_CONFIG | PERSISTENT_CONFIG_DIR
      | DAEMON_LIST | DC_DAEMON_LIST | CONDOR_CONFIG .* | CONDOR_IDS | LOCAL_CONFIG .* | REQUIRE_LOCAL_CONFIG_FILE
      | USER_CONFIG_FILE | USE_SCRIPT_TO_CREATE_CONFIG
      | RELEASE_DIR | LOCAL_DIR | BIN | SBIN | LIB | LIBEXEC | ETC | LOG | SPOOL | EXECUTE | LOCK | RUN
      | DAEMON_SOCKET_DIR
      | MASTER | STARTD | STARTER | STARTER_LIST | STARTER_LOCAL | PROCD | SHARED_PORT | USE_SHARED_PORT
      | COLLECTOR_HOST | CONDOR_HOST | CCB_ADDRESS | MASTER_NAME | STARTD_NAME
      | USER_JOB_WRAPPER | .* _HOOK_ .* | .* HOOK_KEYWORD | STARTD_CRON_JOBLIST | STARTD_CRON_PILOT .*
      | BENCHMARKS_JOBLIST
      | SINGULARITY | SINGULARITY_(?:JOB|IMAGE_EXPR|BIND_EXPR|EXTRA_ARGUMENTS|TARGET_DIR|USE_PID_NAMESPACES|MOUNT_HOME)
      | SSH_TO_JOB_ .* | CONDOR_SSH_TO_JOB_ .* | ENABLE_SSH_TO_JOB
      | DOCKER .* | JAVA .* | VM_.* | VMP_.* | MAIL | PREEN .* | HIBERNAT.* | NAMED_CHROOT | MOUNT_.* | LVM_.*
      | FILETRANSFER_PLUGINS | .*_PLUGIN_.* | STARTER_JOB_ENVIRONMENT | STARTD_CRON_.* | SHARED_PORT_.*
      | (?:MASTER|STARTD|STARTER|PROCD|SHARED_PORT)_(?:ARGS|ENVIRONMENT|LOG|ADDRESS_FILE) | EVENT_LOG.* | PROCD_.*
      | USE_PROCD | TMP_DIR | DOLLAR | STARTD_HISTORY | MASTER_ATTRS
      | BASE_CGROUP | CREATE_CGROUP_WITHOUT_ROOT | CGROUP_(?:MEMORY_LIMIT_POLICY|HARD_MEMORY_LIMIT_EXPR)
      | NUM_CPUS | MEMORY | DISK | RESERVED_.* | NUM_SLOTS.* | SLOT_TYPE_.* | SLOT\d+_.* | SLOTS_.* | MAX_SLOT_TYPES
      | MACHINE_RESOURCE_.* | STARTD_DETECT_GPUS | GPU_DISCOVERY_EXTRA
      | JOB_INHERITS_STARTER_ENVIRONMENT | PILOT_ .* | .* DAEMON_SHUTDOWN (?:_FAST)? | CLASSAD_USER_LIBS
      | CLASSAD_USER_PYTHON .* | SLOT\d*_USER | STARTER_ALLOW_RUNAS_OWNER | DEDICATED_EXECUTE_ACCOUNT_REGEXP
    )$"""
)
# Directives read other files or run programs, and `use` expands to knobs that cannot be seen here.
_DIRECTIVE = re.compile(r"(?i)^\s*@?\s*(?:include|use)\b")
_CONDITIONAL = re.compile(r"(?i)^\s*(?:if|elif|else|endif|error|warning)\b(?!\s*[=@])")
_ASSIGNMENT = re.compile(r"^\s*(?P<name>[A-Za-z_$][\w.$():]*)\s*(?:=|@=)")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
# What the startd finds for itself alone hides the START for all, and with it what was added to that.
_FOR_ONE = re.compile(r"(?i).*\.START")
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BLANKS = " \t"


def fragment_lines(fragments: tuple[PluginFragment, ...]) -> Iterator[str]:
    """The lines to append to the configuration, each fragment under a comment that names its plugin.

    Raises ``PilotError`` (kind config): ``fragment.security_knob`` for a knob that plugins may not set,
    ``fragment.directive`` for a line that reads more configuration, reaches beyond the fragment or cannot be
    understood.
    """
    for item in fragments:
        # A backslash at the end of a line joins the next one to it, comment or not.
        yield f"# {_one_line(item.plugin)}: {_one_line(item.fragment.name)}".rstrip("\\ ")
        opened = 0
        for number, line in _logical_lines(item.fragment.text):
            opened = _opened(item, number, line, opened)
            yield _checked(item, number, line)
        if opened:
            raise _refused(item, number, "fragment.directive", "an if has no endif, and would hide what follows")


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines as HTCondor joins them: a backslash at the end, or with only blanks behind it, continues on the next line;
    comments are dropped."""
    begun, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        if not parts and (not line.strip() or line.lstrip().startswith("#")):
            continue
        begun = begun if parts else number
        shown = line.rstrip(_BLANKS)
        if shown.endswith("\\"):
            parts.append(shown[:-1])
            continue
        yield begun, "".join((*parts, line)).strip()
        parts = []
    if parts:
        yield begun, "".join(parts).strip()


def _opened(item: PluginFragment, number: int, line: str, opened: int) -> int:
    """How many conditions are open after this line."""
    found = _CONDITIONAL.match(line)
    word = found.group().strip().lower() if found else ""
    if word in ("elif", "else", "endif") and not opened:
        raise _refused(item, number, "fragment.directive", f"'{line}' belongs to no if of this fragment")
    return opened + (word == "if") - (word == "endif")


def _checked(item: PluginFragment, number: int, line: str) -> str:
    if _UNSEEN.search(line) or line.endswith("\\"):
        what = "ends with a backslash" if line.endswith("\\") else "holds a control character"
        raise _refused(item, number, "fragment.directive", f"{line!r} {what}")
    if _CONDITIONAL.match(line):
        return line
    found = _ASSIGNMENT.match(line)
    if _DIRECTIVE.match(line) and not (found and found["name"].lower() not in ("use", "include")):
        raise _refused(item, number, "fragment.directive", f"'{line}' reads configuration from elsewhere")
    if found is None or "@=" in found.group() or not _PLAIN_NAME.fullmatch(found["name"]):
        raise _refused(item, number, "fragment.directive", f"'{line}' is no plain NAME = value")
    name = found["name"].rsplit(".", 1)[-1]
    if SECURITY_KNOBS.match(name) or SECURITY_KNOBS.match(found["name"]):
        raise _refused(item, number, "fragment.security_knob", f"{found['name']} is the pilot's own and not a plugin's")
    if _FOR_ONE.fullmatch(found["name"]):
        why = f"{found['name']} would hide what keeps jobs away; START = ... narrows it for all"
        raise _refused(item, number, "fragment.security_knob", why)
    return line


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _refused(item: PluginFragment, number: int, code: str, why: str) -> PilotError:
    where = f"plugin {item.plugin}, fragment {item.fragment.name!r}, line {number}"
    return PilotError(
        Failure(
            FailureKind.CONFIG,
            code,
            f"{where}: {why}",
            hint="the plugin's author removes the line, or asks for a configuration key that does what it needs",
            stage="handoff",
            plugin=item.plugin,
        )
    )
