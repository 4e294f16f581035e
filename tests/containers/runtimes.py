"""Programs that take a container runtime's command line and run what it names on this machine, without a container.

They play the runtime's part in what goes wrong on nodes that no test machine is. What a real Apptainer does is tested
in the testbed.
"""

from __future__ import annotations

from pathlib import Path

PROGRAM = r"""#!/bin/sh
if [ "$1" = --version ]; then echo "apptainer version 1.4.5"; exit; fi
echo "$@" >> "{log}"
contained=no
all="$*"
for word in "$@"; do if [ "$word" = -C ]; then contained=yes; fi; done
while [ "$1" != /bin/sh ] && [ "$1" != /exit_37 ]; do image=$1; shift; done
{behaviour}
case $image in
*broken*) echo "FATAL:   could not open image $image: image format not recognized" >&2; exit 255;;
*hanging*) sleep 60;;
*silent*) exit 0;;
*status255*) exit 255;;
*noisy*) echo "proof-0000 end"; exit 0;;
*halfway*) "$@" | head -n 2; exit 3;;
*.sif) if [ -n "{sif}" ]; then echo "{sif}" >&2; exit 255; fi;;
esac
if [ "$1" = /exit_37 ]; then echo "pilot-agent: a program ran in a SIF file"; exit 37; fi
exec "$@"
"""

NO_PID_NAMESPACE = (
    'if [ $contained = yes ]; then echo "FATAL: can\'t mount proc filesystem to /proc: operation not permitted" >&2; '
    "exit 255; fi"
)
NO_USER_NAMESPACE = 'echo "ERROR  : Failed to create user namespace: not allowed to create user namespace" >&2; exit 1'
UNPACKS = 'case $image in *.sif) echo "INFO:    Converting SIF file to temporary sandbox..." >&2;; esac'
NO_FUSE = "FATAL: squashfuse_ll exited: fuse: mount failed: Invalid argument"


def make_runtime(directory: Path, behaviour: str = "", *, sif: str = "", name: str = "apptainer") -> Path:
    """A runtime in ``directory`` that writes its command lines to ``<name>.log`` there."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    text = PROGRAM.replace("{log}", str(calls_of(path))).replace("{behaviour}", behaviour).replace("{sif}", sif)
    path.write_text(text)
    path.chmod(0o755)
    return path


def calls_of(runtime: Path) -> Path:
    """The file with the command lines that the runtime got."""
    return runtime.with_name(f"{runtime.name}.log")


def calls(runtime: Path) -> list[str]:
    """The command lines that the runtime got; the program that is run has several lines, its first is the mark."""
    log = calls_of(runtime)
    return [line for line in log.read_text().splitlines() if line.startswith("exec ")] if log.exists() else []
