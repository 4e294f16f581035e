"""The keys of ``cvmfs``, and what a site demands of it."""

from __future__ import annotations

from pilot_agent.config_kinds import CVMFS_RUNGS, CVMFS_WISHES, Key, Kind

CVMFS_KEYS: tuple[Key, ...] = (
    Key(
        "cvmfs.use",
        Kind.STRING,
        "preferred",
        "what the VO wants of CVMFS: none at all, only what the site has mounted already, as much as can be had, or "
        "no pilot where it cannot be had",
        choices=CVMFS_WISHES,
    ),
    Key("cvmfs.repositories", Kind.REPOSITORIES, [], "repositories that must answer", "append"),
    Key(
        "cvmfs.rungs",
        Kind.STRINGS,
        None,
        "ways in which CVMFS may come to the node: mounted by the site, by cvmfsexec in a user namespace, by mountrepo "
        "with fusermount, inside each container; otherwise every way",
        "all",
        choices=CVMFS_RUNGS,
    ),
    Key(
        "cvmfs.distribution",
        Kind.STRING,
        None,
        "CVMFS's client for this node, as cvmfsexec's makedist makes it: its directory or a tar archive of it; without "
        "one and without cvmfs.distributions the pilot mounts nothing itself",
    ),
    Key(
        "cvmfs.distributions",
        Kind.TARBALLS,
        None,
        "where published distributions of CVMFS's client are, of which the pilot takes the one that works on its node: "
        "a directory of the node with an index.json, or the https:// or http:// address of an index, which needs "
        "cvmfs.distributions_sha256",
    ),
    Key(
        "cvmfs.distributions_sha256",
        Kind.SHA256,
        None,
        "SHA-256 of the index of distributions, 64 hexadecimal digits",
    ),
    Key(
        "cvmfs.distribution_source",
        Kind.STRING,
        "any",
        "whose configuration of CVMFS the distribution must carry, as upstream's makedist names them",
        choices=("any", "osg", "egi", "default", "none"),
    ),
    Key(
        "cvmfs.distribution_cache",
        Kind.STRING,
        None,
        "directory of the node where fetched distributions are kept, shared by the pilots of one account; otherwise "
        "none is",
    ),
    Key(
        "cvmfs.distribution_cache_mib",
        Kind.INTEGER,
        512,
        "most that kept distributions may take, MiB",
        "smallest",
        minimum=1,
    ),
    Key(
        "cvmfs.distribution_seconds",
        Kind.NUMBER,
        300,
        "time for fetching and unpacking one distribution, seconds",
        "smallest",
        minimum=1,
    ),
    Key(
        "cvmfs.look_period_seconds",
        Kind.NUMBER,
        60,
        "how often to look whether the repositories that answered still do, seconds",
        minimum=1,
    ),
    Key(
        "cvmfs.look_timeout_seconds",
        Kind.NUMBER,
        20,
        "a repository that does not answer for so long has gone away, seconds",
        minimum=1,
    ),
)
