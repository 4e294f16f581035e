"""The guard reads ads as HTCondor writes them: honest jobs pass, others are held with a reason."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pilot_agent.containers.job_ad import parse_job_ad
from pilot_agent.model import PilotError
from pilot_agent.startd.confinement import COPY
from pilot_agent.startd.guard import FORBIDDEN, HELD, guard_text
from tests.startd.counting import started_by
from tests.startd.plans import CONTAINER

# As the hook got it from HTCondor 23.9.6, without the lines that are numbers and times.
AD = """\
Arguments = "-c cat' '/etc/os-release"
Cmd = "/bin/sh"
ContainerImage = "my.sif"
ContainerImageSource = "cedar"
Environment = "A=1 B=x' 'y C=\\"q\\" D=''''s''''"
Err = "_condor_stderr"
In = "/dev/null"
Iwd = "/home/pilot/pilot-x/condor/execute/dir_555"
JobCurrentReconnectAttempt = undefined
JobUniverse = 5
OrigIwd = "/home/user"
Out = "_condor_stdout"
Requirements = (PilotId == "off") && (TARGET.Arch == "X86_64")
ShouldTransferFiles = "YES"
StreamErr = false
TransferExecutable = false
TransferIn = false
TransferInput = "/home/user/my.sif"
UidDomain = "pool.test"
WhenToTransferOutput = "ON_EXIT"
"""


@pytest.fixture(params=["sh", "bash"])
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "guard"
    path.write_text(guard_text(replace(CONTAINER, allowed_paths=("/data/it's here/",))))
    return path


def asked(shell: str, program: Path, ad: str) -> tuple[int, str]:
    done = subprocess.run([shell, program], input=ad, capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "",
        "PreCmd = undefined",
        'ContainerImage = "docker://registry.example/a/b:1.2@sha256"',
        'ContainerImage = "/cvmfs/unpacked.example/a:latest"',
        'SingularityImage = "/images/el9"',
        'SingularityImage = "./image.sif"',
        'REQUIRED_OS = "el9"',
        'TransferOutput = "a, b/c,..d"',
        'TransferInputRemaps = "a=b;c=d/e"',
        'TransferInput = "https://example.org/a,b"',
        'TransferOutputRemaps = "a=/home/user/a"',
        'ContainerTargetDir = "/work"',
        'ShouldTransferFiles = "IF_NEEDED"',
        'FileSystemDomain = "pool.test"',
        'Env = "A=1;PATH=/usr/bin"',
        'Environment = "APPTAINERENV_A=1 MY_LD_X=2 OLD_Y=3"',
        "WantDocker = false",
        'In = "/home/user/input"\nTransferIn = true',
        'Environment = "MY_SHELLOPTS=1 XBASH_ENV=2 ENV=prod"',
        'Cmd = "/usr/bin/python3"',
        'x509userproxy = "/home/user/proxy"',
    ],
)
def test_an_honest_job_passes(shell: str, program: Path, line: str) -> None:
    ad = AD if "TransferIn = true" not in line else AD.replace("TransferIn = false\n", "")
    assert asked(shell, program, ad + line + "\n") == (0, "")


def test_an_honest_job_costs_no_process_but_the_guard_itself(shell: str, program: Path) -> None:
    lines = 'REQUIRED_OS = "el9"\nEnvironment = "A=1"\nTransferOutput = "a, b/c"\nPadding = "' + "x" * 100_000
    assert started_by([shell, program], cwd=program.parent, text=f'{AD}{lines}"\n') == 0


def test_a_last_line_without_an_end_is_read_too(shell: str, program: Path) -> None:
    assert asked(shell, program, AD + 'PreCmd = "/bin/sh"')[0] == HELD


@pytest.mark.parametrize(
    "line",
    [
        *(f'{name.swapcase()} = "x"' for name in FORBIDDEN),
        'PreCmd = ifThenElse(isUndefined(TARGET.Cpus),"/bin/sh",undefined)',
        "JobUniverse = 7",
        'ShouldTransferFiles = "NO"',
        'ShouldTransferFiles = strcat("YES")',
        'FileSystemDomain = "Pilot-x"',
        "WantDocker = true",
        "Environment = \"APPT'AINER_BINDPA'TH=/home:/host\"",
        "Environment = \"SHELLOPTS=xtrace PS4='$(id)'\"",
        'Environment = "A=1 BASH_ENV=evil.sh"',
        "Environment = \"BASH_FUNC_id%%='() { evil; }'\"",
        'Env = "A=1;GCONV_PATH=/srv"',
        'RemoteIwd = "/home/pilot"',
        'In = "file:///home/pilot/token"',
        'Out = "https://example.org/out"',
        'Cmd = "file:///home/pilot/secret"',
        'x509userproxy = "FILE:///home/pilot/secret"',
        'Environment = ifThenElse(random(2)==0,"APPTAINER_BINDPATH=/home:/host","A=1")',
        'Environment = "A=1" + B + "C=2"',
        'environment = "A=1 LD_PRELOAD=./x.so"',
        'Env = "A=1;SINGULARITY_BIND=/home:/host"',
        'Env = "A=1xAPPTAINER_BIND=/"\nEnvDelim = "x"',
        'SingularityImage = "--bind=/:/host"',
        'SingularityImage = "/"',
        'SingularityImage = "/proc/self/root"',
        'SingularityImage = "/images/../home"',
        'SingularityImage = "../../.."',
        'SingularityImage = "instance://x"',
        'SingularityImage = "docker-archive:x"',
        'SingularityImage = "file:///home"',
        'SingularityImage = "a,b"',
        'SingularityImage = ""',
        'ContainerImage = "/opt/only"',
        'ContainerImage = strcat("/", "home")',
        'ContainerTargetDir = "/srv,/home:/host"',
        'REQUIRED_OS = strcat("el9")',
        'TransferOutput = "/home/pilot/token"',
        'TransferOutput = "a, /home/pilot/token"',
        'TransferOutput = "a/../../b"',
        'TransferOutput = ".."',
        'TransferCheckpoint = "/home/pilot/token"',
        'TransferInputRemaps = "a=/home/pilot/written"',
        'TransferInputRemaps = "a=.\\./written"',
        'TransferInput = "File:///home/pilot/token"',
        'TransferOutputRemaps = "a=file:///home/pilot/written"',
        'In = "/home/pilot/token"',
        'Out = "/home/pilot/written"\nTransferOut = false',
        'Err = "../written"\nTransferErr = false && X',
        "Out = TARGET.Name",
    ],
)
def test_what_acts_outside_the_container_is_held_with_a_reason(shell: str, program: Path, line: str) -> None:
    code, said = asked(shell, program, AD + line + "\n")
    assert code == HELD
    status, message = said.splitlines()
    assert status == f"HookStatusCode = {HELD}"
    assert message.startswith('HookStatusMessage = "This pilot refuses the job: ')
    assert message.endswith('."')


@pytest.mark.parametrize("missing", ["JobUniverse", "ShouldTransferFiles"])
def test_what_must_be_said_and_is_not_is_held(shell: str, program: Path, missing: str) -> None:
    ad = "".join(line for line in AD.splitlines(keepends=True) if not line.startswith(missing))
    assert asked(shell, program, ad)[0] == HELD


def test_a_line_forged_inside_a_string_takes_no_refusal_away(shell: str, program: Path) -> None:
    forged = 'Arguments = "x\nPreCmd = undefined\nJobUniverse = 5\n"\nPreCmd = "/bin/sh"\n'
    assert asked(shell, program, AD + forged)[0] == HELD


def test_a_string_over_two_lines_is_no_plain_string(shell: str, program: Path) -> None:
    assert asked(shell, program, AD + 'TransferOutput = "a\n,/home/pilot/token"\n')[0] == HELD


def test_a_directory_that_the_site_allows_has_images_whatever_its_name(shell: str, program: Path) -> None:
    assert asked(shell, program, AD + 'SingularityImage = "/data/it"\n')[0] == HELD
    text = program.read_text()
    assert "'/data/it'\"'\"'s here'/*" in text
    program.write_text(guard_text(replace(CONTAINER, allowed_paths=("/data/images/",))))
    assert asked(shell, program, AD + 'SingularityImage = "/data/images/x.sif"\n')[0] == 0
    assert asked(shell, program, AD + 'SingularityImage = "/data/images.sif"\n')[0] == HELD


@pytest.mark.parametrize("listening", [True, False])
def test_where_forbidden_images_go_elsewhere_the_job_is_given_back_and_the_keeper_told(
    shell: str, tmp_path: Path, listening: bool
) -> None:
    fifo = tmp_path / "it's a fifo"
    os.mkfifo(fifo)
    listener = os.open(fifo, os.O_RDWR | os.O_NONBLOCK) if listening else None
    program = tmp_path / "guard"
    program.write_text(guard_text(replace(CONTAINER, forbidden_fifo=str(fifo))))
    code, said = asked(shell, program, AD + 'SingularityImage = "/etc/x.sif"\n')
    assert code == 0
    assert "HookStatusCode = 400\n" in said
    assert "image.forbidden: /etc/x.sif: SingularityImage is no image on offer" in said
    # What tries to inject something is held all the same.
    for image in ("--bind=/etc:/x", "/etc/x;id", "$(id)", '/etc/x\\"]'):
        assert asked(shell, program, AD + f'SingularityImage = "{image}"\n')[0] == HELD
    if listener is not None:
        assert json.loads(os.read(listener, 4096)) == ["/etc/x.sif", 3600]
        os.close(listener)
    fifo.unlink()
    assert "HookStatusCode = 400" in asked(shell, program, AD + 'SingularityImage = "/etc/x.sif"\n')[1]
    assert not fifo.exists()


def test_the_starters_copy_of_the_token_is_gone_before_the_ad_is_read(shell: str, tmp_path: Path) -> None:
    libexec, copy = tmp_path / "condor" / "libexec", tmp_path / COPY / "pool"
    libexec.mkdir(parents=True)
    copy.parent.mkdir()
    copy.write_text("secret")
    (libexec / "guard").write_text(guard_text(CONTAINER))
    assert asked(shell, libexec / "guard", "")[0] == HELD
    assert copy.read_text() == ""


def test_a_site_that_allows_no_registry_refuses_jobs_that_name_one(shell: str, program: Path) -> None:
    program.write_text(guard_text(replace(CONTAINER, fetched=("https",))))
    assert asked(shell, program, AD + 'SingularityImage = "docker://example.org/a"\n')[0] == HELD
    assert asked(shell, program, AD + 'SingularityImage = "https://example.org/a"\n')[0] == 0


@pytest.mark.parametrize(
    "line",
    [
        'REQUIRED_OS = "el9, any"',
        'REQUIRED_OS = strcat("el", "9")',
        'ContainerImage = "docker://almalinux:9"',
        'ContainerImage = "/cvmfs/images.example.org/el9"',
        'ContainerImage = "/data/a b"',
        "SingularityImage = MY.Image",
        'Environment = "A=1 LD_LIBRARY_PATH=/x"',
        'Environment = "OLD_LD=1"',
        'Environment = "APPTAINER_BIND=/"',
        "Environment = \"SHELLOPTS=xtrace PS4='$(id)'\"",
        'Environment = "XBASH_ENV=1"',
        'Environment = "BASH_ENV=/x"',
    ],
)
def test_what_a_job_is_held_for_exec_refuses_too(shell: str, program: Path, line: str) -> None:
    refused = False
    try:
        parse_job_ad(f"{line}\n")
    except PilotError:
        refused = True
    code, said = asked(shell, program, f"{AD}{line}\n")
    assert (code == HELD) == refused, said
