"""Lets clients ask two servers in turn, all clients at once: runs inside a host with the standard library only.

In: {"clients", "rounds", "warmup", "seconds", "servers": {NAME: "HOST:PORT"}}. Out: the port at which clients are
waited for, on a line of its own, then {NAME: [answers per second of all clients together, one for each round]}. The
servers alternate; every second round takes them in the other order.
"""

from __future__ import annotations

import json
import socket
import sys
from contextlib import ExitStack
from typing import Any

CLIENTS_SECONDS = 150.0
"""How long all clients may take to come."""
MORE_SECONDS = 30.0
"""How much longer than it was told a client may take."""


def together(clients: list[Any], server: str, seconds: float) -> float:
    """Answers per second of all clients, which begin at once. Raises RuntimeError for a client that failed."""
    order = json.dumps({"server": server, "seconds": seconds}) + "\n"
    for client in clients:
        client.write(order)
        client.flush()
    rate = 0.0
    for client in clients:
        line = client.readline()
        said: dict[str, Any] = json.loads(line) if line else {"problem": "it hung up"}
        if "problem" in said:
            raise RuntimeError(f"a client that asked {server}: {said['problem']}")
        rate += said["answers"] / said["seconds"]
    return rate


def measure(clients: list[Any], plan: dict[str, Any]) -> dict[str, list[float]]:
    """All rounds."""
    rates: dict[str, list[float]] = {name: [] for name in plan["servers"]}
    for turn in range(-plan["warmup"], plan["rounds"]):
        names = list(plan["servers"])
        for name in names if turn % 2 == 0 else reversed(names):
            rate = together(clients, plan["servers"][name], plan["seconds"])
            if turn >= 0:
                rates[name].append(rate)
    return rates


def main() -> None:
    """Read the plan, wait for the clients, run it, print the rates."""
    plan = json.loads(sys.stdin.readline())
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as door:
        print(door.getsockname()[1], flush=True)
        door.settimeout(CLIENTS_SECONDS)
        clients = []
        for _ in range(plan["clients"]):
            connection = stack.enter_context(door.accept()[0])
            connection.settimeout(plan["seconds"] + MORE_SECONDS)
            clients.append(stack.enter_context(connection.makefile("rw")))
        print(json.dumps(measure(clients, plan)), flush=True)


if __name__ == "__main__":
    main()
