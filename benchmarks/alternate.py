"""A stopwatch for short commands that runs inside a host: standard library only, one JSON document in and one out.

In: {"rounds", "warmup", "commands": [{"argv", "environment"}]}. Out: {"seconds", "processes"}, one list for each
command with one value for each round. The commands alternate; every second round runs them in the other order.
"""

from __future__ import annotations

import json
import os
import sys
import time


def processes_made() -> int:
    """The number last given to a process in this PID namespace: nobody else's processes are among them."""
    with open("/proc/sys/kernel/ns_last_pid", encoding="ascii") as file:
        return int(file.read())


def run_once(argv: list[str], environment: dict[str, str]) -> tuple[float, int]:
    """Seconds from exec to the end, and how many processes and threads it took. Raises RuntimeError if it fails."""
    actions = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    before = processes_made()
    began = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, environment, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - began
    if status != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with status {os.waitstatus_to_exitcode(status)}")
    return seconds, processes_made() - before


def main() -> None:
    """Read the plan, run it, print the values."""
    plan = json.load(sys.stdin)
    commands = plan["commands"]
    seconds: list[list[float]] = [[] for _ in commands]
    processes: list[list[int]] = [[] for _ in commands]
    for turn in range(-plan["warmup"], plan["rounds"]):
        order = range(len(commands)) if turn % 2 == 0 else reversed(range(len(commands)))
        for index in order:
            command = commands[index]
            took, made = run_once(command["argv"], {**os.environ, **command["environment"]})
            if turn >= 0:
                seconds[index].append(took)
                processes[index].append(made)
    json.dump({"seconds": seconds, "processes": processes}, sys.stdout)


if __name__ == "__main__":
    main()
