"""HTCondor configuration of the grid's two pools: typed roles in, one complete file out.

Trust is IDTOKENS only between hosts, and the file system within one; every channel is authenticated, encrypted and
protected against change. Nothing of Debian's own configuration is read.
"""

from __future__ import annotations

from dataclasses import dataclass

CONFIGURATION = "/etc/condor/condor_config"
KEYS = "/etc/condor/passwords.d"
SIGNING_KEY = f"{KEYS}/POOL"
TOKENS = "/etc/condor/tokens.d"
DAEMON_USER = "condor"


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool: its domain names its users and its tokens' issuer; its head runs collector, negotiator and schedd.

    `startd_identities` are the names, without the domain, whose tokens may bring execute nodes to the pool.
    """

    domain: str
    head: str
    startd_identities: tuple[str, ...]

    @property
    def daemon_identity(self) -> str:
        """The name of the pool's own daemons."""
        return f"{DAEMON_USER}@{self.domain}"


@dataclass(frozen=True, slots=True)
class Site:
    """What the site's batch system gives a job: one slot for each node, and time to leave when it is told to."""

    max_vacate_seconds: int = 30
    cores: int = 2
    memory_mib: int = 4096


def head_configuration(pool: Pool, name: str, address: str) -> str:
    """Return the configuration of the pool's head: collector (with CCB), negotiator, schedd."""
    identities = (pool.daemon_identity, *(f"{name}@{pool.domain}" for name in pool.startd_identities))
    startds = ", ".join(identities)
    return _text(
        _common(pool, name, address)
        | {
            "DAEMON_LIST": "MASTER, SHARED_PORT, COLLECTOR, NEGOTIATOR, SCHEDD",
            "SEC_TOKEN_POOL_SIGNING_KEY_FILE": SIGNING_KEY,
            "ALLOW_ADVERTISE_STARTD": startds,
            "ALLOW_ADVERTISE_MASTER": startds,
            "ALLOW_ADVERTISE_SCHEDD": pool.daemon_identity,
            "ALLOW_NEGOTIATOR": pool.daemon_identity,
            "ALLOW_WRITE": f"*@{pool.domain}",
            "QUEUE_SUPER_USERS": "root, condor",
            # A job can be matched seconds after it was submitted, and again right after it left.
            "NEGOTIATOR_INTERVAL": "3",
            "NEGOTIATOR_CYCLE_DELAY": "1",
            "NEGOTIATOR_MIN_INTERVAL": "1",
            "NEGOTIATOR_UPDATE_INTERVAL": "3",
            "SCHEDD_INTERVAL": "2",
            "SCHEDD_MIN_INTERVAL": "1",
            "JOB_START_COUNT": "50",
            "JOB_START_DELAY": "0",
            "SHADOW_QUEUE_UPDATE_INTERVAL": "5",
            "GRIDMANAGER_JOB_PROBE_INTERVAL": "3",
            # What a vanished execute node holds is given up in a minute, not in forty.
            "JOB_DEFAULT_LEASE_DURATION": "60",
            "COLLECTOR_UPDATE_INTERVAL": "30",
            "CLASSAD_LIFETIME": "120",
        }
    )


def execute_configuration(pool: Pool, name: str, address: str, site: Site) -> str:
    """Return the configuration of a root-run worker node: master and startd, jobs run as their submitters."""
    return _text(
        _common(pool, name, address)
        | {
            "DAEMON_LIST": "MASTER, SHARED_PORT, STARTD",
            "ALLOW_WRITE": pool.daemon_identity,
            "NUM_CPUS": str(site.cores),
            "MEMORY": str(site.memory_mib),
            "NUM_SLOTS": "1",
            "NUM_SLOTS_TYPE_1": "1",
            "SLOT_TYPE_1": "100%",
            "SLOT_TYPE_1_PARTITIONABLE": "False",
            "START": "True",
            "SUSPEND": "False",
            "PREEMPT": "False",
            "KILL": "False",
            "MachineMaxVacateTime": str(site.max_vacate_seconds),
            # A claim is given back as soon as its job ended, so that any host's next job can have the node.
            "CLAIM_WORKLIFE": "0",
            "RUNBENCHMARKS": "False",
            "UPDATE_INTERVAL": "5",
            "STARTER_UPDATE_INTERVAL": "5",
            "TRUST_UID_DOMAIN": "True",
            "SOFT_UID_DOMAIN": "True",
            # A site's job is a plain process here: the pilot must not find a namespace that hides the node from it.
            "USE_PID_NAMESPACES": "False",
            "MOUNT_UNDER_SCRATCH": "",
            # Debian's defaults start three Python programs here; an empty list crashes the starter of 23.9.6.
            "FILETRANSFER_PLUGINS": "$(LIBEXEC)/curl_plugin, $(LIBEXEC)/data_plugin",
        }
    )


def _common(pool: Pool, name: str, address: str) -> dict[str, str]:
    return _places() | _names(pool, name, address) | _security(pool)


def _places() -> dict[str, str]:
    return {
        "RELEASE_DIR": "/usr",
        "LOCAL_DIR": "/var",
        "LOCAL_CONFIG_FILE": "",
        "LOCAL_CONFIG_DIR": "",
        "REQUIRE_LOCAL_CONFIG_FILE": "False",
        "RUN": "$(LOCAL_DIR)/run/condor",
        "LOG": "$(LOCAL_DIR)/log/condor",
        "LOCK": "$(LOCAL_DIR)/lock/condor",
        "SPOOL": "$(LOCAL_DIR)/spool/condor",
        "EXECUTE": "$(LOCAL_DIR)/lib/condor/execute",
        "BIN": "$(RELEASE_DIR)/bin",
        "SBIN": "$(RELEASE_DIR)/sbin",
        "LIB": "$(RELEASE_DIR)/lib/condor",
        "LIBEXEC": "$(RELEASE_DIR)/libexec/condor",
        "SHARE": "$(RELEASE_DIR)/share/condor",
        "ETC": "/etc/condor",
    }


def _names(pool: Pool, name: str, address: str) -> dict[str, str]:
    return {
        "CONDOR_HOST": pool.head,
        "COLLECTOR_HOST": f"{pool.head}:9618",
        "UID_DOMAIN": pool.domain,
        "FILESYSTEM_DOMAIN": "$(FULL_HOSTNAME)",
        "TRUST_DOMAIN": pool.domain,
        # Without a name server every look-up would wait for its time-out.
        "NO_DNS": "True",
        "DEFAULT_DOMAIN_NAME": pool.domain,
        "NETWORK_HOSTNAME": f"{name}.{pool.domain}",
        "NETWORK_INTERFACE": address,
        "BIND_ALL_INTERFACES": "False",
        "ENABLE_IPV6": "False",
        "USE_SHARED_PORT": "True",
        "MASTER_UPDATE_INTERVAL": "10",
        "MAIL": "/bin/true",
    }


def _security(pool: Pool) -> dict[str, str]:
    levels = {}
    for level in ("DEFAULT", "READ", "CLIENT"):
        levels[f"SEC_{level}_AUTHENTICATION"] = "REQUIRED"
        levels[f"SEC_{level}_ENCRYPTION"] = "REQUIRED"
        levels[f"SEC_{level}_INTEGRITY"] = "REQUIRED"
        levels[f"SEC_{level}_AUTHENTICATION_METHODS"] = "FS, IDTOKENS"
    return levels | {
        "SEC_TOKEN_SYSTEM_DIRECTORY": TOKENS,
        "SEC_PASSWORD_DIRECTORY": KEYS,
        "ALLOW_READ": f"*@{pool.domain}",
        "ALLOW_DAEMON": pool.daemon_identity,
        "ALLOW_ADMINISTRATOR": f"root@{pool.domain}, {pool.daemon_identity}",
        "ALLOW_CLIENT": "*",
    }


def _text(settings: dict[str, str]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in settings.items())
