"""Whether a frontend can do its work: its key, its tokens, the pool and every factory, each asked once for real."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from pilot_agent.model import FailureKind, PilotError
from pilot_agent.spelling import unit_of
from server_stub.findings import Finding, bad, doubtful, failed, good
from server_stub.frontend.client import FactoryClient
from server_stub.frontend.configuration import FactoryPlan, Frontend
from server_stub.frontend.credential_checks import check_credentials
from server_stub.frontend.identity import Identity, load_identity
from server_stub.frontend.matching import refusal
from server_stub.frontend.pool import PoolReader, PoolView
from server_stub.frontend.wire import Offered

ACT = "the VO's operator must act"


def check_frontend(frontend: Frontend, now: float, *, python: tuple[str, ...] | None = None) -> Iterator[Finding]:
    """Everything that is looked at, as it is found out."""
    yield _tokens(frontend)
    yield from check_credentials(frontend.credentials, now)
    attributes = frontend.settings.policy.job_attributes
    reader = PoolReader(frontend.pool, frontend.access_points, attributes, frontend.lengths)
    if python is not None:
        reader = PoolReader(frontend.pool, frontend.access_points, attributes, frontend.lengths, None, python)
    yield from _pool(frontend, reader.read(now, {}))
    try:
        identity = load_identity(frontend.name, frontend.key)
    except PilotError as error:
        yield failed("key", error.failure)
        return
    yield good("key", f"{frontend.key} is this frontend's alone")
    for plan in frontend.factories:
        yield _factory(frontend, plan, identity, now)


def _tokens(frontend: Frontend) -> Finding:
    """Without a token the pool does not answer; one that others can read is theirs too."""
    directory = frontend.pool.tokens
    if not directory:
        return good("tokens", "none are named: HTCondor's own configuration says how to prove oneself")
    try:
        names = [name for name in sorted(os.listdir(directory)) if not name.startswith(".")]
        modes = {name: os.stat(os.path.join(directory, name)).st_mode for name in names}
    except OSError as error:
        message = f"{directory} cannot be read: {error.strerror}"
        return bad("tokens", message, f"let it be this account's own; {ACT}", kind=FailureKind.CREDENTIAL)
    if not names:
        hint = f"put a token with READ for the user pool there (condor_token_create, condor_token_fetch); {ACT}"
        return bad("tokens", f"{directory} is empty", hint, kind=FailureKind.CREDENTIAL)
    open_ones = [name for name, mode in modes.items() if mode & (stat.S_IRWXG | stat.S_IRWXO)]
    if open_ones:
        message = f"others can use {', '.join(open_ones)} in {directory}"
        return doubtful("tokens", message, f"chmod 600; {ACT}")
    return good("tokens", f"{len(names)} in {directory}")


def _pool(frontend: Frontend, view: PoolView) -> Iterator[Finding]:
    proof = f"the tokens in {frontend.pool.tokens}" if frontend.pool.tokens else "this account; pool.tokens names none"
    hint = f"see whether it runs, is reached from here, and accepts {proof}; {ACT}"
    for name, why in view.missing.items():
        yield bad(name, why, hint, kind=FailureKind.NETWORK)
    for name, why in view.closed.items():
        yield doubtful(name, f"starts no more jobs now: {why}", "its operator decides how many jobs run")
    counts = {name: int((view.jobs.access_point == at).sum()) for at, name in enumerate(view.jobs.access_points)}
    for name, count in counts.items():
        yield good(name, f"{count} idle jobs that this frontend serves")
    if "the pool's slots" not in view.missing and not any(name.startswith("the collector") for name in view.missing):
        yield good("slots", f"{len(view.slots)} of pilots, {int(view.slots.idle.sum())} of them idle")


def _factory(frontend: Frontend, plan: FactoryPlan, identity: Identity, now: float) -> Finding:
    name = f"factory {plan.name}"
    client = FactoryClient(plan, identity, frontend.settings.vo.name)
    try:
        offered, _ = client.offers()
    except PilotError as error:
        return failed(name, error.failure)
    finally:
        client.close()
    return _judged(frontend, name, offered, now)


def _judged(frontend: Frontend, name: str, offered: Offered, now: float) -> Finding:
    refused = {one.name: why for one in offered.offers if (why := refusal(one, frontend.settings.vo, now))}
    usable = len(offered.offers) - len(refused)
    told = f"{len(offered.offers)} {unit_of(len(offered.offers), 'entries')}, {usable} of which may be asked for pilots"
    wrong = [f"{entry} ({offered.closed.get(entry) or why})" for entry, why in refused.items()]
    wrong += list(offered.left_out.values())
    if usable == 0:
        hint = "the factory's operator lists this frontend's VO and entries under frontends, and opens entries"
        return bad(name, "; ".join([told, *wrong[:5]]), hint)
    return doubtful(name, "; ".join([told, *wrong[:5]])) if wrong else good(name, told)
