"""The keys of ``cvmfs``, and what a site demands of it."""

from __future__ import annotations

from pilot_agent.config_kinds import CVMFS_CACHES, CVMFS_DIRECT, CVMFS_RUNGS, CVMFS_WISHES, Key, Kind

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
        "a directory of the node with an index.json, the https:// or http:// address of an index, which needs "
        "cvmfs.distributions_sha256, or `signed`: those among the signed artifacts",
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
    Key(
        "cvmfs.compare_period_seconds",
        Kind.NUMBER,
        900,
        "how often to compare the revision that a repository serves with the one that its server has published, "
        "seconds; 0: never. Without a proxy no server is asked where cvmfs.direct is never",
        minimum=0,
    ),
    Key(
        "cvmfs.proxies",
        Kind.CVMFS_PROXIES,
        [],
        "proxies for the pilot's own CVMFS client, the first that works is taken: each http://host:port, several of "
        "equal rank with a bar between them, or auto (WPAD); without any those that the probes found working",
    ),
    Key(
        "cvmfs.direct",
        Kind.STRING,
        None,
        "whether the pilot's own CVMFS client goes to the servers without a proxy: never, only when no proxy works, or "
        "always; otherwise fallback. Never counts whoever says it",
        "all",
        choices=CVMFS_DIRECT,
    ),
    Key(
        "cvmfs.cache",
        Kind.STRING,
        "private",
        "whose the cache of the pilot's own CVMFS client is: this pilot's alone, shared with pilots of the account "
        "(the end of one ends the mounts of all), or alien: files for everybody that nobody ever removes",
        choices=CVMFS_CACHES,
    ),
    Key(
        "cvmfs.cache_directory",
        Kind.PLAIN_DIRECTORY,
        None,
        "where caches of the pilots' own CVMFS client lie, on a disk of the node; otherwise in the workspace",
    ),
    Key(
        "cvmfs.cache_mib",
        Kind.INTEGER,
        4000,
        "the most that the cache of the pilot's own CVMFS client may take, MiB",
        "smallest",
        minimum=1,
    ),
    Key(
        "cvmfs.cache_share",
        Kind.NUMBER,
        0.5,
        "the most that this cache may take of the free space of its disk, a share of 1",
        "smallest",
        minimum=0.01,
        maximum=1,
    ),
    Key(
        "cvmfs.keys",
        Kind.STRINGS,
        [],
        "files with public keys of repositories, put into the client's /etc/cvmfs/keys: root's or this account's, not "
        "writable by others",
        "append",
    ),
    Key(
        "cvmfs.parameters",
        Kind.CVMFS_PARAMETERS,
        {},
        "further parameters of the pilot's own CVMFS client by name, such as CVMFS_TIMEOUT",
        "join",
    ),
    Key(
        "cvmfs.repository_parameters",
        Kind.CVMFS_REPOSITORY_PARAMETERS,
        {},
        "repository -> parameters of the pilot's own CVMFS client for it alone",
        "join",
    ),
)
