"""Every configured address and every proxy tried at the same time, in one child with one deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilot_agent.codec import CodecError, from_json, to_json
from pilot_agent.model import Json
from pilot_agent.probes.answers import Answer
from pilot_agent.probes.network.attempts import Attempt, Authorities, Trial
from pilot_agent.probes.network.connecting import look_up_own_name
from pilot_agent.probes.network.reachability import reached
from pilot_agent.probes.network.targets import HTTP_KINDS, Target
from pilot_agent.probes.node import Node

DIRECT_SECONDS = 4.0
THROUGH_PROXY_SECONDS = 2.5
# The two one after the other, and a little for two busy cores; with the time that ending a stuck child takes it is
# below the ten seconds of a probe.
ALL_SECONDS = 7.0
_OWN_NAME_SECONDS = 0.3
MOST_TARGETS = 16
MOST_PROXIES = 8
# So many addresses are fetched through every proxy: with one alone, its fault would look like the proxy's.
_FETCHED_THROUGH_EACH = 2

# Where distributions keep the authorities that OpenSSL trusts; a payload's own Python knows none of them.
_AUTHORITY_FILES = (
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_GRID_AUTHORITIES = "/etc/grid-security/certificates"


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one address or proxy: its attempts, or why it was not tried (``problem``)."""

    shown: str
    source: str
    kind: str
    host: str = ""
    port: int = 0
    problem: str = ""
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class Connections:
    """The raw answer: every address and every proxy; ``full_name`` what the resolver calls this node."""

    targets: tuple[Tried, ...] = ()
    proxies: tuple[Tried, ...] = ()
    full_name: str = ""


def ask_connections(
    node: Node, test: str, targets: Sequence[Target], proxies: Sequence[Target], environment: Mapping[str, str]
) -> tuple[Connections | None, str]:
    """What the node reached, or None and why that is not known."""
    targets, proxies = targets[:MOST_TARGETS], proxies[:MOST_PROXIES]

    def trial() -> Json:
        return to_json(try_connections(targets, proxies, authorities_of(environment)))

    return read_connections(node.ask(test, trial, seconds=ALL_SECONDS))


def read_connections(answer: Answer) -> tuple[Connections | None, str]:
    """The answer of the trial, or None and why there is none."""
    if answer.problem or answer.value is None:
        return None, answer.problem or "its answer is empty"
    try:
        return from_json(Connections, answer.value), ""
    except CodecError as error:
        return None, f"the answer is damaged: {error}"


def authorities_of(environment: Mapping[str, str]) -> Authorities:
    """The certificate authorities that the node's programs trust (OpenSSL's variables first), and those of the grid."""
    files = [environment.get("SSL_CERT_FILE", ""), *_AUTHORITY_FILES]
    directories = [*environment.get("SSL_CERT_DIR", "").split(":"), environment.get("X509_CERT_DIR", "")]
    absolute = [path for path in [*directories, _GRID_AUTHORITIES] if path.startswith("/")]
    return Authorities(tuple(path for path in files if path.startswith("/")), tuple(dict.fromkeys(absolute)))


def try_connections(targets: Sequence[Target], proxies: Sequence[Target], authorities: Authorities) -> Connections:
    """Try all of it, concurrently; to be called in a child, as what hangs is left behind in threads.

    Addresses in HTTP that cannot be reached directly are fetched through the first proxy that works.
    """
    usable = [target for target in targets if not target.problem]
    fetched = [target for target in usable if target.kind in HTTP_KINDS]
    direct = {target: _Running(Trial(target, None, DIRECT_SECONDS, authorities)) for target in usable}
    through = {
        proxy: [
            _Running(Trial(target, proxy, DIRECT_SECONDS, authorities)) for target in fetched[:_FETCHED_THROUGH_EACH]
        ]
        # Nothing to fetch: a connection is all that can be tried.
        or [_Running(Trial(_as_host(proxy), None, DIRECT_SECONDS, authorities))]
        for proxy in proxies
        if not proxy.problem
    }
    names: list[str] = []
    naming = threading.Thread(target=lambda: names.append(look_up_own_name()), daemon=True)
    naming.start()
    _wait([*(direct[target] for target in fetched), *(running for tries in through.values() for running in tries)])
    rescued = _through_the_best(fetched, direct, through, authorities)
    _wait([*direct.values(), *rescued.values()])
    naming.join(_OWN_NAME_SECONDS)
    return Connections(
        targets=tuple(_tried(target, _attempts_at(target, direct, through, rescued)) for target in targets),
        proxies=tuple(_tried(proxy, [running.attempt for running in through.get(proxy, ())]) for proxy in proxies),
        full_name=names[0] if names else "",
    )


class _Running:
    """A trial in its thread."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        # A daemon, as a look-up that hangs can be neither waited for nor ended.
        self.thread = threading.Thread(target=trial.run, daemon=True)
        self.thread.start()

    @property
    def attempt(self) -> Attempt:
        """The attempt, as far as it came."""
        return self.trial.given_up()


def _wait(all_running: Sequence[_Running]) -> None:
    for running in all_running:
        running.thread.join(max(0.0, running.trial.deadline + 0.05 - time.monotonic()))


def _through_the_best(
    fetched: Sequence[Target],
    direct: Mapping[Target, _Running],
    through: Mapping[Target, Sequence[_Running]],
    authorities: Authorities,
) -> dict[Target, _Running]:
    """Attempts, through the first proxy that works, at what was reached neither directly nor through any yet."""
    best = next((proxy for proxy, tries in through.items() if any(_works(running) for running in tries)), None)
    if best is None:
        return {}
    done = {running.trial.target for tries in through.values() for running in tries if _works(running)}
    done.update(running.trial.target for running in through[best])
    missing = [target for target in fetched if not reached(direct[target].attempt) and target not in done]
    return {target: _Running(Trial(target, best, THROUGH_PROXY_SECONDS, authorities)) for target in missing}


def _works(running: _Running) -> bool:
    return running.trial.proxy is not None and reached(running.attempt)


def _attempts_at(
    target: Target,
    direct: Mapping[Target, _Running],
    through: Mapping[Target, Sequence[_Running]],
    rescued: Mapping[Target, _Running],
) -> list[Attempt]:
    """All attempts at a target: the direct one, then those through proxies where that one failed."""
    if target not in direct:
        return []
    first = direct[target].attempt
    if reached(first):
        return [first]
    others = [running for tries in through.values() for running in tries if running.trial.proxy is not None]
    found = [running.attempt for running in others if running.trial.target == target]
    return [first, *found, *([rescued[target].attempt] if target in rescued else [])]


def _as_host(proxy: Target) -> Target:
    return Target(proxy.shown, proxy.source, "tcp", proxy.host, proxy.port)


def _tried(target: Target, attempts: Sequence[Attempt]) -> Tried:
    return Tried(target.shown, target.source, target.kind, target.host, target.port, target.problem, tuple(attempts))
