"""A service that is one for all pilots of the account on a node (``per: node``): this pilot runs it where no other
does, uses that of another pilot where one does, and takes it over when that pilot is gone."""

from __future__ import annotations

import os
import time

from pilot_agent.lifecycle.lock import keep_no_longer, keep_too
from pilot_agent.light import dumps
from pilot_agent.services import ports
from pilot_agent.services.exchange import Exchange
from pilot_agent.services.node_endpoint import HELD, TAKEN, NodeEndpoint, key_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot_agent.services.node_endpoint import Endpoint
    from pilot_agent.services.plan import ServicePlan
    from pilot_agent.services.supervisor import Supervisor
    from pilot_agent.services.unit import Unit

SOON_SECONDS = 0.5
"""How often another pilot's service is looked at until it is ready."""
LOOK_SECONDS = 2.0
"""How often it is looked at then: whether that pilot still lives, and what it says."""
FREE_SECONDS = 60.0
"""How long the ports of a pilot that is gone may still be held by what it left."""
SAME_SECONDS = 5.0
"""How long that is waited for where any port would do, so that jobs which began before find the service again."""
CONNECT_SECONDS = 5.0
LOST = ("failed", "stopped")


class NodeShare:
    """Stands between the supervisor ``around`` and one ``unit`` of it: ``start`` instead of the unit's own."""

    __slots__ = (
        "_alone",
        "_around",
        "_failures",
        "_follows",
        "_holder",
        "_place",
        "_since",
        "_tested",
        "_unit",
        "_wanted_free",
    )

    def __init__(self, unit: Unit, around: Supervisor) -> None:
        plan = unit.plan
        self._unit = unit
        self._around = around
        root = os.path.dirname(os.path.dirname(plan.directory))
        self._place = NodeEndpoint(plan.name, key_of(words_of(plan), root))
        self._alone = self._follows = False
        self._failures = self._holder = 0
        self._since = self._tested = self._wanted_free = 0.0

    def start(self) -> None:
        """The service may start now: here, or it runs elsewhere on this node."""
        if self._alone or self._place.descriptor >= 0:
            self._unit.start()
        elif not self._follows:
            self._follows = True
            self._since = time.monotonic()
            self._look()

    def adopt(self) -> None:
        """Go on after the pilot became another program."""
        standing = self._unit.standing
        if standing.lock >= 0 and self._place.adopt(standing.lock):
            return
        standing.lock = -1
        if standing.status == "shared":
            self._follows = True
            self._since = time.monotonic()
            self._look()
        elif standing.pid:  # it runs, and this pilot could tell nobody
            self._alone = True

    def told(self) -> None:
        """The unit is in another state: say so to the other pilots."""
        standing = self._unit.standing
        if standing.status in LOST:
            self.release()
            return
        if self._place.descriptor < 0:
            return
        try:
            self._place.publish(standing.status, standing.ports)
        except OSError as error:
            self._tell_alone(str(error))

    def release(self) -> None:
        """The service is over here: another pilot may run it."""
        self._follows = False
        held = self._place.descriptor >= 0 or self._place.adopt(self._unit.standing.lock)
        if held:
            keep_no_longer(self._place.descriptor)
            self._unit.standing.lock = -1
            self._place.release()

    # As long as another pilot runs it

    def _look(self) -> None:
        if not self._follows or self._around.over:
            return
        taken = self._place.take()
        if taken == TAKEN:
            self._look_at_other()
        elif lacking := self._around.lacks(self._unit.plan):
            self._place.release()  # a pilot that has what it needs may run it
            self._wait_for(lacking)
        elif taken == HELD and self._still_held():
            self._around.loop.call_later(SOON_SECONDS, self._look)
        else:
            self._follows = False
            self._begin_here(held=taken == HELD)

    def _wait_for(self, lacking: str) -> None:
        """What it needs was there when the pilot began, and is not now."""
        if self._unit.standing.status == "shared":
            self._lose(f"the pilot that ran it is gone, and {lacking}")
        elif self._unit.standing.message != lacking:
            self._unit.wait(lacking)
        self._again()

    def _still_held(self) -> bool:
        """Whether what the last holder left still has one of the ports that are given, or that jobs were told."""
        given = [number for number in self._unit.plan.ports.values() if number]
        now = time.monotonic()
        self._wanted_free = self._wanted_free or now + (FREE_SECONDS if given else SAME_SECONDS)
        wanted = given or self._unit.standing.ports.values()
        return now < self._wanted_free and any(ports.listeners(number) for number in wanted)

    def _begin_here(self, *, held: bool) -> None:
        standing = self._unit.standing
        self._wanted_free = 0.0
        if held:
            standing.lock = self._place.descriptor
            keep_too(standing.lock)
            try:
                self._place.publish("starting", {})
            except OSError as error:
                self.release()
                self._place.problem = str(error)
                held = False
        if not held:
            self._alone = True
            self._tell_alone(self._place.problem)
        elif standing.status == "shared":
            self._around.tell("taken_over", self._unit)
        if not held:  # those are another pilot's
            standing.ports = {}
        self._unit.start()

    def _tell_alone(self, why: str) -> None:
        self._around.tell("not_shared", self._unit, message=f"other pilots cannot know of it: {why}")

    def _look_at_other(self) -> None:
        plan, standing, now = self._unit.plan, self._unit.standing, time.monotonic()
        found = self._place.read(plan.ports)
        shared = standing.status == "shared"
        if found is None or found.status != "ready":
            if shared:
                self._lose("the pilot that runs it says that it is not ready")
            elif now - self._since > 2 * plan.ready_seconds:
                self._follows = False
                self._place.problem = f"the pilot that runs it did not make it ready within {now - self._since:.0f} s"
                self._begin_here(held=False)
                return
        elif not shared or self._is_new(found) or now - self._tested >= plan.live_period_seconds:
            self._test(found)
            return
        self._again()

    def _again(self) -> None:
        seconds = LOOK_SECONDS if self._unit.standing.status == "shared" else SOON_SECONDS
        self._around.loop.call_later(seconds, self._look)

    def _test(self, found: Endpoint) -> None:
        """Ask it as its own pilot does, in the ways that are the same from here."""
        plan, standing = self._unit.plan, self._unit.standing
        self._tested = time.monotonic()
        asked = [(way, of) for way, of in ((plan.live_way, plan.live_of), (plan.ready_way, plan.ready_of))
                 if way in ("port", "http")]  # fmt: skip
        if not asked:
            self._answered(found, "")
            return
        way, of = asked[0]
        port, _, path = of.partition("/") if way == "http" else (of, "", "")
        number = found.ports.get(port) or plan.number(port)
        seconds = plan.live_timeout_seconds if standing.status == "shared" else CONNECT_SECONDS
        Exchange(self._around.loop, number, path if way == "http" else None, seconds,
                 lambda problem, _: self._answered(found, problem or _foreign(number)))  # fmt: skip

    def _answered(self, found: Endpoint, problem: str) -> None:
        if not self._follows or self._around.over:
            return
        standing = self._unit.standing
        shared = standing.status == "shared"
        self._failures = self._failures + 1 if problem else 0
        if problem and shared and (self._is_new(found) or self._failures >= self._unit.plan.live_failures):
            self._lose(problem)
        elif not problem and (not shared or self._is_new(found)):
            standing.ports = dict(found.ports)
            self._unit.share(f"run by another pilot of this account (process {found.pid})")
            self._around.tell("shared", self._unit, pid=found.pid, ports=dict(found.ports))
        if not problem:
            self._holder = found.pid
        self._again()

    def _is_new(self, found: Endpoint) -> bool:
        """Whether another pilot runs it by now, or at other ports."""
        return self._holder not in (0, found.pid) or found.ports != self._unit.standing.ports

    def _lose(self, message: str) -> None:
        self._since = time.monotonic()
        self._failures = 0
        self._unit.wait(message)
        self._around.tell("unhealthy", self._unit, message=message)


def words_of(plan: ServicePlan) -> list[str]:
    """All by which two services of one name may differ so much that pilots must not share them."""
    environment = (f"{name}={value}" for name, value in sorted(plan.environment.items()))
    return [*plan.argv, *environment, plan.image, dumps(plan.ports), plan.ready_way, plan.ready_of]


def _foreign(port: int) -> str:
    """Why what listens on ``port`` is not the service; empty when it is of this account, or nobody tells."""
    users = {user for _, user in ports.listeners(port, on_loopback=True)} - {os.geteuid()}
    return f"port {port} is held by another program of user {', '.join(map(str, sorted(users)))}" if users else ""
