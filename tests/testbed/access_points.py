"""Access points of two releases of HTCondor, and a host from which this checkout's code asks them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.testbed import condor, trees, unit_tests
from tests.testbed.command import CommandError
from tests.testbed.condor import Pool
from tests.testbed.hosts import Bind, Host, HostPlan
from tests.testbed.network import Network
from tests.testbed.progress import step
from tests.testbed.trees import FACTORY, TreeRecipe

STABLE, NEWEST = "stable", "newest"
RELEASES: dict[str, tuple[TreeRecipe, str]] = {
    STABLE: (trees.NODE, "10.77.0.41"),
    NEWEST: (trees.NEWEST_HTCONDOR, "10.77.0.42"),
}
"""Tree and address of each."""
CLIENT = "10.77.0.43"
START_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.2


class AccessPoints:
    """A schedd, its collector and its signing key on a host for each release. Use it as a context manager."""

    def __init__(self, directory: Path, releases: Collection[str] = tuple(RELEASES)) -> None:
        self.directory = directory
        self.network = Network()
        self.hosts: dict[str, Host] = {}
        for release in releases:
            recipe, address = RELEASES[release]
            plan = HostPlan(release, address, trees.ensure(recipe), f"{release}.test")
            self.hosts[release] = Host(plan, directory / release, self.network)
        repository = unit_tests.REPOSITORY
        code = tuple(Bind(repository / name, f"{unit_tests.INSIDE}/{name}") for name in unit_tests.PROGRAMS)
        names = {host.plan.name: host.plan.address for host in self.hosts.values()}
        plan = HostPlan(
            "client", CLIENT, trees.ensure(), "client.test", names,
            binds=(*code, Bind(unit_tests.libraries(), unit_tests.SITE)),
        )  # fmt: skip
        self.client = Host(plan, directory / "client", self.network)
        self._daemons: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        try:
            with step("starting access points"):
                self.network.start()
                for host in (*self.hosts.values(), self.client):
                    host.start()
                for host in self.hosts.values():
                    self._start_condor(host)
                for release, host in self.hosts.items():
                    self._let_in(release, host)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Pull every plug and delete the disks."""
        for host in (*self.hosts.values(), self.client):
            host.remove()
        for door in self._daemons:
            door.wait()
        self._daemons.clear()
        self.network.stop()

    def ask(self, release: str, code: str) -> Any:
        """Run Python in the client, in which `htcondor` is that release's batch system; what it puts into `answer`."""
        address, name = RELEASES[release][1], f"{release}.{release}.test"
        head = (
            f"import json\nfrom server_stub.condor.system import HTCondor\nhtcondor = HTCondor({name!r}, {address!r})\n"
        )
        environment = {
            "PYTHONPATH": f"{unit_tests.INSIDE}:{unit_tests.SITE}",
            "CONDOR_CONFIG": "ONLY_ENV",
            "_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
            "_CONDOR_NO_DNS": "True",
            "_CONDOR_DEFAULT_DOMAIN_NAME": "client.test",
        }
        words = ["python3", "-B", "-c", f"{head}{code}\nprint(json.dumps(answer))"]
        done = self.client.run(words, user=FACTORY.name, env=environment)
        if done.returncode != 0:
            raise CommandError(f"HTCondor {release}: {done.stderr[-2000:]}")
        return json.loads(done.stdout)

    def _start_condor(self, host: Host) -> None:
        pool = Pool(domain=host.plan.domain, head=host.plan.address, startd_identities=())
        text = condor.head_configuration(pool, host.plan.name, host.plan.address)
        host.path(condor.CONFIGURATION).write_text(text, encoding="utf-8")
        for name in (condor.TOKENS, condor.KEYS):
            host.path(name).mkdir(mode=0o700, exist_ok=True, parents=True)
        with (host.directory / "condor_master.out").open("a", encoding="utf-8") as file:
            self._daemons.append(host.popen(["condor_master", "-f"], stdout=file, stderr=file))

    def _let_in(self, release: str, host: Host) -> None:
        """Wait until the access point answers; then give the client a token for it."""
        until = time.monotonic() + START_TIMEOUT_SECONDS
        while not host.run(["condor_status", "-schedd", "-af", "Name"]).stdout.strip():
            if time.monotonic() > until:
                raise CommandError(f"HTCondor {release}: no schedd after {START_TIMEOUT_SECONDS:.0f} s\n{_log(host)}")
            time.sleep(POLL_SECONDS)
        identity = f"{FACTORY.name}@{host.plan.domain}"
        made = host.run(["condor_token_create", "-identity", identity, "-authz", "READ", "-authz", "WRITE"])
        if made.returncode != 0:
            raise CommandError(f"HTCondor {release}: {made.stderr.strip()}")
        script = "umask 077; mkdir -p ~/.condor/tokens.d; cat > ~/.condor/tokens.d/$0"
        self.client.run(["sh", "-c", script, host.plan.name], user=FACTORY.name, input=made.stdout)


def _log(host: Host) -> str:
    logs = (host.path("/var/log/condor") / name for name in ("MasterLog", "SchedLog"))
    return "\n".join(log.read_text(encoding="utf-8", errors="replace")[-3000:] for log in logs if log.exists())
