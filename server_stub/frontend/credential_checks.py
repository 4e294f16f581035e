"""Whether the frontend can make what its pilots and their sites need: each credential is made or read once."""

from __future__ import annotations

from collections.abc import Iterator

from pilot_agent.model import PilotError
from server_stub.credentials.idtoken import POOL_KEY, read_signing_key
from server_stub.findings import Finding, doubtful, failed, good
from server_stub.frontend.credential_plans import CredentialPlans, PilotTokens
from server_stub.frontend.site_secrets import SiteSecrets


def check_credentials(plans: CredentialPlans, now: float) -> Iterator[Finding]:
    """What is found; nothing of any content."""
    if plans.pilots is not None:
        yield _signing_key(plans.pilots)
    secrets = SiteSecrets()
    for plan in plans.sites:
        name = f"credential {plan.name}"
        try:
            found = secrets.get(plan, now)
        except PilotError as error:
            yield failed(name, error.failure)
        else:
            yield good(name, f"a {plan.kind.value} that lasts {(found.expires - now) / 3600:.1f} h")


def _signing_key(plan: PilotTokens) -> Finding:
    try:
        key = read_signing_key(plan.signing_key, issuer=plan.trust_domain, key_id=plan.key_id)
    except PilotError as error:
        return failed("signing key", error.failure)
    if key.id == POOL_KEY:
        message = f"{plan.signing_key} is the pool's first key: who has it can be anybody there"
        return doubtful("signing key", message, "make one for pilots alone; see docs/how-to/credentials.md")
    return good("signing key", f"{plan.signing_key} signs tokens as {key.id} of {key.issuer}")
