"""HTCondor's starter runs where the tokens are not; a node that does not allow it is told apart."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.startd.confinement import Confinement, establish, runtime_text, starter_text
from pilot_agent.startd.covers import plan_covers, token_directories


def confinement(private: str, **changes: Any) -> Confinement:
    root = os.path.dirname(private)
    usual = Confinement(
        source=f"{root}/pool.token", private=private, execute=f"{root}/condor/execute", temporary=f"{root}/tmp"
    )
    return replace(usual, **changes)


@pytest.mark.parametrize("processes", [True, False])
def test_the_starter_gets_its_own_arguments_and_paths_are_no_shell_words(tmp_path: Path, processes: bool) -> None:
    wanted = confinement("/w/$(x)", source="/t'o", execute="/e x", processes=processes)
    program = tmp_path / "program"
    program.write_text(starter_text("/usr/sbin/condor_starter", wanted))
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "unshare").write_text('#!/bin/sh\nprintf "<%s>" "$@"\necho $$\n')
    (tools / "unshare").chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", program, "-f", "x y"], env={"PATH": f"{tools}:/usr/bin:/bin"}, capture_output=True, text=True
    )
    said, number = done.stdout.rsplit(">", 1)
    expected = f"<sh></t'o></w/$(x)></e x><dir_{number.strip()}><></usr/sbin/condor_starter><-f><x y"
    assert said.endswith(expected)
    assert ("<--pid>" in said) is processes


@pytest.mark.parametrize("locale", ["C.UTF-8", ""])
def test_what_prepares_a_starter_reads_no_locale_and_the_starter_has_the_daemons(
    workspace: Path, tmp_path: Path, locale: str
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("unshare", "mkdir", "mount"):
        (tools / name).write_text(f'#!/bin/sh\necho {name} "$LC_ALL"\nexec /usr/bin/{name} "$@"\n')
        (tools / name).chmod(0o755)
    program = tmp_path / "program"
    look = 'echo starter "$LC_ALL"; export -p | grep -c locale'
    program.write_text(starter_text("/bin/sh", confinement(str(workspace / "private"), processes=False)))
    environment = {"PATH": f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin", **({"LC_ALL": locale} if locale else {})}
    done = subprocess.run(["/bin/sh", program, "-c", look], env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["unshare C", "mkdir C", "mount C", f"starter {locale}", "0"]


def test_a_starter_holds_its_lock_as_long_as_it_lives(tmp_path: Path) -> None:
    locks, tools = tmp_path / "the locks", tmp_path / "bin"
    locks.mkdir()
    tools.mkdir()
    (tools / "unshare").write_text("#!/bin/sh\nexec sleep 60\n")
    (tools / "unshare").chmod(0o755)
    program = tmp_path / "program"
    program.write_text(starter_text("/x", confinement("/scratch/pilot-x/private", locks=str(locks))))
    environment = {"PATH": f"{tools}:/usr/bin:/bin"}
    with subprocess.Popen(["/bin/sh", program], env=environment, start_new_session=True) as starter:
        try:
            lock = locks / f"starter.pilot-x.{starter.pid}"
            while subprocess.run(["flock", "--nonblock", "--no-fork", lock, "true"]).returncode == 0:
                assert starter.poll() is None
        finally:
            os.killpg(starter.pid, signal.SIGKILL)
    assert subprocess.run(["flock", "--nonblock", lock, "true"]).returncode == 0


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A pilot's workspace in a start directory in a home, with what the place beside it must not show."""
    root = tmp_path / "home" / "start" / "pilot-x"
    for name in ("private/tokens", "private/condor", "condor/execute", "condor/log", "tmp", "images"):
        (root / name).mkdir(parents=True)
    (root / "private/tokens/pool").write_text("the token\n")
    (root / "private/journal.jsonl").write_text("a secret\n")
    (root / "condor/execute/dir_1").mkdir()
    (root.parent / "pilot-y").mkdir()
    (root.parent / "report.json").write_text("{}")
    (tmp_path / "home" / "binds").mkdir()
    (tmp_path / "home" / "program").write_text("a program\n")
    return root


def needed(root: Path) -> list[str]:
    shown = [str(root / name) for name in ("private", "condor", "tmp", "images")]
    return [*shown, str(root.parents[1] / "binds"), str(root.parents[1] / "program")]


@pytest.mark.parametrize("processes", [True, False])
def test_a_starter_sees_its_own_job_and_what_it_needs(workspace: Path, tmp_path: Path, processes: bool) -> None:
    covers = plan_covers([str(tmp_path / "home"), str(workspace.parent)], needed(workspace))
    wanted = confinement(str(workspace / "private"), covers=covers, processes=processes)
    assert establish(wanted, dict(os.environ)) == wanted
    assert [path.name for path in (workspace / "condor/execute").iterdir()] == ["dir_1"]
    look = tmp_path / "look"
    look.write_text(
        f"#!/bin/sh\ncd {tmp_path}/home\nfind . -not -name '.[gt]*' | sort\necho $$ $PPID\n"
        "cat program start/pilot-x/private/starter-tokens/pool start/pilot-x/private/tokens/pool 2>&1\n"
        "for place in . start start/pilot-x; do touch $place/made 2> /dev/null && echo $place can be written\n"
        "done; touch start/pilot-x/tmp/mine start/pilot-x/condor/execute/dir_77\nexit 7\n"
    )
    look.chmod(0o755)
    program = tmp_path / "program"
    program.write_text(starter_text(str(look), wanted))
    done = subprocess.run(["/bin/sh", program], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    root = "./start/pilot-x"
    assert lines[: lines.index(f"{root}/tmp") + 1] == [
        *(".", "./binds", "./program", "./start", root, f"{root}/condor", f"{root}/condor/execute"),
        *(f"{root}/condor/execute/tmp", f"{root}/condor/log", f"{root}/images", f"{root}/private"),
        *(f"{root}/private/condor", f"{root}/private/starter-tokens", f"{root}/private/starter-tokens/pool"),
        *(f"{root}/private/starter.lock", f"{root}/tmp"),
    ]
    _, parent = lines[lines.index(f"{root}/tmp") + 1].split()
    assert (parent == "1") is processes
    assert lines[-3:-1] == ["a program", "the token"]
    assert "tokens/pool" in lines[-1]
    assert done.returncode == 7
    (own,) = (path for path in (workspace / "condor/execute").iterdir() if path.name != "dir_1")
    assert sorted(str(path.relative_to(own)) for path in own.rglob("*")) == [".table", "dir_77", "tmp", "tmp/mine"]
    assert (workspace / "private/tokens/pool").read_text() == "the token\n"


@pytest.mark.parametrize("whole", [False, True])
def test_a_running_starter_sees_no_token_that_is_delivered_later(workspace: Path, tmp_path: Path, whole: bool) -> None:
    delivered = workspace.parent / "a token" / "pool.token"
    delivered.parent.mkdir()
    delivered.write_text("the token\n")
    covers = plan_covers([str(tmp_path / "home")], needed(workspace)) if whole else ()
    wanted = confinement(
        str(workspace / "private"),
        source=str(delivered),
        sources=token_directories(str(delivered), needed(workspace)),
        covers=covers,
        processes=whole,
    )
    assert wanted.sources == (str(delivered.parent),)
    assert establish(wanted, dict(os.environ)) == wanted
    look = tmp_path / "look"
    look.write_text(f"#!/bin/sh\necho begun\nread go\ncat '{delivered}'\nls -A '{delivered.parent}'\necho end\n")
    look.chmod(0o755)
    program = tmp_path / "program"
    program.write_text(starter_text(str(look), wanted))
    pipe = subprocess.PIPE
    with subprocess.Popen(["/bin/sh", program], text=True, stdin=pipe, stdout=pipe, stderr=pipe) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        assert starter.stdout.readline() == "begun\n"
        (delivered.parent / "pool.token.new").write_text("a fresh one\n")
        os.rename(delivered.parent / "pool.token.new", delivered)
        starter.stdin.write("go\n")
        starter.stdin.close()
        assert starter.stdout.read() == "end\n"
    assert delivered.read_text() == "a fresh one\n"


def test_a_delivered_token_that_is_gone_keeps_no_job_away(workspace: Path, tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    wanted = confinement(str(workspace / "private"), source=f"{absent}/pool.token", sources=(absent,), processes=False)
    program = tmp_path / "program"
    program.write_text(starter_text("/bin/true", wanted))
    assert subprocess.run(["/bin/sh", program]).returncode == 0


@pytest.mark.parametrize(
    ("inherited", "passed"),
    [
        ("9 <h:1?CCBID=b:2%3fsock%3dc#1&PrivNet=w&sock=s_1> 0 1*2", "<h:1?PrivNet=w&sock=s_1> 0 1*2"),
        ("9 <h:1?CCBID=b:2#1%20c#7&sock=s_1> 0 1*<i?CCBID=d#4&sock=t>", "<h:1?sock=s_1> 0 1*<i?CCBID=d#4&sock=t>"),
        ("9 <h:1?PrivNet=w&sock=s_1> 1 <i:3?CCBID=d#4&sock=t>", "<h:1?PrivNet=w&sock=s_1> 1 <i:3?CCBID=d#4&sock=t>"),
        ("9 <h:1?CCBID=b:2#1&PrivNet=w> 0", "<h:1?CCBID=b:2#1&PrivNet=w> 0"),
        ("9 <h:1> 0", "<h:1> 0"),
    ],
)
@pytest.mark.parametrize("processes", [True, False])
def test_behind_a_shared_port_the_starters_parent_is_known_without_a_broker(
    workspace: Path, tmp_path: Path, inherited: str, passed: str, processes: bool
) -> None:
    look = tmp_path / "look"
    look.write_text('#!/bin/sh\nprintf \'%s|\' "$CONDOR_INHERIT" "$CONDOR_PRIVATE_INHERIT"\n')
    look.chmod(0o755)
    program = tmp_path / "program"
    program.write_text(starter_text(str(look), confinement(str(workspace / "private"), processes=processes)))
    told = {"CONDOR_INHERIT": inherited, "CONDOR_PRIVATE_INHERIT": "SessionKey:a FamilySessionKey:b"}
    said = subprocess.check_output(["/bin/sh", program], env={**os.environ, **told}, text=True)
    assert said == f"{'1' if processes else '9'} {passed}| SessionKey:a|"


def test_paths_with_blanks_are_covered_too(tmp_path: Path) -> None:
    root = tmp_path / "a b\\c$HOME\"'`#" / "pilot-x"
    for name in ("private/tokens", "private/condor", "condor/execute", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "private/tokens/pool").write_text("the token\n")
    wanted = confinement(str(root / "private"), processes=False)
    Path(wanted.source).write_text("the token\n")
    assert establish(wanted, dict(os.environ)) == wanted


def test_a_starters_processes_end_with_it(workspace: Path, tmp_path: Path) -> None:
    look = tmp_path / "look"
    look.write_text("#!/bin/sh\nsetsid sleep 600 &\necho begun\nwait\n")
    look.chmod(0o755)
    program = tmp_path / "program"
    program.write_text(starter_text(str(look), confinement(str(workspace / "private"))))
    with subprocess.Popen(["/bin/sh", program], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "begun\n"
        starter.kill()
        # The end of the pipe comes when the last process that has it is gone.
        assert starter.stdout.read() == ""


def test_the_runtime_finds_its_helpers_on_the_node_only(tmp_path: Path) -> None:
    (tmp_path / "program").write_text(runtime_text("/usr/bin/env"))
    done = subprocess.run(
        ["/bin/sh", tmp_path / "program"],
        env={"PATH": "/proc/self/cwd:/usr/bin", "A": "1"},
        capture_output=True,
        text=True,
    )
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in done.stdout.splitlines()
    assert "A=1" in done.stdout.splitlines()


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_the_jobs_directory_is_its_home_where_it_lies_inside(tmp_path: Path, shell: str) -> None:
    tool = tmp_path / "a runtime's"
    tool.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    tool.chmod(0o755)
    (tmp_path / "program").write_text(runtime_text(str(tool)))

    def called(*words: str) -> str:
        command = [shell, str(tmp_path / "program"), *words]
        done = subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
        assert done.stderr == ""
        return done.stdout

    scratch = "/tmp/a $(id) b"
    words = ["-s", "exec", "-B", f"{scratch}:/srv", "-B", "/data", "--home", scratch, "-C", "--", "/i", "--home", "x"]
    expected = [*words[:7], f"{scratch}:/srv", *words[8:]]
    told = called(*words, "", "*", "`id`;'\"", "a\nb")
    assert told == "".join(f"<{word}>" for word in [*expected, "", "*", "`id`;'\"", "a\nb"])
    assert called("version") == "<version>"
    assert called("exec", "", "--nv", "--", "--nv") == "<exec><><--nv><--><--nv>"
    (tmp_path / "program").write_text(runtime_text(str(tool), gpu_libraries=False))
    assert called("exec", "", "--nv", "--", "--nv") == "<exec><><--><--nv>"
    htcondors, own = ("-B", "/etc/OpenCL/vendors"), ("-B", "/etc/OpenCL/vendors:/x")
    assert called("exec", *htcondors, "--") == "<exec><-B></etc/OpenCL/vendors><-->"
    (tmp_path / "program").write_text(runtime_text(str(tool), opencl=False))
    assert called("exec", *htcondors, *own, "--", *htcondors) == (
        "<exec><-B></etc/OpenCL/vendors:/x><--><-B></etc/OpenCL/vendors>"
    )
    elsewhere = ["exec", "-B", "/x:/srv", "--home", "/y", "--", "/i"]
    assert called(*elsewhere) == "".join(f"<{word}>" for word in elsewhere)


def test_htcondors_question_for_the_version_starts_no_runtime(tmp_path: Path) -> None:
    (tmp_path / "program").write_text(runtime_text("/bin/false", "apptainer version 1.4.5-'2'"))
    command = ["/bin/sh", str(tmp_path / "program")]
    assert subprocess.check_output([*command, "--version"], text=True) == "apptainer version 1.4.5-'2'\n"
    assert subprocess.run([*command, "exec", "--version"]).returncode == 1


def test_a_runtime_that_is_gone_has_no_version(tmp_path: Path) -> None:
    (tmp_path / "program").write_text(runtime_text("/nonexistent/apptainer", "apptainer version 1.4.5"))
    asked = subprocess.run(["/bin/sh", str(tmp_path / "program"), "--version"], capture_output=True, text=True)
    assert (asked.returncode, asked.stdout) == (127, "")


def test_a_node_without_the_tools_cannot_confine(tmp_path: Path) -> None:
    assert establish(confinement(str(tmp_path / "private")), {"PATH": str(tmp_path)}) is None


def test_a_node_without_pid_namespaces_confines_all_the_same(workspace: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    unshare = shutil.which("unshare")
    (tools / "unshare").write_text(f'#!/bin/sh\ncase $* in *--pid*) exit 1;; esac\nexec {unshare} "$@"\n')
    (tools / "unshare").chmod(0o755)
    wanted = confinement(str(workspace / "private"), locks="/locks")
    environment = {"PATH": f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin"}
    assert establish(wanted, environment) == replace(wanted, processes=False, locks="")


def test_what_cannot_be_covered_is_not_called_confined(tmp_path: Path) -> None:
    assert establish(confinement(str(tmp_path / "absent")), dict(os.environ)) is None
