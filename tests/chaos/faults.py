"""The table of the suite: what is broken, at which stages, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.chaos import strikes
from tests.chaos.arena import Arena
from tests.chaos.gates import EARLY, LATE, STAGES

TERM, KILL, QUIT = 143, -9, 131
NODE, NETWORK, INTERNAL = 64, 65, 70
After = Literal["ends", "told", "endures"]
IN_USE = ("running", "teardown")
WITH_DAEMONS = ("idle", "running", "teardown")


def nothing(arena: Arena) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to break a pilot.

    `early`, `late` and `teardown` are the exit codes that design section 6 allows when it is struck in such a stage
    (-9: the guardian itself was killed). `after` says what the pilot does then: it ends by itself, is told to end by
    SIGTERM, or goes on (`until` what the suite waits for) until it is told. With `ends_early` it ends by itself when
    struck before the hand-off. `no_report` says why there may be none. With `sweep` the next pilot of the node may
    clean up; what the pilot could not undo must be `listed` in its report. `shared` faults break the pool, so no other
    point runs meanwhile.
    """

    name: str
    stages: tuple[str, ...]
    strike: Callable[[Arena], None]
    what: str
    arrange: Callable[[Arena], None] = nothing
    heal: Callable[[Arena], None] = nothing
    until: Callable[[Arena], None] = strikes.job_ends
    early: tuple[int, ...] = (TERM,)
    late: tuple[int, ...] = (TERM,)
    teardown: tuple[int, ...] = (TERM,)
    after: After = "ends"
    ends_early: bool = False
    no_report: str = ""
    sweep: bool = False
    listed: bool = False
    shared: bool = False
    payloads: tuple[str, ...] = ("pyz", "sh")

    def exits(self, stage: str) -> tuple[int, ...]:
        """The exit codes that are right when it is struck in this stage."""
        return self.teardown if stage == "teardown" else self.late if stage in LATE else self.early

    def afterwards(self, stage: str) -> After:
        """What the pilot does after the strike in this stage."""
        if stage == "teardown" or (self.ends_early and stage in EARLY):
            return "ends"
        return self.after


def _signals() -> list[Fault]:
    after: After
    found = [
        Fault(name="term-guardian", stages=STAGES, strike=strikes.term("guardian"), what="SIGTERM to the guardian"),
        Fault(name="kill-guardian", stages=STAGES, strike=strikes.kill("guardian"), what="SIGKILL to the guardian",
              early=(KILL,), late=(KILL,), teardown=(KILL,), sweep=True),
        Fault(name="term-pipeline", stages=EARLY, strike=strikes.term("pipeline"), what="SIGTERM to the pipeline"),
        Fault(name="kill-pipeline", stages=EARLY, strike=strikes.kill("pipeline"), what="SIGKILL to the pipeline",
              early=(INTERNAL,)),
        Fault(name="term-keeper", stages=LATE, strike=strikes.term("keeper"), what="SIGTERM to the keeper"),
        Fault(name="kill-keeper", stages=LATE, strike=strikes.kill("keeper"), what="SIGKILL to the keeper",
              late=(INTERNAL,)),
        Fault(name="term-master", stages=WITH_DAEMONS, strike=strikes.term("master"), what="SIGTERM to condor_master",
              late=(TERM,)),
        Fault(name="kill-master", stages=WITH_DAEMONS, strike=strikes.kill("master"), what="SIGKILL to condor_master",
              late=(INTERNAL,)),
    ]  # fmt: skip
    for daemon, stages in (("startd", WITH_DAEMONS), ("starter", IN_USE)):
        for word, strike in (("term", strikes.term), ("kill", strikes.kill)):
            what = f"SIG{word.upper()} to condor_{daemon}"
            # A pilot without its startd is none: the master ends, and then the pilot does. A starter has but one job.
            late, after = ((INTERNAL,), "ends") if daemon == "startd" else ((TERM,), "endures")
            name = f"{word}-{daemon}"
            found.append(Fault(name=name, stages=stages, strike=strike(daemon), what=what, late=late, after=after))
    return found


ALL_KILLED = "every process of the pilot was killed at once, so nobody could write one"
CUT_SHORT = "every process of the pilot was killed 2 s after SIGTERM, which may be before the report"

SIGNALS = _signals()
GROUPS = [
    Fault(name="term-all", stages=STAGES, strike=strikes.term_all, what="SIGTERM to all processes at once"),
    Fault(name="term-then-kill", stages=STAGES, strike=strikes.term_then_kill,
          what="SIGTERM to all, SIGKILL to all after 2 s", early=(TERM, KILL), late=(TERM, KILL),
          teardown=(TERM, KILL), no_report=CUT_SHORT, sweep=True),
    Fault(name="quit-group", stages=STAGES, strike=strikes.quit_group, what="SIGQUIT to the process group",
          early=(QUIT,), late=(QUIT,), teardown=(TERM, QUIT)),
    Fault(name="kill-all", stages=STAGES, strike=strikes.kill_all, what="SIGKILL to all processes at once",
          early=(KILL,), late=(KILL,), teardown=(KILL,), no_report=ALL_KILLED, sweep=True),
    Fault(name="cgroup-kill", stages=STAGES, strike=strikes.cgroup_kill, what="the pilot's cgroup killed",
          early=(KILL,), late=(KILL,), teardown=(KILL,), no_report=ALL_KILLED, sweep=True),
    Fault(name="start-deleted", stages=STAGES, strike=strikes.delete_start_directory, after="told",
          what="the start directory deleted, then SIGTERM", early=(TERM, NODE),
          no_report="the directory that the report goes to was deleted"),
]  # fmt: skip
ON_DISK = ("configure", "probe", "setup_early", "validate", "setup_late", "service", "benchmark", "idle", "running",
           "teardown")  # fmt: skip
DISK = [
    Fault(name="no-space", stages=ON_DISK, strike=strikes.no_space, arrange=strikes.faulty_workspace,
          what="ENOSPC below the workspace", early=(NODE,), late=(TERM, NODE), after="endures", ends_early=True,
          until=strikes.disk_noticed),
    Fault(name="io-error", stages=ON_DISK, strike=strikes.io_error, arrange=strikes.faulty_workspace,
          what="EIO below the workspace", early=(NODE,), late=(TERM, NODE), after="endures", ends_early=True,
          until=strikes.disk_noticed),
    Fault(name="read-only", stages=ON_DISK, strike=strikes.read_only, arrange=strikes.faulty_workspace,
          what="the workspace read-only", early=(NODE,), late=(TERM, NODE), after="endures", ends_early=True,
          sweep=True, listed=True, until=strikes.disk_noticed, heal=strikes.writable_again),
]  # fmt: skip
POOL = [
    Fault(name="collector-down", stages=("setup_late", "running", "teardown"), strike=strikes.stop_collector,
          heal=strikes.start_collector, what="the collector down", early=(NETWORK,), after="endures", ends_early=True,
          shared=True),
    Fault(name="collector-restart", stages=("running",), strike=strikes.restart_collector,
          what="the collector restarted", after="endures", shared=True),
    Fault(name="link-down", stages=("setup_late", "running", "teardown"), strike=strikes.cut_link,
          heal=strikes.join_link, what="the node cut off", early=(NETWORK,), after="endures", ends_early=True),
    Fault(name="dns-dead", stages=("configure", "service", "running"), strike=strikes.kill_dns,
          what="no name server answers", after="endures"),
]  # fmt: skip
FACTORY = [
    Fault(name=f"factory-{mode}", stages=("probe", "validate", "benchmark", "running"),
          strike=strikes.break_factory(mode), arrange=strikes.uploads_to_factory, what=f"the factory {word}",
          after="endures", until=strikes.upload_fails)
    for mode, word in (("down", "down"), ("slow", "slow"), ("silent", "stalling"))
]  # fmt: skip
NODE_FAULTS = [
    Fault(name="clock-forward", stages=("probe", "service", "idle", "running"), strike=strikes.move_clock(7200),
          arrange=strikes.own_clock, what="the clock 2 h forward", after="endures", payloads=("pyz",)),
    Fault(name="clock-back", stages=("probe", "service", "idle", "running"), strike=strikes.move_clock(-7200),
          arrange=strikes.own_clock, what="the clock 2 h back", after="endures", payloads=("pyz",)),
    Fault(name="stuck-child", stages=("probe", "service"), strike=strikes.wait_until_stuck, after="told",
          arrange=strikes.silent_file, heal=strikes.let_read, listed=True, what="a child in an uninterruptible read"),
    Fault(name="rapid-jobs", stages=("running",), strike=strikes.kill_among_rapid_jobs, arrange=strikes.many_jobs,
          what="300 rapid job ends, SIGKILL to the keeper between", late=(INTERNAL,)),
    Fault(name="fork-bomb", stages=("running",), strike=strikes.wait_for_bomb, arrange=strikes.forking_job,
          after="told", what="a fork bomb under a limit of processes"),
]  # fmt: skip

FAULTS: dict[str, Fault] = {fault.name: fault for fault in (*SIGNALS, *GROUPS, *DISK, *POOL, *FACTORY, *NODE_FAULTS)}
