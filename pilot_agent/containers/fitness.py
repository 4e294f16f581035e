"""What a proof finds inside an image beside its release, and whether the image fits the node's processor and kernel."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pilot_agent.containers.messages import Diagnosis
from pilot_agent.model import FailureKind, Json
from pilot_agent.process import Result

# Part of the proof's program: $m is its mark, what follows it in "$@" are CVMFS repositories. Shell builtins only, as
# every process here is paid by every pilot. Of several architectures the loader says which one programs are for.
SCRIPT = r"""
echo "$m facts"
shift
for f in /lib64/ld-linux-*.so.* /lib/ld-linux-*.so.* /lib*/ld64.so.* /lib/ld-musl-*.so.1 /lib/ld-linux.so.*
do if [ -e "$f" ]; then echo "$m loader ${f##*/}"; break; fi; done
while read -r a b c; do case $a in Uid:) u=$b;; esac; done < /proc/self/status
if [ -r /etc/passwd ]; then
while IFS=: read -r a b c d; do if [ "$c" = "$u" ]; then echo "$m account $a"; fi; done < /etc/passwd; fi
while read -r a; do case $a in *'[vsyscall]') echo "$m vsyscall";; esac; done < /proc/self/maps
if [ -w "$HOME" ]; then echo "$m home"; fi
echo "$m locale ${LC_ALL:-${LANG:-POSIX}}"
for f in C.utf8 C.UTF-8 en_US.utf8 locale-archive
do if [ -e "/usr/lib/locale/$f" ]; then echo "$m locales $f"; fi; done
if a=$(command -v python3); then echo "$m python3 $a"; fi
for f in /dev/nvidia[0-9]* /dev/dri/renderD* /dev/kfd; do if [ -e "$f" ]; then echo "$m gpu $f"; fi; done
for a in "$@"; do for f in "/cvmfs/$a"/*; do if [ -e "$f" ]; then echo "$m cvmfs $a"; fi; break; done; done
"""

_ARCHITECTURES = {
    "ld-linux-x86-64.so.2": "x86_64",
    "ld-linux-aarch64.so.1": "aarch64",
    "ld64.so.2": "ppc64le",
    "ld64.so.1": "s390x",
    "ld-linux.so.2": "i686",
}
_MUSL = re.compile(r"ld-musl-(\w+)\.so\.1")
NEEDS_VSYSCALL_BEFORE = (2, 14)
"""glibc read the time through the vsyscall page until then (EL6 has 2.12); without the page its programs crash."""

_LEVEL = re.compile(r"CPU does not support (x86-64-v\d)|CPU ISA level is lower than required")
_LIBRARY = re.compile(r"error while loading shared libraries: (\S+): cannot open shared object file")
_OLD_KERNEL = re.compile(r"FATAL: kernel too old")
SEGMENTATION_FAULT, ILLEGAL_INSTRUCTION = 11, 4

_NODE, _CONFIG = FailureKind.NODE_RESOURCE, FailureKind.CONFIG
_VSYSCALL_HINT = (
    "the site boots the node with vsyscall=emulate (or xonly), or the VO offers an image with glibc 2.14 or newer"
)
_LEVEL_HINT = "the VO gives the candidate requires: {cpu_level: ...} and offers another one for older processors"


def facts(told: Mapping[str, Sequence[str]], repositories: Sequence[str]) -> dict[str, Json]:
    """The facts of what the program told, by its words; none when it did not come so far. ``repositories`` are those
    that it was asked for."""
    if "facts" not in told:
        return {}
    found: dict[str, Json] = {
        "home.writable": "home" in told,
        "account.in_passwd": "account" in told,
        "kernel.vsyscall": "vsyscall" in told,
        "gpu.visible": "gpu" in told,
        "os.locales": sorted(name for name in told.get("locales", ()) if name != "locale-archive"),
    }
    if "locale-archive" in told.get("locales", ()):
        found["os.locale_archive"] = True
    for word, name in (("locale", "os.locale"), ("python3", "software.python3")):
        if told.get(word):
            found[name] = told[word][0]
    architecture = _architecture(told.get("loader", ()))
    if architecture:
        found["os.arch"] = architecture
    if repositories:
        seen = set(told.get("cvmfs", ()))
        found["cvmfs.repositories"] = [repository for repository in repositories if repository in seen]
    return found


def _architecture(loaders: Sequence[str]) -> str:
    for loader in loaders:
        match = _MUSL.fullmatch(loader)
        name = match[1] if match else _ARCHITECTURES.get(loader)
        if name:
            return name
    return ""


def unfit(found: Mapping[str, Json], output: str) -> Diagnosis | None:
    """Why jobs would die in an image in which the proof's own program ran; ``output`` is all that it said."""
    problem = _told_by_loader(output)
    if problem is not None:
        return problem
    glibc = str(found.get("os.glibc", ""))
    numbers = tuple(int(part) for part in glibc.split(".") if part.isdigit())
    if numbers and numbers < NEEDS_VSYSCALL_BEFORE and not found.get("kernel.vsyscall"):
        message = f"its glibc {glibc} needs the vsyscall page, which this node's kernel does not offer"
        return Diagnosis("image.needs_vsyscall", _NODE, "image", message, _VSYSCALL_HINT)
    return None


def crash(result: Result, *, vsyscall: bool) -> Diagnosis | None:
    """Why the first program of an image ended at once, as far as that lies with processor or kernel.

    ``vsyscall``: the node's kernel offers the page.
    """
    problem = _told_by_loader((result.stderr + result.stdout).decode("utf-8", "replace"))
    if problem is not None:
        return problem
    ended_by = result.signal or (result.code - 128 if result.code is not None and result.code > 128 else 0)
    if ended_by == ILLEGAL_INSTRUCTION:
        message = "its /bin/sh uses instructions that this processor does not have"
        return Diagnosis("image.cpu_level", _CONFIG, "image", message, _LEVEL_HINT)
    if ended_by == SEGMENTATION_FAULT and not vsyscall:
        message = "its /bin/sh crashed, and this node's kernel offers no vsyscall page, which glibc before 2.14 needs"
        return Diagnosis("image.needs_vsyscall", _NODE, "image", message, _VSYSCALL_HINT)
    if ended_by == SEGMENTATION_FAULT:
        hint = "the VO publishes the image again"
        return Diagnosis("image.crashed", _CONFIG, "image", "its /bin/sh crashed (SIGSEGV)", hint)
    return None


def kernel_has_vsyscall() -> bool:
    """Whether this node's kernel offers the vsyscall page (vsyscall(7): kernel parameter vsyscall=)."""
    try:
        with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
            return any(line.rstrip().endswith("[vsyscall]") for line in maps)
    except OSError:
        return True


def _told_by_loader(text: str) -> Diagnosis | None:
    match = _LEVEL.search(text)
    if match:
        message = match[0] if match[1] is None else f"it is built for {match[1]}, which this processor does not have"
        return Diagnosis("image.cpu_level", _CONFIG, "image", message, _LEVEL_HINT)
    if _OLD_KERNEL.search(text):
        hint = "the VO gives the candidate requires: {kernel: ...}; the site updates the kernel"
        message = "its C library says that this node's kernel is too old"
        return Diagnosis("image.needs_newer_kernel", _CONFIG, "image", message, hint)
    match = _LIBRARY.search(text)
    if match:
        message = f"its programs do not find {match[1]}, which is missing or marked as for a newer kernel"
        hint = "the VO corrects the image; `readelf -n` of the library shows the oldest kernel that it takes (ABI tag)"
        return Diagnosis("image.library", _CONFIG, "image", message, hint)
    return None
