"""Who logs in to a job gets into the job's container, whatever job and owner do about it together."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.trees import PILOT, USER
from tests.testbed.user_jobs import Job, Jobs

WRITTEN = f"{PILOT.home}/written"
"""What no job may write; attacks that choose a name add something to it."""

HERE = (
    "H=$(while read a b c r m x; do case $m in /srv) echo $r; break;; esac; done < /proc/self/mountinfo); "
    "echo $H > said; mv said {0}; "
)
"""The first words of a job: the node's name of its directory, for the job and for its owner, in a file of this name."""

_numbers = itertools.count(1)

STAYS = "touch made; exec sleep 300"
EVIL = f"#!/bin/bash\n{{ id; cat {PILOT.home}/run-*/pool.token; }} > {WRITTEN} 2>&1\n"
LOOP = r"""#!/bin/bash
# Waits for the files of a login and has the login run another program; HTCondor makes them in the job's directory.
while [ ! -e rewritten ]; do
    for directory in .condor_ssh_to_job_*; do
        if [ -s "$directory/sshd_config" ]; then
            sleep 0.05
            key=$(cat "$directory/sshkey.pub")
            echo "command=\"/bin/bash $1/evil.sh\" $key" > "$directory/authorized_keys"
            touch rewritten
        fi
    done
done
"""
SEEN = ". /etc/os-release; echo $VERSION_CODENAME; pwd; ls made"


@pytest.fixture(scope="module")
def victim(grid: Grid, payload: Path, good_token: str) -> Iterator[PilotRun]:
    """One pilot for all hostile owners, on a node where HTCondor's library takes home and shell of a login from
    variables, as it does with HTCondor's own packages."""
    library = grid.hosts["wn1"].path("/usr/lib/condor/libgetpwnam.so")
    library.symlink_to("../libgetpwnam.so")
    run = PilotRun(grid.hosts["wn1"], good_token, {"site": {"containers": "required"}})
    try:
        yield run.start().joined()
    finally:
        run.destroy()
        library.unlink()


@pytest.fixture(scope="module", autouse=True)
def user_files(grid: Grid) -> None:
    """What the hostile user submits from the home directory."""
    for name, text in {"evil.sh": EVIL, "nsenter": EVIL, "env": EVIL, "loop.sh": LOOP}.items():
        path = grid.pool.path(f"{USER.home}/{name}")
        path.write_text(text)
        path.chmod(0o755)
        os.chown(path, USER.uid, USER.uid)


def start(jobs: Jobs, victim: PilotRun, script: str = STAYS, extra: str = "") -> tuple[Job, str]:
    """A running job in debian12 with the user's files, and the node's name of its directory."""
    wanted = '+REQUIRED_OS = "debian12"\ntransfer_input_files = evil.sh, nsenter, env, loop.sh\n'
    name = f"here{next(_numbers)}"
    job = jobs.shell(HERE.format(name) + script, pilot=victim, extra=wanted + extra).wait_running()
    here = victim.job_file(name)
    victim.wait_until("job's file made", (here.parent / "made").exists)
    return job, here.read_text().strip()


def log_in(
    grid: Grid, job: Job, *command: str, options: tuple[str, ...] = (), typed: str | None = None
) -> subprocess.CompletedProcess[str]:
    words = ["condor_ssh_to_job", "-auto-retry", *options, f"{job.cluster}.0", *command]
    if typed is not None:
        words = ["/bin/sh", "-c", 'said=$1; shift; printf "%s" "$said" | "$@"', "sh", typed, *words]
    return grid.pool.run(words, user=USER.name, cwd=USER.home, timeout_seconds=60)


def nothing_ran_on_the_node(grid: Grid, run: PilotRun) -> None:
    time.sleep(0.5)
    written = sorted(grid.hosts["wn1"].path(PILOT.home).glob("written*"))
    said = [path.read_text(errors="replace")[:200] if path.is_file() else str(path) for path in written]
    for path in written:
        path.unlink()
    assert said == []
    assert run.running


@pytest.fixture(scope="module")
def honest(victim: PilotRun, jobs_of_module: Jobs) -> Iterator[Job]:
    job, _ = start(jobs_of_module, victim, extra="environment = \"A='x  y' B=1\"")
    yield job
    job.remove()


@pytest.fixture(scope="module")
def jobs_of_module(grid: Grid) -> Jobs:
    return Jobs(grid)


def is_inside(said: str) -> bool:
    """Whether these are the words of ``SEEN`` in the job's container: the node is no Debian 12."""
    return said.replace("\r", "").splitlines()[:3] == ["bookworm", "/srv", "made"]


def test_a_command_runs_in_the_container(grid: Grid, honest: Job) -> None:
    done = log_in(grid, honest, f"{SEEN}; exit 7")
    assert is_inside(done.stdout), done.stdout + done.stderr
    assert done.returncode == 7


def test_a_shell_without_a_terminal_runs_in_the_container(grid: Grid, honest: Job) -> None:
    done = log_in(grid, honest, options=("-ssh", "ssh -T"), typed=f"{SEEN}\n")
    assert is_inside(done.stdout), done.stdout + done.stderr


def test_a_shell_with_a_terminal_runs_in_the_container(grid: Grid, honest: Job) -> None:
    typed = f"PS1=; stty -echo; echo begun; {SEEN}; test -t 0 && echo on $TERM\nexit\n"
    done = log_in(grid, honest, options=("-ssh", "env TERM=vt100 ssh -tt"), typed=typed)
    said = done.stdout.replace("\r", "").rpartition("begun\n")[2]
    assert is_inside(said), done.stdout + done.stderr
    assert "on vt100" in said


def test_a_login_has_the_jobs_variables_and_no_open_files(grid: Grid, honest: Job) -> None:
    done = log_in(grid, honest, 'echo "$A-$B"; echo /proc/self/fd/*')
    assert done.stdout.splitlines()[0] == "x  y-1", done.stderr
    # The shell's own, with the directory that it lists.
    assert set(done.stdout.splitlines()[1].split()) <= {f"/proc/self/fd/{number}" for number in range(4)}


def test_logins_leave_nothing_with_the_job_and_many_fit(grid: Grid, honest: Job) -> None:
    for _ in range(4):
        done = log_in(grid, honest, "ls -a")
        assert done.returncode == 0, done.stderr
        assert not [name for name in done.stdout.split() if "ssh" in name]


IN_THE_JOBS_OWN_VARIABLES = {
    "a path": "env PATH=$H:$PATH",
    "the loader's": f"env LD_DEBUG=versions LD_DEBUG_OUTPUT={WRITTEN}",
}


@pytest.mark.parametrize("kind", IN_THE_JOBS_OWN_VARIABLES)
def test_the_jobs_own_variables_reach_no_program_of_the_node(
    grid: Grid, victim: PilotRun, jobs: Jobs, kind: str
) -> None:
    job, _ = start(jobs, victim, f"touch made; exec {IN_THE_JOBS_OWN_VARIABLES[kind]} /bin/sleep 120")
    time.sleep(1)
    done = log_in(grid, job, SEEN)
    nothing_ran_on_the_node(grid, victim)
    # What the loader says inside, where it cannot write to the file, lies between.
    assert {"bookworm", "/srv", "made"} <= set(done.stdout.splitlines()), done.stderr


SUBMITTED = {
    "a shell": "_CONDOR_SHELL=/proc/self/cwd/evil.sh",
    "a path": "PATH=/proc/self/cwd:/usr/bin:/bin",
}


@pytest.mark.parametrize("kind", SUBMITTED)
def test_submitted_variables_choose_nothing_on_the_node(grid: Grid, victim: PilotRun, jobs: Jobs, kind: str) -> None:
    job, _ = start(jobs, victim, extra=f'environment = "{SUBMITTED[kind]}"')
    done = log_in(grid, job, SEEN)
    assert is_inside(done.stdout), done.stdout + done.stderr
    nothing_ran_on_the_node(grid, victim)


def test_files_in_the_jobs_directory_are_not_read(grid: Grid, victim: PilotRun, jobs: Jobs) -> None:
    plant = "for f in .bashrc .bash_profile .profile .bash_logout; do cp evil.sh $f; done; "
    plant += f"mkdir .ssh; cp evil.sh .ssh/rc; echo LD_DEBUG=all > .ssh/environment; echo LD_DEBUG_OUTPUT={WRITTEN} >> "
    job, _ = start(jobs, victim, plant + ".ssh/environment; " + STAYS)
    assert is_inside(log_in(grid, job, SEEN).stdout)
    assert is_inside(log_in(grid, job, options=("-ssh", "ssh -T"), typed=f"{SEEN}\n").stdout)
    nothing_ran_on_the_node(grid, victim)


def test_a_job_cannot_change_a_login_that_is_prepared(grid: Grid, victim: PilotRun, jobs: Jobs) -> None:
    job, _ = start(jobs, victim, "(exec bash ./loop.sh $H) > /dev/null 2>&1 & " + STAYS)
    done = log_in(grid, job, SEEN)
    nothing_ran_on_the_node(grid, victim)
    assert is_inside(done.stdout), done.stdout + done.stderr


SENT = {
    "a shell's start file": "ssh -oSetEnv=BASH_ENV={here}/evil.sh",
    "the loader's": f"ssh -oSetEnv='LD_DEBUG=all LD_DEBUG_OUTPUT={WRITTEN}'",
}


@pytest.mark.parametrize("kind", SENT)
def test_variables_of_the_client_reach_no_program_of_the_node(
    grid: Grid, victim: PilotRun, jobs: Jobs, kind: str
) -> None:
    job, here = start(jobs, victim)
    done = log_in(grid, job, SEEN, options=("-ssh", SENT[kind].format(here=here)))
    nothing_ran_on_the_node(grid, victim)
    assert is_inside(done.stdout), done.stdout + done.stderr


def test_the_clients_shell_does_not_run_on_the_node(grid: Grid, victim: PilotRun, jobs: Jobs) -> None:
    job, here = start(jobs, victim)
    done = log_in(grid, job, SEEN, options=("-shells", f"{here}/evil.sh"))
    nothing_ran_on_the_node(grid, victim)
    assert is_inside(done.stdout), done.stdout + done.stderr


def test_the_clients_words_for_the_key_reach_no_shell(grid: Grid, victim: PilotRun, honest: Job) -> None:
    for words in (f"; id > {WRITTEN}", f"$(id > {WRITTEN})", f"-f {WRITTEN}"):
        done = log_in(grid, honest, SEEN, options=("-keygen-options", words))
        nothing_ran_on_the_node(grid, victim)
        assert is_inside(done.stdout), done.stdout + done.stderr


@pytest.mark.parametrize(
    "words",
    [f"-R {WRITTEN}:127.0.0.1:9", "-R 0:127.0.0.1:9", f"-R 0:{WRITTEN}"],
)
def test_nothing_on_the_node_listens_for_the_owner(grid: Grid, victim: PilotRun, honest: Job, words: str) -> None:
    options = ("-ssh", f"ssh -oExitOnForwardFailure=yes {words}")
    done = log_in(grid, honest, "sleep 1; echo forwarded", options=options)
    assert "forwarded" not in done.stdout
    assert "remote port forwarding failed" in done.stderr
    nothing_ran_on_the_node(grid, victim)


def test_nothing_on_the_node_is_reached_for_the_owner(grid: Grid, honest: Job) -> None:
    done = log_in(grid, honest, options=("-ssh", "ssh -W 127.0.0.1:9"))
    assert "administratively prohibited" in done.stderr
    done = log_in(grid, honest, "echo ${SSH_AUTH_SOCK-none} ${DISPLAY-none}", options=("-ssh", "ssh -A -X"))
    assert done.stdout.split() == ["none", "none"]


def test_a_subsystem_is_looked_for_in_the_container(grid: Grid, victim: PilotRun, jobs: Jobs) -> None:
    job, _ = start(jobs, victim)
    done = log_in(grid, job, "sftp", options=("-ssh", "ssh -s"))
    # The node has the program, the image has not. sshd drops what a subsystem complains of.
    assert grid.hosts["wn1"].path("/usr/lib/openssh/sftp-server").exists()
    assert done.returncode == 127
    nothing_ran_on_the_node(grid, victim)
