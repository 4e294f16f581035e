"""A network of its own for the hosts of one grid: a bridge in a namespace, joined to each host by a veth pair.

Nothing is made in the outer machine's network: both ends of every pair live in namespaces without a name, so
grids can live side by side with the same addresses, and all of it is gone with the last process.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from tests.testbed.command import call
from tests.testbed.namespaces import DIE_WITH_STARTER, read_line

BRIDGE = "bridge"
PREFIX_LENGTH = 24
INSIDE_INTERFACE = "eth0"


@dataclass(frozen=True, slots=True)
class Link:
    """The cable between one host and the bridge, held at the bridge's end."""

    anchor_pid: int
    interface: str

    def down(self) -> None:
        """Cut the host off: nothing passes, and no end is told."""
        self._set("down")

    def up(self) -> None:
        """Join the host to the bridge again."""
        self._set("up")

    def _set(self, state: str) -> None:
        call([*_inside(self.anchor_pid), "ip", "link", "set", self.interface, state])


class Network:
    """The bridge. It lives until `stop`, or until the process (thread) that started it ends."""

    def __init__(self) -> None:
        self._anchor: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Make the namespace and the bridge in it."""
        script = f"ip link add {BRIDGE} type bridge && ip link set {BRIDGE} up && echo ready && exec sleep infinity"
        self._anchor = subprocess.Popen(
            [*DIE_WITH_STARTER, "unshare", "--net", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        read_line(self._anchor, "the network's bridge")

    def stop(self) -> None:
        """Remove the namespace with all in it."""
        if self._anchor is not None:
            self._anchor.kill()
            self._anchor.communicate()
            self._anchor = None

    def connect(self, name: str, pid: int) -> Link:
        """Give the network namespace of process `pid` an interface `eth0` on the bridge, still without an address."""
        interface = f"to-{name}"[:15]
        inside = _inside(self.pid)
        # A host that was just stopped may still hold its end: the kernel removes namespaces in its own time.
        self.disconnect(name)
        peer = ["peer", "name", INSIDE_INTERFACE, "netns", str(pid)]
        call([*inside, "ip", "link", "add", interface, "type", "veth", *peer])
        call([*inside, "ip", "link", "set", interface, "master", BRIDGE, "up"])
        return Link(self.pid, interface)

    def disconnect(self, name: str) -> None:
        """Remove the cable of a host, if it is still there."""
        inside = _inside(self.pid)
        subprocess.run([*inside, "ip", "link", "del", f"to-{name}"[:15]], capture_output=True)

    @property
    def pid(self) -> int:
        """The process that holds the namespace."""
        if self._anchor is None:
            raise RuntimeError("the network is not started")
        return self._anchor.pid


def _inside(pid: int) -> list[str]:
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]
