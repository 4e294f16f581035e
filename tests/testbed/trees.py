"""Debian trees that the hosts run: built once with mmdebstrap, then only read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.testbed import cache
from tests.testbed.command import call

MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
BUILD_TIMEOUT_SECONDS = 1800.0

# Only this package comes from unstable; a negative priority keeps everything else of it out.
APPTAINER_PIN = """\
Package: *
Pin: release n=sid
Pin-Priority: -1

Package: apptainer
Pin: release n=sid
Pin-Priority: 990
"""

HTCONDOR = ("condor",)
CONTAINERS = ("apptainer", "squashfs-tools", "squashfuse", "fuse-overlayfs", "fuse3", "uidmap")
SYSTEM = (
    "ca-certificates",
    "curl",
    "iproute2",
    "iputils-ping",
    "openssh-client",
    "openssh-server",
    "procps",
    "psmisc",
    "tini",
)
SERVER = (
    "python3",
    "python3-alembic",
    "python3-fastapi",
    "python3-httpx",
    "python3-hypothesis",
    "python3-jsonschema",
    "python3-pluggy",
    "python3-psutil",
    "python3-pydantic",
    "python3-pytest",
    "python3-requests",
    "python3-sqlalchemy",
    "python3-starlette",
    "python3-structlog",
    "python3-uvicorn",
    "python3-yaml",
)
NOT_UNPACKED = (
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
)

# HTCondor's package depends on Python, so a host without Python has these hidden (`Host` masks them).
PYTHON_PATTERNS = (
    "usr/bin/python3*",
    "usr/bin/pydoc3*",
    "usr/lib/python3*",
    "usr/share/python3*",
    "usr/local/lib/python3*",
)


@dataclass(frozen=True, slots=True)
class Account:
    """An ordinary user of every host: same name and number on all of them."""

    name: str
    uid: int
    purpose: str

    @property
    def home(self) -> str:
        """The home directory inside a host."""
        return f"/home/{self.name}"


PILOT = Account("pilot", 1500, "owns the site's jobs, that is the pilots")
USER = Account("user", 1501, "submits jobs to the user pool")
FACTORY = Account("factory", 1502, "runs the factory's server")
ACCOUNTS = (PILOT, USER, FACTORY)
# Every host gives HTCondor's directories to this account; where its package is missing, nobody else makes it.
CONDOR = Account("condor", 1490, "would own HTCondor's directories")


@dataclass(frozen=True, slots=True)
class TreeRecipe:
    """All that decides what is in a tree. A change of any field gives another digest, so another tree."""

    name: str
    suite: str
    sources: tuple[str, ...]
    preferences: str
    packages: tuple[str, ...]
    not_unpacked: tuple[str, ...]
    accounts: tuple[Account, ...]
    edition: int


NODE = TreeRecipe(
    name="tree-debian13",
    suite="trixie",
    sources=(f"deb {MIRROR} trixie main", f"deb {MIRROR} sid main"),
    preferences=APPTAINER_PIN,
    packages=HTCONDOR + CONTAINERS + SYSTEM + SERVER,
    not_unpacked=NOT_UNPACKED,
    accounts=ACCOUNTS,
    edition=1,
)

# Slurm has a tree of its own: what is installed beside a pilot changes what its probes find.
SLURM = TreeRecipe(
    name="tree-slurm",
    suite="trixie",
    sources=(f"deb {MIRROR} trixie main",),
    preferences="",
    packages=("slurmctld", "slurmd", "slurm-client", "munge", "iproute2", "procps", "python3", "tini"),
    not_unpacked=NOT_UNPACKED,
    accounts=(CONDOR, *ACCOUNTS),
    edition=1,
)

# A Slurm site on which pilots find HTCondor; its login node has a sshd.
SLURM_WITH_HTCONDOR = replace(
    SLURM,
    name="tree-slurm-condor",
    packages=(*SLURM.packages, *HTCONDOR, "openssh-client", "openssh-server"),
    accounts=ACCOUNTS,
)

# HTCondor as the next Debian will have it, 25.x and newer: an access point needs no more than its daemons.
NEWEST_HTCONDOR = TreeRecipe(
    name="tree-newest-htcondor",
    suite="forky",
    sources=(f"deb {MIRROR} forky main",),
    preferences="",
    packages=(*HTCONDOR, "iproute2", "procps", "tini"),
    not_unpacked=NOT_UNPACKED,
    accounts=ACCOUNTS,
    edition=1,
)


def ensure(recipe: TreeRecipe = NODE, root: Path | None = None) -> Path:
    """Return the tree of a recipe, building it when the cache does not hold it (about a minute).

    Raises CommandError when mmdebstrap fails; the message ends with its last lines.
    """
    return cache.build_once(
        root if root is not None else cache.directory(),
        recipe.name,
        asdict(recipe),
        lambda target: _build(recipe, target),
    )


def _build(recipe: TreeRecipe, target: Path) -> None:
    preferences = target.with_name(target.name + ".preferences")
    preferences.write_text(recipe.preferences, encoding="utf-8")
    try:
        call(
            _mmdebstrap(recipe, target, preferences),
            stdin="\n".join(recipe.sources) + "\n",
            timeout_seconds=BUILD_TIMEOUT_SECONDS,
        )
    finally:
        preferences.unlink()
    for account in recipe.accounts:
        call(_useradd(target, account))


def _mmdebstrap(recipe: TreeRecipe, target: Path, preferences: Path) -> list[str]:
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        f"--keyring={KEYRING}",
        f'--aptopt=APT::Default-Release "{recipe.suite}"',
        '--aptopt=APT::Install-Recommends "false"',
        # The release file of unstable may be past its date here; signatures are checked all the same.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        f"--setup-hook=copy-in {preferences} /tmp",
        '--setup-hook=mkdir -p "$1/etc/apt/preferences.d"',
        f'--setup-hook=mv "$1/tmp/{preferences.name}" "$1/etc/apt/preferences.d/testbed"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.not_unpacked),
        f"--include={','.join(recipe.packages)}",
        recipe.suite,
        str(target),
        "-",
    ]


def _useradd(tree: Path, account: Account) -> list[str]:
    return [
        "useradd",
        f"--root={tree}",
        f"--uid={account.uid}",
        "--user-group",
        "--create-home",
        "--shell=/bin/bash",
        f"--comment={account.purpose}",
        account.name,
    ]
