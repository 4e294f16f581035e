"""A new frontend's files: its own with comments, a key, and the directory for its tokens."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pilot_agent.files import write_atomically
from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.frontend.identity import load_identity, make_key
from server_stub.new_files import require_free

FILE = "frontend.yaml"
KEY = "frontend.key"
TOKENS = "tokens.d"
STATE = "state"

FRONTEND_YAML = """\
# A frontend: looks at the jobs that wait and asks factories for pilots. Every key: docs/reference/frontend.md.
# After a change: pilot-frontend check, then SIGHUP.
name: {name}            # factories know it by this name and by its public key (pilot-frontend key)
state: {state}                  # what it remembers; nobody else's
key: frontend.key             # its private key
cycle_seconds: 60

# Whose jobs these are, and what they want of every node.
vo:
  name: {vo}
  containers: optional        # never, optional, preferred, required
  # requirements: ["cpu.usable >= 1", "os.glibc >= 2.28"]

# The user pool. Put an IDTOKEN that may READ there into tokens.d, mode 0600.
pool:
  collectors: [{collectors}]
  tokens: tokens.d
  # condor_config: /etc/condor/condor_config   # to prove oneself in another way
  # slots: 'GLIDECLIENT_Name == "{vo}"'      # which slots are this frontend's

# All access points of the pool, unless some are named.
access_points:
  # names: ["ap1.example.org"]
  # jobs: 'AccountingGroup =!= "test"'         # only these idle jobs
  forget_seconds: 1800        # one that is silent freezes all decisions for so long; then it counts as without jobs

factories:
  - name: {factory}
    url: {url}
    # authorities: ca.pem     # who signed the factory's certificate, if not one that this system trusts

# What pilots prove themselves with to the pool, and what sites ask for.
# credentials:
#   pilots: {{signing_key: PILOTS, trust_domain: pool.example.org}}
#   sites:
#     - {{name: site-token, kind: scitoken, file: site.token, entries: [big-site]}}

# Where jobs may go, and where first. MY is an entry, TARGET a job.
policy:
  match: "true"
  rank: "-10 * MY.FailureRate"
  # attributes: [DESIRED_Sites]   # what the jobs' own requirements read of the job itself

limits:
  default: {{most_pilots: 1000, most_queued: 50}}
  # entries: {{big-site: {{most_pilots: 5000}}}}
  totals: {{pilots: {{most: 10000, curb: 9000}}}}

# listen: {{address: 127.0.0.1, port: 9621}}   # /health/live, /health/ready and /metrics
"""


@dataclass(frozen=True, slots=True)
class NewFrontend:
    """What a new frontend is to be. ``state`` is where it shall remember, else beside its file."""

    directory: str
    name: str
    vo: str
    collectors: tuple[str, ...]
    factory: str
    url: str
    state: str | None = None


def make_frontend(plan: NewFrontend) -> tuple[tuple[str, ...], str]:
    """Write everything: the paths, and the public key for factories. Nothing that is there is changed: ``PilotError``
    (file.exists) before anything is written."""
    directory = os.path.abspath(plan.directory)
    paths = {name: os.path.join(directory, name) for name in (FILE, KEY, TOKENS, STATE)}
    if plan.state:
        paths[STATE] = os.path.abspath(plan.state)
    require_free(paths.values())
    try:
        os.makedirs(directory, exist_ok=True)
        for name in (TOKENS, STATE):
            os.makedirs(paths[name], mode=0o700, exist_ok=True)
        make_key(paths[KEY])
        collectors = ", ".join(f'"{one}"' for one in plan.collectors)
        text = FRONTEND_YAML.format(
            name=plan.name,
            vo=plan.vo,
            collectors=collectors,
            factory=plan.factory,
            url=plan.url,
            state=paths[STATE] if plan.state else STATE,
        )
        write_atomically(paths[FILE], text.encode(), mode=0o644)
    except OSError as error:
        message = f"{error.filename or directory} cannot be written: {error.strerror}"
        hint = "name a directory that this account may write to; whoever gave the command must act"
        raise PilotError(Failure(FailureKind.USAGE, "file.unwritable", message, hint)) from error
    return tuple(paths.values()), load_identity(plan.name, paths[KEY]).public_key()
