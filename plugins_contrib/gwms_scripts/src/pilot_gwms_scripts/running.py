"""What the setups and periodic tasks of the plugin do: one script at a time over one shared glidein_config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from pilot_agent.hookspecs import Context, SetupResult
from pilot_agent.model import CheckResult, CheckStatus, FailureKind, Json
from pilot_agent.process import Result
from pilot_gwms_scripts import condor_vars, glidein_config, results
from pilot_gwms_scripts.ad_text import parse_ad
from pilot_gwms_scripts.contained import run_contained
from pilot_gwms_scripts.images import binds_of, candidates, images_of
from pilot_gwms_scripts.installing import SCRIPT_BYTES, FileProblem, config_key, install
from pilot_gwms_scripts.keys import initial
from pilot_gwms_scripts.layout import INSIDE, VARS_FILES, Layout, Memory, read_text, read_whole, write_file
from pilot_gwms_scripts.settings import NAME, NO_PREFIX, Script, Settings, settings_of

T = TypeVar("T")
CLEANUP_KEY = "GLIDEIN_CLEANUP_SCRIPT"
PERIODIC_VARIABLE = "GLIDEIN_PERIODIC_SCRIPT"
LOG_CHARACTERS = 1500
"""Of what a script says: the end, in events.jsonl."""
UNWANTED_BEGINNINGS = ("PILOT_", "PYTHON", "BASH_FUNC_")
UNWANTED_VARIABLES = ("LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "ENV")
"""What no script gets: it is the pilot's, or changes what an interpreter does."""
ALWAYS, NEVER = "TRUE", "FALSE"


def prepare(context: Context) -> SetupResult:
    """Make the directory, with glidein_config and everything that it leads to."""
    settings, layout = settings_of(context.config), Layout.of(context)
    layout.make()
    values = initial(context, layout, settings)
    glidein_config.write(layout.config, values)
    lines = "".join(condor_vars.format_line(attribute.variable) + "\n" for attribute in settings.attributes)
    write_file(_vars_path(layout, "main"), lines.encode())
    memory = Memory(values=values, images=images_of(values), binds=binds_of(values))
    return _contribution(layout, memory, values)


def run_script(context: Context) -> SetupResult:
    """Run the script whose setup this is, or put its file where others find it; what it gives, and its verdict."""
    settings, layout = settings_of(context.config), Layout.of(context)
    script = _script_of(settings, context.task)
    memory = Memory.load(layout)
    skipped = _skipped(script, memory.values)
    if skipped is not None:
        return SetupResult(checks=(skipped,))
    try:
        path = _installed(settings, layout, script)
    except FileProblem as problem:
        return SetupResult(checks=(_refused(script, problem),))
    if not script.runs:
        return _after(layout, memory, ())
    return _run_here(context, layout, memory, script, path)


def install_for_image(context: Context) -> SetupResult:
    """Put a script that is to run inside an image where it is found there, unless its condition is not met."""
    settings, layout = settings_of(context.config), Layout.of(context)
    script = _script_of(settings, context.task.partition(" ")[0])
    memory = Memory.load(layout)
    skipped = _skipped(script, memory.values)
    if skipped is not None:
        return SetupResult(checks=(skipped,))
    try:
        _installed(settings, layout, script)
    except FileProblem as problem:
        return SetupResult(checks=(_refused(script, problem),))
    values = glidein_config.read(layout.config) or memory.values
    glidein_config.write(layout.config_inside, glidein_config.moved(values, layout.root, INSIDE))
    _remove(layout.result)
    write_file(layout.inside_mark(script.id, script.name, "go"), b"")
    return SetupResult()


def read_image_result(context: Context) -> SetupResult:
    """What a script that ran inside an image gives. Where jobs get no container it runs on the node now."""
    settings, layout = settings_of(context.config), Layout.of(context)
    script = _script_of(settings, context.task)
    memory = Memory.load(layout)
    if not os.path.exists(layout.inside_mark(script.id, script.name, "go")):
        return SetupResult()  # skipped, and told
    if not os.path.exists(layout.inside_mark(script.id, script.name, "started")):
        path = os.path.join(layout.of_id(script.id), script.name)
        return _run_here(context, layout, memory, script, path)
    inside = glidein_config.read(layout.config_inside)
    problems = [] if inside is not None else ["what it wrote to glidein_config is lost: the file cannot be read"]
    if inside is not None:
        with glidein_config.locked(layout.config):
            values = glidein_config.read(layout.config) or dict(memory.values)
            given = glidein_config.moved(values, layout.root, INSIDE)
            written = {key: value for key, value in inside.items() if given.get(key) != value}
            glidein_config.write(layout.config, values | glidein_config.moved(written, INSIDE, layout.root))
    code = read_text(layout.inside_mark(script.id, script.name, "code")).strip()
    number = int(code) if code.isdecimal() and len(code) < 4 else None
    ended = Result((script.name,), number, timed_out=number is None, allowed_seconds=script.timeout_seconds)
    check = results.verdict(script.record, ended, results.parse(read_text(layout.result)))
    return _after(layout, memory, (replace(check, where="image"),), problems)


def conclude(context: Context) -> SetupResult:
    """Once all scripts have run: everything that is required has a value."""
    layout = Layout.of(context)
    memory = Memory.load(layout)
    variables, _ = _variables(layout)
    missing = condor_vars.resolve(variables, glidein_config.read(layout.config) or memory.values).missing
    if not missing:
        return _after(layout, memory, ())
    check = CheckResult(
        f"{NAME}/condor_vars",
        CheckStatus.FAIL,
        f"no script gave a value to {', '.join(missing)}, which a line of condor_vars.lst requires",
        "whoever wrote the line gives a default, or configures the value",
        kind=FailureKind.CONFIG,
        code="script.value_missing",
    )
    return SetupResult(checks=(check,))


def run_again(context: Context) -> Mapping[str, Json]:
    """A periodic run: the attributes that the script printed, under its prefix. Raises ``RuntimeError`` with what went
    wrong."""
    settings, layout = settings_of(context.config), Layout.of(context)
    script = next(one for one in settings.scripts if one.name == context.task)
    values = glidein_config.read(layout.config) or Memory.load(layout).values
    if _skipped(script, values) is not None:
        return {}
    path = os.path.join(layout.of_id(script.id), script.name)
    ended, left = _contained(context, layout, script, path, {PERIODIC_VARIABLE: "true"})
    glidein_config.settle(layout.config, values, layout.fixed_keys())
    if not ended.ok:
        raise RuntimeError(results.verdict(script.record, ended, None, left=left).message)
    found, problems = parse_ad(ended.stdout.decode("utf-8", "replace"))
    _say(*problems[:20])
    prefix = "" if script.prefix == NO_PREFIX else script.prefix
    return {prefix + name: value for name, value in found.items()}


def _script_of(settings: Settings, record: str) -> Script:
    return next(script for script in settings.scripts if script.record == record)


def _skipped(script: Script, values: Mapping[str, str]) -> CheckResult | None:
    """Why the condition of a script is not met; None when it is."""
    if script.cond_attr.upper() == ALWAYS:
        return None
    if script.cond_attr.upper() != NEVER:
        found = {key.lower(): value for key, value in values.items()}.get(script.cond_attr.lower(), "")
        if found == "1":
            return None
        message = f"{script.cond_attr} is {found!r} in glidein_config, and not 1"
    else:
        message = "cond_attr is FALSE"
    return CheckResult(script.record, CheckStatus.SKIP, message)


def _refused(script: Script, problem: FileProblem) -> CheckResult:
    hint = "whoever configured the list of scripts corrects it"
    kind = FailureKind.CONFIG
    return CheckResult(script.record, CheckStatus.FAIL, str(problem), hint, kind=kind, code=problem.code)


def _installed(settings: Settings, layout: Layout, script: Script) -> str:
    """Raises ``FileProblem`` and ``OSError``."""
    path = install(settings, layout, script)
    key = config_key(script)
    if key:
        with glidein_config.locked(layout.config):
            values = glidein_config.read(layout.config) or Memory.load(layout).values
            glidein_config.write(layout.config, values | {key: path})
    return path


def _run_here(context: Context, layout: Layout, memory: Memory, script: Script, path: str) -> SetupResult:
    _remove(layout.result)
    ended, left = _contained(context, layout, script, path, {})
    document = results.parse(read_text(layout.result, results.DOCUMENT_BYTES))
    check = results.verdict(script.record, ended, document, left=left)
    return _after(layout, memory, (check,))


def _contained(
    context: Context, layout: Layout, script: Script, path: str, more: Mapping[str, str]
) -> tuple[Result, int]:
    ended, left = run_contained(
        [path, layout.config, script.id],
        seconds=script.timeout_seconds,
        environment={**script_environment(context, layout), **more},
        directory=layout.root,
        leaves_processes=script.leaves_processes,
    )
    said = (ended.stdout + ended.stderr).decode("utf-8", "replace").strip()
    _say(said[-LOG_CHARACTERS:])
    return ended, left


def script_environment(context: Context, layout: Layout) -> dict[str, str]:
    """What a script finds: the variables with which the site started the pilot, and those of every custom script."""
    site = {
        name: value
        for name, value in context.environment.items()
        if not name.startswith(UNWANTED_BEGINNINGS) and name not in UNWANTED_VARIABLES
    }
    path = os.environ.get("PATH", os.defpath)
    return {
        **site,
        "PATH": f"{os.path.join(layout.root, '.gwms.d', 'bin')}:{path}",
        "HOME": site.get("HOME") or layout.temporary,
        "TMPDIR": layout.temporary,
        "GLIDEIN_LOCAL_TMP_DIR": layout.temporary,
        "glidein_config": layout.config,
        "LC_ALL": "C.UTF-8",
    }


def _after(
    layout: Layout, memory: Memory, checks: tuple[CheckResult, ...], problems: list[str] | None = None
) -> SetupResult:
    """What there is after a script, as far as it was not told before."""
    values, broken = glidein_config.settle(layout.config, memory.values, layout.fixed_keys())
    _say(*(problems or ()), *broken)
    _keep_cleanup_script(layout, values)
    return replace(_contribution(layout, memory, values), checks=checks)


def _contribution(layout: Layout, memory: Memory, values: dict[str, str]) -> SetupResult:
    """Raises ``OSError``."""
    variables, problems = _variables(layout)
    exports = condor_vars.resolve(variables, values)
    _say(*problems, *exports.problems)
    images, binds = images_of(values), binds_of(values)
    changed = SetupResult(
        attributes=_news(exports.attributes, memory.attributes),
        expressions=_news(exports.expressions, memory.expressions),
        environment=_news(exports.environment, memory.environment),
        images=candidates(images, memory.images, NAME),
        binds=tuple(bind for bind in binds if bind not in memory.binds),
    )
    Memory(values, exports.attributes, exports.expressions, exports.environment, images, binds).save(layout)
    return changed


def _news(now: Mapping[str, T], before: Mapping[str, T]) -> dict[str, T]:
    return {name: value for name, value in now.items() if name not in before or before[name] != value}


def _variables(layout: Layout) -> tuple[list[condor_vars.Variable], list[str]]:
    return condor_vars.parse_lines(read_text(_vars_path(layout, which)) for which in VARS_FILES)


def _vars_path(layout: Layout, which: str) -> str:
    return os.path.join(layout.of_id(which), VARS_FILES[which][1])


def _keep_cleanup_script(layout: Layout, values: Mapping[str, str]) -> None:
    """One that a script names is run at the end, too, as it was when it was named."""
    path = values.get(CLEANUP_KEY, "")
    place = os.path.join(layout.cleanup, f"named_{os.path.basename(path)}")
    if path and os.path.isabs(path) and not os.path.exists(place):
        content = read_whole(path, SCRIPT_BYTES)
        if content:
            write_file(place, content, mode=0o755)
        else:
            _say(f"{path}, named for the end, is no file of at most {SCRIPT_BYTES >> 20} MiB: it is not run")


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _say(*texts: str) -> None:
    """To the log of the task."""
    for text in texts:
        if text:
            print(text)  # noqa: T201 - what a child of the pilot prints is its log
