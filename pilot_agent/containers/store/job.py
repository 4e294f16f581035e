"""The image of one job, for the hook that prepares it: ``fetch_for_job`` prints one line of JSON and ends in time.

Exit codes: 0 with the image (``StoredImage.to_json``); 1 with an error that is the user's; 3 with a temporary one, the
job goes elsewhere (``StoreError.to_json`` both). A death by signal is temporary too: the kernel ends this process when
it hangs past its deadline, on a dead mount for example, and its children end with it.
"""

from __future__ import annotations

import os
import sys

from pilot_agent.containers.store.errors import NODE, StoreError
from pilot_agent.containers.store.store import FETCH_SECONDS, STALL_SECONDS, Store
from pilot_agent.environment import clean_environment
from pilot_agent.light import dumps, signal

USERS, TEMPORARY = 1, 3
GRACE_SECONDS = 10.0
"""After its deadline a fetch still ends its children and removes what they left."""

OPTIONS = (
    *("--store", "--reference", "--digest", "--runtime", "--form", "--limit-mib", "--deadline", "--stall"),
    *("--lease-pid", "--progress"),
)
AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "X509_CERT_DIR")


def fetch_for_job(argv: list[str]) -> int:
    """Fetch what the options say (``--store DIR --reference REF --runtime PATH``, and optionally ``--digest``,
    ``--form file|directory``, ``--limit-mib``, ``--deadline`` and ``--stall`` in seconds, ``--lease-pid``, and
    ``--progress DESCRIPTOR`` for one line of JSON for each step); each option has a value. The exit code."""
    try:
        options = _options(argv)
        deadline = float(options.get("--deadline", FETCH_SECONDS))
        store = Store(
            options["--store"],
            runtime=options["--runtime"],
            environment=_environment(options["--store"]),
            form=options.get("--form", "file"),
            limit_mib=int(options.get("--limit-mib", 0)) or None,
            stall_seconds=float(options.get("--stall", STALL_SECONDS)),
        )
        lease, listener = options.get("--lease-pid"), options.get("--progress")
        said = int(listener) if listener else None
    except (KeyError, ValueError, IndexError) as error:
        sys.stderr.write(f"wrong options ({error}); known: {' '.join(OPTIONS)}\n")
        return 2
    _end_at(deadline + GRACE_SECONDS)

    def tell(phase: str, done: int, total: int | None, message: str) -> None:
        if said is not None:
            line = dumps({"phase": phase, "done": done, "total": total, "message": message}) + "\n"
            try:
                os.write(said, line.encode())
            except OSError:  # nobody listens any more
                return

    try:
        image = store.fetch(
            options["--reference"],
            digest=options.get("--digest", ""),
            deadline_seconds=deadline,
            lease_pid=int(lease) if lease else None,
            progress=tell,
        )
    except StoreError as error:
        return _answer(error.to_json(), TEMPORARY if error.temporary else USERS)
    except Exception as error:  # noqa: BLE001 - a job must not be held for a defect of the pilot
        message = f"{type(error).__name__}: {error}"
        defect = StoreError("store.defect", NODE, message, "report it with this line", temporary=True)
        return _answer(defect.to_json(), TEMPORARY)
    return _answer(image.to_json(), 0)


def main() -> int:
    """``fetch_for_job`` with the arguments of the process."""
    return fetch_for_job(sys.argv[1:])


def _environment(home: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in AUTHORITIES if name in os.environ}
    return clean_environment(os.environ, home=home, temporary=home) | kept


def _options(argv: list[str]) -> dict[str, str]:
    names, values = argv[::2], argv[1::2]
    unknown = [name for name in names if name not in OPTIONS]
    if unknown or len(names) != len(values):
        raise ValueError(", ".join(unknown) or "the last one has no value")
    found = dict(zip(names, values, strict=True))
    if found.get("--form", "file") not in ("file", "directory"):
        raise ValueError("--form is file or directory")
    return found


def _end_at(seconds: float) -> None:
    """Let the kernel end this process after so many seconds: no handler runs in a call that hangs."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _answer(data: object, code: int) -> int:
    sys.stdout.write(dumps(data) + "\n")
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
