"""What services take from what jobs get: cores, memory and GPUs, each a limit that names the service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pilot_agent.facts import known_value
from pilot_agent.model import CheckResult, CheckStatus, Fact, Failure, FailureKind, Json, Limit, PilotError

if TYPE_CHECKING:
    from pilot_agent.hookspecs import Service

CORES, MEMORY, GPUS, DEVICES = "cpu.usable", "memory.usable_mib", "gpu.count", "gpu.devices"
_LEAST = {CORES: 1.0, MEMORY: 128.0}
"""Less than this is nothing to offer to jobs."""

TAKEN_BY = "service"
"""The key of a device in ``gpu.devices`` that names the service which has it alone."""

CHECK = "services"
TOO_LARGE = "services.too_large"
NO_GPUS = "services.no_gpus"
_KINDS = {TOO_LARGE: FailureKind.CONFIG, NO_GPUS: FailureKind.NODE_RESOURCE}

DEVICE_VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
"""By which CUDA, and the container runtime where it asks NVIDIA's tools, know which devices a program sees: UUIDs, also
of MIG instances. HTCondor sets the same for jobs."""

_UNITS = {CORES: "cores", MEMORY: "MiB", GPUS: "GPUs"}


@dataclass(frozen=True, slots=True)
class ServiceShare:
    """What a service takes from what jobs get, and the UUIDs of the GPUs that it sees, which jobs do not get when they
    are ``exclusive``. With ``refused``, the reason, and the ``code`` of that it is not started."""

    name: str
    cores: float = 0
    memory_mib: int = 0
    devices: tuple[str, ...] = ()
    exclusive: bool = False
    refused: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Shares:
    """What each service has, the facts as jobs have them, and the verdict; None where no service takes anything."""

    shares: tuple[ServiceShare, ...] = ()
    facts: tuple[Fact, ...] = ()
    check: CheckResult | None = None


def usable_devices(facts: Mapping[str, Fact]) -> list[dict[str, Json]]:
    """The GPUs (or MIG instances) that programs can be given by their UUID, and that no service has alone."""
    found: list[dict[str, Json]] = known_value(facts, DEVICES) or []
    return [
        device
        for device in found
        if device.get("uuid")
        and device.get("state", "usable") == "usable"
        and device.get("vendor", "nvidia") == "nvidia"
        and not device.get(TAKEN_BY)
    ]


def share_out(services: Sequence[Service], facts: Mapping[str, Fact]) -> Shares:
    """Give each service what it asks for: the required ones first, and of those the ones that want GPUs alone.

    One that does not fit is refused with the reason: when it is required the check fails (kind config for cores and
    memory, of the node for GPUs that it lacks), otherwise it is not started.
    """
    asking = [service for service in services if service.cores or service.memory_mib or service.gpus]
    if not asking:
        return Shares()
    room = _Room(facts)
    for service in sorted(asking, key=lambda each: (not each.required, not each.gpus_exclusive, each.gpus == "all")):
        room.give(service)
    shares = tuple(room.shares[service.name] for service in asking)
    return Shares(shares, tuple(_facts(shares, facts, room.limits)), _check(asking, shares, room.left, facts))


class _Room:
    """What is left of the node while services are given their shares."""

    def __init__(self, facts: Mapping[str, Fact]) -> None:
        self.left = {name: _number(facts, name) for name in (CORES, MEMORY)}
        self.limits: dict[str, list[Limit]] = {CORES: [], MEMORY: []}
        self.shares: dict[str, ServiceShare] = {}
        self._devices = [str(device["uuid"]) for device in usable_devices(facts)]
        self._seen = 0
        """So many of the first devices are seen by services that have none alone."""

    def give(self, service: Service) -> None:
        """The service's share, or why it has none."""
        wanted = {CORES: float(service.cores), MEMORY: float(service.memory_mib)}
        for refused, code in ((self._too_large(wanted), TOO_LARGE), (self._without_gpus(service), NO_GPUS)):
            if refused:
                self.shares[service.name] = ServiceShare(service.name, refused=refused, code=code)
                return
        devices = self._gpus(service)
        if service.gpus_exclusive:
            self._devices = [uuid for uuid in self._devices if uuid not in devices]
        else:
            self._seen = max(self._seen, len(devices))
        for name, number in wanted.items():
            have = self.left[name]
            if number and have is not None:
                self.left[name] = have - number
                self.limits[name].append(Limit(name, have - number, _UNITS[name], f"service {service.name}"))
        self.shares[service.name] = ServiceShare(
            service.name, service.cores, service.memory_mib, devices, service.gpus_exclusive
        )

    def _too_large(self, wanted: Mapping[str, float]) -> str:
        for name, number in wanted.items():
            have = self.left[name]
            if number and have is not None and have - number < _LEAST[name]:
                unit = _UNITS[name]
                return (
                    f"it takes {number:g} {unit} of the {have:g} {unit} that are left of {name}, "
                    f"and jobs need at least {_LEAST[name]:g}"
                )
        return ""

    def _wanted_gpus(self, service: Service) -> tuple[int, int]:
        """How many it asks for, all are at least one, and how many it can get."""
        can = len(self._devices) - (self._seen if service.gpus_exclusive else 0)
        wanted = max(1, can) if service.gpus == "all" else service.gpus or 0
        return min(wanted, can) if service.gpus_optional else wanted, can

    def _without_gpus(self, service: Service) -> str:
        wanted, can = self._wanted_gpus(service)
        if wanted <= can:
            return ""
        alone = " for itself alone" if service.gpus_exclusive else ""
        asked = "all GPUs" if service.gpus == "all" else _counted(wanted)
        return f"it asks for {asked}{alone}, and {can} of this node can be had"

    def _gpus(self, service: Service) -> tuple[str, ...]:
        """Those for itself alone are the last, so that jobs and other services keep the first."""
        wanted, _ = self._wanted_gpus(service)
        if service.gpus_exclusive:
            return tuple(self._devices[len(self._devices) - wanted :]) if wanted else ()
        return tuple(self._devices[:wanted])


def with_devices(service: Service, shares: Sequence[ServiceShare]) -> Service:
    """The service with the GPUs that it sees, as CUDA takes them. Raises ``PilotError`` for one that was refused."""
    share = next((each for each in shares if each.name == service.name), None)
    if share is not None and share.refused:
        message = f"it cannot run beside jobs: {share.refused}"
        raise PilotError(Failure(_KINDS[share.code], share.code, message, _hint(share), stage="service"))
    if service.gpus is None:
        return service
    listed = ",".join(share.devices) if share is not None else ""
    return replace(service, environment={**service.environment, **dict.fromkeys(DEVICE_VARIABLES, listed)})


def _number(facts: Mapping[str, Fact], name: str) -> float | None:
    value = known_value(facts, name)
    return float(value) if isinstance(value, int | float) else None


def _facts(
    shares: Sequence[ServiceShare], facts: Mapping[str, Fact], limits: Mapping[str, Sequence[Limit]]
) -> Iterator[Fact]:
    for name in (CORES, MEMORY):
        if limits[name]:
            yield _limited(facts[name], limits[name])
    owners = {uuid: share.name for share in shares if share.exclusive for uuid in share.devices}
    if not owners:
        return
    devices = facts[DEVICES]
    value = [
        {**device, TAKEN_BY: owners[device["uuid"]]} if device.get("uuid") in owners else device
        for device in devices.value
    ]
    yield replace(devices, value=value)
    count = _number(facts, GPUS)
    if count is not None:
        taken: list[Limit] = []
        for share in shares:
            if share.exclusive and share.devices:
                count -= len(share.devices)
                taken.append(Limit(GPUS, count, _UNITS[GPUS], f"service {share.name}"))
        yield _limited(facts[GPUS], taken)


def _limited(fact: Fact, limits: Sequence[Limit]) -> Fact:
    """The fact with further limits, of which the last is the smallest."""
    known = fact.limits or (Limit(fact.name, float(fact.value), fact.unit or _UNITS[fact.name], fact.source),)
    last = limits[-1]
    value = int(last.number) if float(last.number).is_integer() else last.number
    return replace(fact, value=value, source=last.source, limits=(*known, *limits))


def _check(
    asking: Sequence[Service],
    shares: Sequence[ServiceShare],
    left: Mapping[str, float | None],
    facts: Mapping[str, Fact],
) -> CheckResult:
    required = {service.name for service in asking if service.required}
    refused = [share for share in shares if share.refused]
    fatal = [share for share in refused if share.name in required]
    if fatal:
        worst = next((share for share in fatal if share.code == TOO_LARGE), fatal[0])
        message = "; ".join(f"the service {share.name} cannot run beside jobs: {share.refused}" for share in fatal)
        return CheckResult(
            CHECK,
            CheckStatus.FAIL,
            message,
            _hint(worst),
            kind=_KINDS[worst.code],
            code=worst.code,
        )
    what = _summary(shares, left, facts)
    if refused:
        told = "; ".join(f"the service {share.name} is not started: {share.refused}" for share in refused)
        return CheckResult(CHECK, CheckStatus.WARN, f"{told}; {what}", _hint(refused[0]), code=refused[0].code)
    return CheckResult(CHECK, CheckStatus.PASS, what)


def _hint(share: ServiceShare) -> str:
    name = share.name
    if share.code == NO_GPUS:
        return (
            f"the pilot gets a node with GPUs that work, or whoever declares the service lowers services.{name}.gpus, "
            f"or makes it optional (services.{name}.required: false)"
        )
    return (
        f"whoever declares the service lowers services.{name}.cores or services.{name}.memory_mib, or the factory asks "
        "the site for larger pilots"
    )


def _summary(shares: Sequence[ServiceShare], left: Mapping[str, float | None], facts: Mapping[str, Fact]) -> str:
    taken = [_taken(share) for share in shares if not share.refused]
    gpus = sum(len(share.devices) for share in shares if share.exclusive)
    rest = [f"{number:g} {_UNITS[name]}" for name, number in left.items() if number is not None]
    if gpus:
        rest.append(_counted(len(usable_devices(facts)) - gpus))
    return f"{'; '.join(taken) or 'services take nothing'}; jobs get {', '.join(rest)}"


def _taken(share: ServiceShare) -> str:
    parts = [f"{share.cores:g} cores"] * bool(share.cores) + [f"{share.memory_mib} MiB"] * bool(share.memory_mib)
    if share.devices:
        how = "alone" if share.exclusive else "together with jobs"
        parts.append(f"{_counted(len(share.devices))} {how}")
    return f"the service {share.name} takes {', '.join(parts)}"


def _counted(gpus: int) -> str:
    return "1 GPU" if gpus == 1 else f"{gpus} GPUs"
