"""What the guard becomes for a job whose image is not on the node, or not of the dictionary: fetch it, prove it once,
and tell HTCondor where it is.

Called with ``SETTINGS STARTER ATTRIBUTE REFERENCE [PLATFORM]`` by HTCondor's hook before a job's files come. It
prints ClassAd lines for the job's ad and ``HookStatusCode``: nothing for an image that is there, ``HELD`` for what the
job's owner must change, ``GIVEN_BACK`` for everything else, so that the job goes elsewhere. HTCondor gives such hooks
no deadline; the store's own ends it.

An image of the node that a job names by its path stays where it is; that a program ran in it is remembered for a while.
HTCondor itself would start such a job in an image that is not there, and the job would end with 255.

A job that was given back would come to the same slot with the next negotiation. So the keeper is told for how long no
job that wants this image shall be taken, and the store remembers it for other pilots of this node.
"""

from __future__ import annotations

import os
import sys

from pilot_agent.containers.cvmfs_paths import physical, resolve
from pilot_agent.containers.store.errors import NO_HOLDER, NODE, RecentFailureError, StoreError
from pilot_agent.containers.store.failures import FIRST_SECONDS
from pilot_agent.containers.store.named import NAMED
from pilot_agent.containers.store.store import Store
from pilot_agent.environment import clean_environment
from pilot_agent.light import dumps, loads
from pilot_agent.startd.classad import printable, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot_agent.containers.store.store import StoredImage

HELD, GIVEN_BACK = 1, 400
"""HookStatusCode: HTCondor holds a job for 1 to 299 and gives it back from 300 on."""

MESSAGE_LIMIT = 600
GRACE_SECONDS = 30
"""After its deadline a fetch still ends its children, and the proof has its own; then the kernel ends this process."""

# What is wrong with such an image of the node is the same on every other: its owner must act.
WRONG_EVERYWHERE = ("image.format", "image.incomplete")
# A job may do without these.
NOT_NEEDED = ("image.no_shell", "image.no_program", "image.tmp_not_writable", "image.unpacked_for_each_job")


def main(arguments: list[str]) -> int:
    """0 with the job's new line printed, or with the reason why it has none. ``--verify SETTINGS``: whether this hook
    could do its work."""
    verify = arguments[0] == "--verify"
    with open(arguments[1] if verify else arguments[0], encoding="utf-8") as file:
        settings = loads(file.read())
    os.chdir("/")
    if verify:
        # Images of the node are tried without the store, too.
        if settings["fetches"]:
            _store(settings).list()
        return 0
    _end_at(settings["deadline_seconds"] + GRACE_SECONDS)
    _, starter, attribute, reference, *platform = arguments
    digest = _pin(settings["dictionary"].get(reference) or {}, *platform)
    place = ""
    try:
        if reference.startswith("/"):
            real = _without_links(reference, settings["cvmfs"])
            _try_there(settings, reference, real)
            there = physical(real, settings["cvmfs"])
            place = f"{attribute} = {string(there)}\n" if there != real else ""
        else:
            place = f"{attribute} = {string(_fetched(settings, reference, digest, int(starter)).path)}\n"
    except StoreError as error:
        # What the pilot's own dictionary names is no fault of the job.
        if not error.temporary and reference not in settings["dictionary"]:
            return _told(HELD, reference, error)
        return _given_back(settings, reference, digest, error)
    except Exception as error:  # noqa: BLE001 - a job must not be held for a defect of the pilot
        defect = StoreError("image_hook.defect", NODE, f"{type(error).__name__}: {error}", "", temporary=True)
        return _given_back(settings, reference, digest, defect)
    sys.stdout.write(f"{place}HookStatusCode = 0\n")
    return 0


def _pin(pins: dict[str, str], platform: str = "") -> str:
    """The digest that the dictionary wants: that of the platform, else (the job names the reference itself) the first;
    empty without."""
    return pins.get(platform, next(iter(pins.values()), ""))


def _fetched(settings: dict[str, Any], reference: str, digest: str, starter: int) -> StoredImage:
    store = _store(settings)
    image = store.fetch(
        reference,
        digest=digest,
        deadline_seconds=settings["deadline_seconds"],
        lease_pid=starter,
        lease_lock=_lock(settings),
        heed_failures=True,
    )
    if settings["runtime_name"] not in image.proven:
        failed = store.recent_failure(image)
        if failed is not None:
            raise failed
        _prove(settings, image)
        store.mark_proven(image, settings["runtime_name"])
    return image


def _without_links(path: str, mount_point: str) -> str:
    """Where CVMFS is mounted elsewhere, the runtime could not follow a link that says /cvmfs. What leads nowhere is for
    the runtime to tell."""
    if physical(path, mount_point) == path:
        return path
    try:
        return resolve(path, mount_point)
    except OSError:
        return path


def _try_there(settings: dict[str, Any], path: str, real: str) -> None:
    """Run a program in an image of the node that the job named, and that is ``real`` without links, unless that went
    well a while ago. Raises ``StoreError``."""
    store = _store(settings)
    try:
        if store.ran_lately(path, settings["runtime_name"]):
            return
    except StoreError as error:
        # The image is not in the store: one that cannot be used remembers nothing, and that is all.
        if isinstance(error, RecentFailureError) or not error.temporary:
            raise
    from pilot_agent.containers.first_use import prove_image

    diagnosis = prove_image(settings, real)
    if diagnosis is None:
        try:
            store.note_ran(path, settings["runtime_name"])
        except StoreError:
            return
    elif diagnosis.code not in NOT_NEEDED:
        temporary = diagnosis.code not in WRONG_EVERYWHERE
        raise StoreError(diagnosis.code, diagnosis.kind.value, diagnosis.message, diagnosis.hint, temporary=temporary)


def _lock(settings: dict[str, Any]) -> str:
    """The lock that this job's starter holds as long as it lives; empty where its process can be seen by all."""
    try:
        with open(settings["starter_lock"], encoding="utf-8") as file:
            return file.read(256).strip()
    except FileNotFoundError:
        return ""


def _prove(settings: dict[str, Any], image: StoredImage) -> None:
    """Run a program in a new image, with the options of jobs. Raises ``StoreError``."""
    # Paid once for each image: these modules cost more than the look at an image that is there.
    from pilot_agent.containers.first_use import prove_image
    from pilot_agent.containers.messages import BIND_TARGET

    diagnosis = prove_image(settings, image.path)
    if diagnosis is not None:
        # The binds are the site's, and others elsewhere.
        temporary = diagnosis.scope == "node" or diagnosis.code == BIND_TARGET
        raise StoreError(diagnosis.code, diagnosis.kind.value, diagnosis.message, diagnosis.hint, temporary=temporary)


def _store(settings: dict[str, Any], form: str = "") -> Store:
    directory = settings["store"]
    return Store(
        directory,
        runtime=settings["runtime"],
        environment=clean_environment(os.environ, home=directory, temporary=directory) | settings["environment"],
        form=form or settings["form"],
        limit_mib=settings["limit_mib"],
    )


def _given_back(settings: dict[str, Any], reference: str, digest: str, error: StoreError) -> int:
    if error.code != NO_HOLDER:
        try:
            _announce(settings["failures"], reference, _pause(settings, reference, digest, error))
        except OSError as problem:  # the job is told what is wrong all the same
            sys.stderr.write(dumps({"hook": "image", "announce": str(problem)}) + "\n")
    return _told(GIVEN_BACK, reference, error)


def _pause(settings: dict[str, Any], reference: str, digest: str, error: StoreError) -> int:
    """For how many seconds nobody should try this image again."""
    if isinstance(error, RecentFailureError):
        return error.seconds_left
    try:
        store = _store(settings, NAMED if reference.startswith("/") else "")
        return store.note_failure(reference, digest, error)
    except StoreError:  # a store that cannot be used remembers nothing
        return FIRST_SECONDS


def _announce(fifo: str, reference: str, seconds: int) -> None:
    """Tell the keeper that no job with this image shall come for so long. Raises ``OSError`` when there is none."""
    descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # Shorter than PIPE_BUF: lines of several hooks do not mix.
        os.write(descriptor, dumps([reference, seconds]).encode() + b"\n")
    finally:
        os.close(descriptor)


def _told(code: int, reference: str, error: StoreError) -> int:
    words = f"{error.code}: {reference}: {error.message}" + (f"; {error.hint}" if error.hint else "")
    sys.stdout.write(f"HookStatusCode = {code}\nHookStatusMessage = {string(printable(words)[:MESSAGE_LIMIT])}\n")
    sys.stderr.write(dumps({"hook": "image", "status": code, **error.to_json()}) + "\n")
    return 0


def _end_at(seconds: float) -> None:
    """Let the kernel end this process after so many seconds: no handler runs in a call that hangs. HTCondor gives the
    job of a hook that died by a signal back."""
    from pilot_agent.light import signal

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
