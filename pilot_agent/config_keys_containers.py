"""The keys of ``containers``: the runtime, the images, what jobs get inside."""

from __future__ import annotations

from pilot_agent.config_kinds import IMAGE_SOURCES, Key, Kind

CONTAINER_KEYS: tuple[Key, ...] = (
    Key("containers.runtime", Kind.STRING, None, "path of apptainer or singularity; otherwise it is searched"),
    Key(
        "containers.search",
        Kind.STRINGS,
        ["path", "system", "condor", "cvmfs", "modules"],
        "where runtimes are looked for, in this order: the search path, /usr/bin, HTCondor's own, CVMFS, environment "
        "modules; containers.runtime comes before all",
        choices=("path", "system", "condor", "cvmfs", "modules"),
    ),
    Key(
        "containers.default",
        Kind.PLATFORM,
        None,
        "platform of jobs that name none, or weights, 75% el9, 25% el8, from which each pilot draws; otherwise the "
        "platform called default, or the dictionary's first",
    ),
    Key(
        "containers.sources",
        Kind.STRINGS,
        None,
        "where images of the dictionary may come from; otherwise from everywhere",
        "all",
        choices=IMAGE_SOURCES,
    ),
    Key(
        "containers.prefixes",
        Kind.PREFIXES,
        None,
        "directories and beginnings of references that images of the dictionary must lie under; otherwise any",
        "all",
    ),
    Key(
        "containers.digests",
        Kind.STRING,
        None,
        "whether files and remote images of the dictionary must have a digest; otherwise optional",
        "all",
        choices=("optional", "required"),
    ),
    Key(
        "containers.binds",
        Kind.BINDS,
        None,
        "binds of every job container, source[:destination[:ro]], or {source, destination, read_only, required}",
        "all",
    ),
    Key(
        "containers.scratch",
        Kind.SCRATCH,
        "/srv",
        "where a job's scratch directory, which is its home and working directory, appears in its container",
    ),
    Key("containers.bind_hosts", Kind.BOOLEAN, True, "bind /etc/hosts into job containers"),
    Key("containers.bind_localtime", Kind.BOOLEAN, True, "bind /etc/localtime into job containers"),
    Key("containers.bind_cvmfs", Kind.BOOLEAN, True, "bind CVMFS at /cvmfs, where repositories answer"),
    Key("containers.bind_opencl", Kind.BOOLEAN, True, "bind /etc/OpenCL/vendors, where jobs can get GPUs"),
    Key(
        "containers.gpu_libraries",
        Kind.BOOLEAN,
        True,
        "let the runtime bring the GPU driver's libraries (--nv, --rocm) to jobs that get GPUs",
    ),
    Key(
        "containers.options",
        Kind.OPTIONS,
        None,
        "options of the container runtime for every job, each one word: --name or --name=value",
        "all",
    ),
    Key(
        "containers.allowed_binds",
        Kind.DIRECTORIES,
        None,
        "directories of the node that binds may come from, whoever asks for them; otherwise from everywhere",
        "all",
    ),
    Key(
        "containers.allowed_options",
        Kind.OPTIONS,
        None,
        "options of the container runtime that may be asked for; the site's list comes in place of the usual one, "
        "which has no option that gives jobs rights or paths",
        "all",
    ),
    Key(
        "containers.allowed_paths",
        Kind.STRINGS,
        [],
        "directories of the node whose images a job may name, beside /cvmfs and the dictionary",
    ),
    Key(
        "containers.forbidden_image",
        Kind.STRING,
        "hold",
        "what becomes of a job whose own image is not allowed here: hold, with the reason for its owner, or elsewhere: "
        "it goes back to the queue, and this pilot takes no job with that image for an hour",
        choices=("hold", "elsewhere"),
    ),
    Key(
        "containers.store_directory",
        Kind.STRING,
        None,
        "directory of the node where fetched images are kept, shared by the pilots of one account; otherwise each "
        "pilot has its own and removes it",
    ),
    Key("containers.store_mib", Kind.INTEGER, None, "most that fetched images may take, MiB", "smallest", minimum=1),
    Key("containers.fetch_seconds", Kind.NUMBER, 900, "time for fetching one image, seconds", "smallest", minimum=1),
)
