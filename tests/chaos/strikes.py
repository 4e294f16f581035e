"""How each fault is arranged, struck and healed."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.chaos import gates, ledger, programs
from tests.chaos.arena import POLL_SECONDS, Arena
from tests.chaos.ground import CONTROL_DIRECTORY
from tests.testbed.pilots import PilotError, merged
from tests.testbed.trees import PILOT

Strike = Callable[[Arena], None]
GRACE_SECONDS = 2.0
"""What a batch system that is in a hurry leaves between SIGTERM and SIGKILL."""
FACTORY_PORT = 8077
TAKEN = f"{CONTROL_DIRECTORY}/factory-taken"
NOBODY = "10.77.0.250"
"""An address of the grid's network that no host has."""
RAPID_JOBS = 300
STRUCK_AFTER_JOBS = 20
BOMB_PROCESSES = 120


def term(role: str) -> Strike:
    """SIGTERM to one process."""
    return lambda arena: arena.strike(role, signal.SIGTERM)


def kill(role: str) -> Strike:
    """SIGKILL to one process."""
    return lambda arena: arena.strike(role, signal.SIGKILL)


def term_all(arena: Arena) -> None:
    """SIGTERM to all processes of the account at once."""
    arena.strike_all(signal.SIGTERM)


def kill_all(arena: Arena) -> None:
    """SIGKILL to all, again until none is left, as a batch system does."""
    until = time.monotonic() + 60
    arena.strike_all(signal.SIGKILL)
    while arena.pilot.processes() and time.monotonic() < until:
        arena.strike_all(signal.SIGKILL)


def term_then_kill(arena: Arena) -> None:
    """SIGTERM to all, then SIGKILL to whoever is left after 2 s, which is the fault itself."""
    began = time.monotonic()
    arena.strike_all(signal.SIGTERM)
    while arena.pilot.processes() and time.monotonic() - began < GRACE_SECONDS:
        time.sleep(POLL_SECONDS)
    arena.notes["ended_in_time"] = not arena.pilot.processes()
    kill_all(arena)


def quit_group(arena: Arena) -> None:
    """SIGQUIT to the guardian's process group."""
    guardian = arena.need("the guardian", lambda: arena.find("guardian"))
    group = os.getpgid(guardian)
    # The door through which the suite entered the node has the same group, and is no part of the pilot.
    for pid in arena.tree():
        with suppress(ProcessLookupError):
            if os.getpgid(pid) == group:
                os.kill(pid, signal.SIGQUIT)


def cgroup_root() -> Path | None:
    """Where a cgroup that can be killed may be made; None where the kernel or the machine has no such place."""
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, *_ = line.split(" ")
        trial = Path(where) / f"chaos-trial-{os.getpid()}"
        if kind == "cgroup2":
            with suppress(OSError):
                trial.mkdir()
                usable = (trial / "cgroup.kill").exists()
                trial.rmdir()
                if usable:
                    return Path(where)
    return None


def cgroup_kill(arena: Arena) -> None:
    """Put all of the pilot into one cgroup and kill that: all die in one step of the kernel."""
    root = cgroup_root()
    if root is None:
        raise PilotError("no cgroup can be made here")
    group = root / f"chaos-{os.getpid()}-{arena.pilot.name}"
    group.mkdir()
    arena.undo.callback(group.rmdir)
    moved: set[int] = set()
    while fresh := [pid for pid in arena.tree() if pid not in moved]:
        for pid in fresh:
            moved.add(pid)
            with suppress(OSError):
                (group / "cgroup.procs").write_text(str(pid), encoding="ascii")
    (group / "cgroup.kill").write_text("1", encoding="ascii")
    arena.notes["killed_processes"] = len(moved)
    until = time.monotonic() + 60
    while (group / "cgroup.procs").read_text(encoding="ascii") and time.monotonic() < until:
        time.sleep(POLL_SECONDS)


def delete_start_directory(arena: Arena) -> None:
    """Delete everything below the start directory, and the directory."""
    until = time.monotonic() + 60
    while arena.pilot.outer.exists() and time.monotonic() < until:
        shutil.rmtree(arena.pilot.outer, ignore_errors=True)


def faulty_workspace(arena: Arena) -> None:
    """The workspace lies on a file system that can fail."""
    arena.put_under_workspace()


def no_space(arena: Arena) -> None:
    """Nothing new can be written."""
    arena.misbehave(programs.NO_SPACE)


def io_error(arena: Arena) -> None:
    """No file's content can be read or written; names can still be removed."""
    arena.misbehave(programs.IO_ERROR)


def read_only(arena: Arena) -> None:
    """Every change is refused with EROFS, as after an error that made the kernel remount a disk read-only."""
    arena.misbehave(programs.READ_ONLY)


def job_ends(arena: Arena) -> None:
    """What a pilot that goes on is for: its job begins, is told to end, and ends or goes back to the queue."""
    arena.queue_job()
    job = arena.job
    if job is not None:
        arena.wait("the job's start", lambda: arena.job_file(ledger.READY) or job.stirred())
        arena.finish_job()
        arena.notes["job_stirred"] = bool(arena.see(job.stirred))


def disk_noticed(arena: Arena) -> None:
    """Something of the pilot asked for what is refused, and a job had its chance to end."""
    arena.see(lambda: arena.refused() > 0)
    job = arena.job
    if job is not None:
        arena.finish_job()
        arena.notes["job_stirred"] = bool(arena.see(job.stirred))


def writable_again(arena: Arena) -> None:
    """The disk was repaired."""
    arena.misbehave(programs.PASS)


def stop_collector(arena: Arena) -> None:
    """The collector dies and its master, which is stopped, cannot start it again."""
    arena.ground.signal_pool("condor_master", signal.SIGSTOP)
    arena.ground.signal_pool("condor_collector", signal.SIGKILL)
    arena.undo.callback(arena.ground.wake_pool)


def start_collector(arena: Arena) -> None:
    """Wake the pool's master, and wait until the collector answers."""
    arena.ground.wake_pool()
    _wait_for_collector(arena)


def restart_collector(arena: Arena) -> None:
    """The collector dies and comes back empty."""
    arena.ground.signal_pool("condor_collector", signal.SIGKILL)
    _wait_for_collector(arena)


def _wait_for_collector(arena: Arena) -> None:
    until = time.monotonic() + 90
    while not arena.ground.pool.run(["condor_status", "-schedd", "-af", "Name"]).stdout:
        if time.monotonic() > until:
            raise PilotError("the pool's collector did not come back")


def cut_link(arena: Arena) -> None:
    """Nothing passes between the node and the pool, and no end is told."""
    arena.node.link.down()
    arena.undo.callback(arena.node.link.up)


def join_link(arena: Arena) -> None:
    """The cable is back."""
    arena.node.link.up()


def kill_dns(arena: Arena) -> None:
    """Names are asked of a server that does not answer."""
    _write(arena, "/etc/resolv.conf", f"nameserver {NOBODY}\noptions timeout:1 attempts:1\n")
    _write(arena, "/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: dns\n")


def _write(arena: Arena, inside: str, text: str) -> None:
    path = arena.node.path(inside)
    old = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")
    arena.undo.callback(path.write_bytes, old)


def uploads_to_factory(arena: Arena) -> None:
    """The pilot uploads its events and its report to a factory, which takes them until it is broken."""
    arena.changes = merged(
        arena.changes,
        {"upload": {"url": f"http://127.0.0.1:{FACTORY_PORT}/pilots/{arena.node.plan.name}", "period_seconds": 1}},
    )
    mode = arena.node.path(f"{CONTROL_DIRECTORY}/factory-mode")
    mode.write_text("well", encoding="ascii")
    arena.node.path(TAKEN).write_bytes(b"")
    source = Path(programs.HERE / "factory.py").read_text(encoding="utf-8")
    words = ["python3", "-c", source, str(FACTORY_PORT), f"{CONTROL_DIRECTORY}/factory-mode", TAKEN]
    with (arena.node.directory / "factory.log").open("w") as log:
        door = arena.node.popen(words, stdout=log, stderr=log)
    arena.undo.callback(door.wait)
    arena.undo.callback(door.kill)
    listening = f":{FACTORY_PORT:04X} "
    until = time.monotonic() + 60
    while listening not in Path(f"/proc/{arena.node.pid}/net/tcp").read_text(encoding="ascii"):
        if door.poll() is not None or time.monotonic() > until:
            raise PilotError("the factory's server did not come up")
        time.sleep(POLL_SECONDS)


def break_factory(mode: str) -> Strike:
    """The factory refuses connections, answers a byte now and then, or takes a request and never answers."""

    def strike(arena: Arena) -> None:
        if arena.stage != "probe":  # the first upload follows the first stage
            arena.need("an upload", lambda: _uploads(arena) > 0)
        arena.node.path(f"{CONTROL_DIRECTORY}/factory-mode").write_text(mode, encoding="ascii")
        arena.notes["uploads_before"] = _uploads(arena)
        if mode == "down":
            arena.wait("the factory's end", lambda: not _listens(arena))

    return strike


def upload_fails(arena: Arena) -> None:
    """The keeper met the broken factory and told of it, and a job had its chance to end meanwhile."""
    job_ends(arena)
    arena.pilot.signal(signal.SIGUSR2)  # an event, for there may be nothing else to upload
    arena.need("a failed upload", lambda: arena.happened("upload.failed"))
    arena.notes["uploads"] = _uploads(arena)
    arena.notes["told"] = [one["message"] for one in arena.pilot.events() if one["event"] == "upload.failed"]


def _uploads(arena: Arena) -> int:
    """How many uploads the factory took."""
    return len(arena.node.path(TAKEN).read_bytes().splitlines())


def _listens(arena: Arena) -> bool:
    lines = Path(f"/proc/{arena.node.pid}/net/tcp").read_text(encoding="ascii").splitlines()
    return any(f":{FACTORY_PORT:04X} " in line and " 0A " in line for line in lines)


def own_clock(arena: Arena) -> None:
    """The node's programs have a wall clock that can be moved."""
    path = arena.node.path(f"{CONTROL_DIRECTORY}/clock")
    path.write_bytes(struct.pack("<q", 0))
    path.chmod(0o644)
    preload = arena.node.path("/etc/ld.so.preload")
    preload.write_text(f"{CONTROL_DIRECTORY}/shifted_clock\n", encoding="ascii")
    arena.undo.callback(preload.unlink)


def move_clock(seconds: int) -> Strike:
    """Move the wall clock of every program of the node outside containers: the kernel's own belongs to the machine."""

    def strike(arena: Arena) -> None:
        with arena.node.path(f"{CONTROL_DIRECTORY}/clock").open("r+b") as file:
            file.write(struct.pack("<q", seconds))

    return strike


def silent_file(arena: Arena) -> None:
    """A file system beside the workspace does not answer, and a child of the pilot reads from it."""
    mount, behind = arena.mount("silent")
    (behind / "file").write_text("silence", encoding="ascii")
    arena.misbehave(programs.SILENT)
    del arena.plugins["gate"]
    body = gates.STUCK_PROBE if arena.stage == "probe" else gates.STUCK_SERVICE
    source = gates.plugin(body).replace("@SILENT@", mount).replace("@SECONDS@", "400")
    arena.plugins["stuck"] = source


def wait_until_stuck(arena: Arena) -> None:
    """Go on once the child waits for an answer that does not come."""
    arena.need("the stuck read", lambda: arena.refused() > 0)


def let_read(arena: Arena) -> None:
    """The file system answers again."""
    arena.misbehave(programs.PASS)


def many_jobs(arena: Arena) -> None:
    """Many jobs that end at once, without an image, so that the ends follow each other fast."""
    arena.script, arena.job_count = ledger.RAPID_JOB, RAPID_JOBS
    arena.changes = merged(
        arena.changes,
        {"site": {"containers": "never"}, "vo": {"containers": "never"}, "requirements": []},
    )


def kill_among_rapid_jobs(arena: Arena) -> None:
    """SIGKILL to the keeper while jobs end; the pool runs the others elsewhere."""
    job = arena.job
    arena.need("the first job ends", lambda: job is not None and job.events(ledger.TERMINATED) >= STRUCK_AFTER_JOBS)
    arena.strike("keeper", signal.SIGKILL)


def forking_job(arena: Arena) -> None:
    """The job makes processes as fast as it can, up to a limit."""
    arena.script = ledger.FORKING_JOB.replace("@LIMIT@", str(BOMB_PROCESSES))


def wait_for_bomb(arena: Arena) -> None:
    """Go on once the bomb has burst."""
    arena.need("the fork bomb", lambda: arena.job_file("bombing"))
    arena.need("many processes", lambda: len(arena.pilot.processes()) > BOMB_PROCESSES // 2)
    arena.notes["processes"] = sum(process.uid == PILOT.uid for process in arena.pilot.processes())
