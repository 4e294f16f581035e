"""What the supervisor is told of a service, and what it knows of it: both go from the pipeline to the keeper."""

from __future__ import annotations

from pilot_agent.lifecycle.record import PlanError, Record, take

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HOST = "127.0.0.1"
MARKER_VARIABLE = "PILOT_AGENT_SERVICE"
"""In the environment of every process of a service: random, and the same for all that one service starts."""
MARKER_PLACE = "{marker}"
RUNNING = ("starting", "ready", "unhealthy")
"""The states in which a service has a process."""
LAST_ENDS = 5

_STANDING: dict[str, Any] = {
    "status": "waiting", "message": "", "marker": "", "pid": 0, "start_ticks": 0, "entry": 0, "was_ready": False,
    "ports": None, "started": 0.0, "ready_since": 0.0, "ready_after_seconds": None, "ready_seconds": 0.0, "starts": 0,
    "restarts": 0, "restarted": None, "ends": None, "metrics": None, "lock": -1, "cause": "", "log_from": 0,
    "memory_limit": "", "memory_group": "", "memory_kills": 0,
}  # fmt: skip


class Standing(Record):
    """How a service stands. ``pid`` is 0 while it does not run, ``start_ticks`` says which process that is, ``entry``
    is its number in the journal. ``started``, ``ready_since`` and ``restarted`` (when it was started again) are moments
    of the monotonic clock, which is the same for pipeline and keeper. ``lock`` is the descriptor of the lock under
    which it runs for all pilots of the node, -1 without one. ``cause`` says why it failed (``services.causes``), where
    that is known, ``log_from`` the size that its log had when it was started. ``memory_limit`` says how its
    memory is bounded (empty: not), ``memory_group`` the control group that does it, with ``memory_kills`` before this
    start."""

    __slots__ = tuple(_STANDING)
    status: str
    message: str
    marker: str
    pid: int
    start_ticks: int
    entry: int
    was_ready: bool
    ports: dict[str, int]
    started: float
    ready_since: float
    ready_after_seconds: float | None
    ready_seconds: float
    starts: int
    restarts: int
    restarted: list[float]
    ends: list[str]
    metrics: dict[str, float]
    lock: int
    cause: str
    log_from: int
    memory_limit: str
    memory_group: str
    memory_kills: int

    def __init__(self, **given: Any) -> None:
        take(self, _STANDING, given)
        self.ports = dict(self.ports or {})
        self.restarted = list(self.restarted or ())
        self.ends = list(self.ends or ())
        self.metrics = dict(self.metrics or {})


_PLAN: dict[str, Any] = {
    "name": "", "argv": (), "environment": None, "directory": "", "image": "", "ports": None, "attributes": None,
    "exports": None, "required": True, "after": (), "needs": (), "per": "pilot", "devices": (),
    "ready_way": "alive", "ready_of": "", "ready_argv": (), "ready_seconds": 60.0,
    "live_way": "", "live_of": "", "live_argv": (), "live_period_seconds": 10.0, "live_timeout_seconds": 5.0,
    "live_failures": 3, "metrics_http": "", "metrics_names": (), "metrics_period_seconds": 60.0,
    "restart": "on_failure", "restart_limit": 5, "restart_window_seconds": 3600.0, "backoff_seconds": 1.0,
    "backoff_limit_seconds": 60.0, "memory_mib": 0, "disk_mib": 0, "log_mib": 16, "stop_signal": "SIGTERM",
    "stop_seconds": 5.0, "standing": None,
}  # fmt: skip


class ServicePlan(Record):
    """A service as it is run: ``argv`` and ``environment`` with places (``{port:NAME}``) that are filled in at each
    start, in an ``image`` already the command line of the container. ``after`` and ``needs`` name services of the same
    pilot, ``devices`` are the UUIDs of its GPUs. ``ready_way`` is one of port, http, log, file, command and alive,
    ``ready_of`` what is looked for, and so for ``live_way``; ``standing`` is how it stands at the hand-over."""

    __slots__ = tuple(_PLAN)
    name: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    directory: str
    image: str
    ports: dict[str, int]
    attributes: dict[str, Any]
    exports: dict[str, str]
    required: bool
    after: tuple[str, ...]
    needs: tuple[str, ...]
    per: str
    devices: tuple[str, ...]
    ready_way: str
    ready_of: str
    ready_argv: tuple[str, ...]
    ready_seconds: float
    live_way: str
    live_of: str
    live_argv: tuple[str, ...]
    live_period_seconds: float
    live_timeout_seconds: float
    live_failures: int
    metrics_http: str
    metrics_names: tuple[str, ...]
    metrics_period_seconds: float
    restart: str
    restart_limit: int
    restart_window_seconds: float
    backoff_seconds: float
    backoff_limit_seconds: float
    memory_mib: int
    disk_mib: int
    log_mib: int
    stop_signal: str
    stop_seconds: float
    standing: Standing

    def __init__(self, **given: Any) -> None:
        take(self, _PLAN, given)
        for name in ("argv", "after", "needs", "devices", "ready_argv", "live_argv", "metrics_names"):
            setattr(self, name, tuple(getattr(self, name)))
        for name in ("environment", "ports", "attributes", "exports"):
            setattr(self, name, dict(getattr(self, name) or {}))
        if not isinstance(self.standing, Standing):
            self.standing = Standing.from_json(self.standing or {})

    def number(self, port: str) -> int:
        """The number of a port that is given by its name or as a number. Raises ``PlanError``."""
        number = self.standing.ports.get(port)
        if number is None and not port.isdigit():
            raise PlanError(f"the service {self.name} has no port {port}")
        return int(port) if number is None else number

    def filled(self, text: str) -> str:
        """The text with the service's directory, host and ports in their places."""
        if "{" not in text:
            return text
        ports = self.standing.ports
        for name, number in ports.items():
            text = text.replace(f"{{port:{name}}}", str(number))
            if len(ports) == 1:
                text = text.replace("{port}", str(number))
        text = text.replace("{host}", HOST).replace(MARKER_PLACE, self.standing.marker)
        return text.replace("{workspace}", self.directory)

    def filled_attributes(self) -> dict[str, Any]:
        """Its attributes of the machine ad with the ports of now; one that is nothing but a port is a number."""
        numbers = {f"{{port:{name}}}": number for name, number in self.standing.ports.items()}
        return {
            name: numbers.get(value, self.filled(value)) if isinstance(value, str) else value
            for name, value in self.attributes.items()
        }

    def state(self) -> dict[str, Any]:
        """The form in which the report has it (``model.ServiceState``)."""
        standing = self.standing
        return {
            "name": self.name, "status": standing.status, "pid": standing.pid or None,
            "ready_after_seconds": standing.ready_after_seconds, "message": standing.message,
            "attributes": self.filled_attributes(), "host": HOST if self.ports else "", "ports": dict(standing.ports),
            "starts": standing.starts, "restarts": standing.restarts, "ends": list(standing.ends),
            "ready_seconds": round(standing.ready_seconds, 3), "metrics": dict(standing.metrics), "image": self.image,
            "memory_limit": standing.memory_limit,
        }  # fmt: skip
