"""What a program tells from inside a container that was started to see what its runtime can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilot_agent.containers.runtime import Mode, mode_of
from pilot_agent.model import Ability

# Run by the node's own shell in the node's own programs: $1 is the mark, $2 a directory that the image lacks. What it
# prints is read by ``Answers``. Shell builtins only but for unshare, which is started once where everything works.
SCRIPT = r"""
m=$1
echo "$m pid $$ $PPID"
while read -r a; do echo "$m uid_map $a"; break; done < /proc/self/uid_map
while read -r a b c d e f; do case $e in /) r=$f;; esac; done < /proc/self/mountinfo
echo "$m root $r"
if [ -d "$2" ]; then echo "$m bound"; fi
for f in /.singularity.d/libs/*; do if [ -e "$f" ]; then echo "$m library ${f##*/}"; fi; done
for f in /dev/nvidiactl /dev/kfd; do if [ -c "$f" ]; then echo "$m device $f"; fi; done
if command -v unshare > /dev/null; then
n=$(unshare --user --map-root-user --mount --pid --fork --mount-proc mount -t tmpfs none /tmp 2>&1) && n=yes
echo "$m nested_pid $n"
if [ "$n" != yes ]; then
n=$(unshare --user --map-root-user --mount mount -t tmpfs none /tmp 2>&1) && n=yes
fi
echo "$m nested $n"
else echo "$m no_unshare"; fi
echo "$m end"
"""

_GPUS = {
    "nv": ("nvidia", ("libcuda.so", "libnvidia-ml.so"), "/dev/nvidiactl"),
    "rocm": ("amd", ("libamdhip64.so", "libhsa-runtime64.so", "librocm_smi64.so", "libamd_smi.so"), "/dev/kfd"),
}
"""The runtime's options: vendor of the GPUs, libraries that they bring, and the device that tells of one."""


def gpu_options(vendors: frozenset[str]) -> tuple[str, ...]:
    """The names of the options for the node's GPUs."""
    return tuple(option for option, (vendor, _, _) in _GPUS.items() if vendor in vendors)


@dataclass(frozen=True, slots=True)
class Answers:
    """The script's lines by their first word, and what the runtime said beside them."""

    said: Mapping[str, Sequence[str]]
    errors: str

    @classmethod
    def of(cls, mark: str, output: bytes, errors: bytes) -> Answers | None:
        """What was told under ``mark``; None when the script did not come to its end."""
        lines = output.decode("utf-8", "replace").splitlines()
        told = [line.removeprefix(mark).strip() for line in lines if line.startswith(mark)]
        if not told or told[-1] != "end":
            return None
        said: dict[str, list[str]] = {}
        for line in told:
            what, _, value = line.partition(" ")
            said.setdefault(what, []).append(value)
        return cls(said, errors.decode("utf-8", "replace"))

    def mode(self) -> Mode:
        """How the container came to be."""
        return mode_of(self._text("uid_map"))

    @property
    def own_processes(self) -> bool:
        """Whether the program was in a PID namespace of its own."""
        return "1" in self._text("pid").split()

    def bind_anywhere(self) -> Ability:
        """Whether a bind to a directory that the image lacks was made."""
        if "bound" not in self.said:
            return Ability(False, "the bind was left out without a word")
        return Ability(True, f"{_layer(self._text('root'))} made a missing directory")

    def nested(self) -> Ability:
        """Whether an unprivileged runtime could work inside."""
        if "no_unshare" in self.said:
            return Ability(None, "not tried: the node has no unshare program")
        answer, with_pid = self._text("nested").strip(), self._text("nested_pid").strip()
        if with_pid == "yes":
            return Ability(True, "unshare --user --mount --pid and mounts worked inside")
        if answer == "yes":
            return Ability(True, f"unshare --user --mount worked inside, but no PID namespace: {with_pid[:200]}")
        return Ability(False, f"unshare --user --mount and a mount inside: {answer[:200] or 'it said nothing'}")

    def gpu(self, option: str, vendors: frozenset[str]) -> Ability:
        """Whether ``option`` brought the libraries and devices of its vendor's GPUs in."""
        vendor, names, device = _GPUS[option]
        if vendor not in vendors:
            return Ability(None, "no GPU of that vendor on this node")
        libraries = [name for name in self.said.get("library", ()) if name.startswith(names)]
        there = device in self.said.get("device", ())
        if libraries and there:
            return Ability(True, f"--{option} brought {libraries[0]} and {device}")
        lacking = " and ".join([*(() if libraries else (names[0],)), *(() if there else (device,))])
        why = next((line for line in self.errors.splitlines() if "lib" in line.lower()), "")
        return Ability(False, f"--{option} did not bring {lacking}" + (f": {why[:200]}" if why else ""))

    def _text(self, word: str) -> str:
        return " ".join(self.said.get(word, ()))


def _layer(root: str) -> str:
    """What the container's root file system is made with, from what follows "/" in its mountinfo (proc(5)): options,
    a hyphen, type, source."""
    _, _, after = root.partition(" - ")
    kind = after.partition(" ")[0]
    if kind == "overlay":
        return "the kernel's overlay"
    return "fuse-overlayfs" if kind.startswith("fuse") else "underlay"
