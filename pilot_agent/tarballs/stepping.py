"""One bounded step on the way to what is published, in a child: what hangs on a dead mount or a slow server costs a
deadline, and never the pilot."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from pilot_agent.calls import call
from pilot_agent.codec import from_json, to_json
from pilot_agent.containers.store.errors import StoreError
from pilot_agent.model import Failure, FailureKind, Json, PilotError

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp
    from pilot_agent.tarballs.publication import Publication

ANSWER_BYTES = 8 << 20
GRACE_SECONDS = 5.0
"""More than the step gives itself: it ends with words of its own where it can."""


def step(
    publication: Publication, what: str, function: Callable[[], Json], *, seconds: float, wake: WakeUp | None = None
) -> Json:
    """What ``function`` returns, as JSON, run in a forked child that ends with this process.

    Raises the ``PilotError`` that it raises, or one (``.hung``, ``.died`` of the publication's
    code) for its death; ``Interrupted``.
    """
    parent = os.getpid()

    def work() -> Json:
        from pilot_agent.probes.kernel.namespaces import end_with_parent

        end_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        try:
            return {"value": to_json(function())}
        except PilotError as error:
            return {"failure": to_json(error.failure)}
        except StoreError as error:
            return {"failure": to_json(of_the_download(error, publication))}
        except Exception:  # noqa: BLE001 - whoever waits is told, and nothing of this process goes on
            return {"defect": traceback.format_exc()[-2000:]}

    allowed = seconds + GRACE_SECONDS
    called = call(work, name=what, deadline_seconds=allowed, output_limit_bytes=ANSWER_BYTES, wake=wake)
    answer, result = called.value, called.ended
    if answer is None:
        if result.timed_out or result.abandoned is not None:
            hint = "the site looks at the file systems of this node: one of them does not answer"
            message = f"{what} did not end within {seconds:g} s"
            raise _error(publication, "hung", message, hint)
        message, hint = f"{what} broke off: {result.explain()}", "the site looks for lack of memory"
        raise _error(publication, "died", message, hint)
    if "defect" in answer:
        message = f"{what}: {answer['defect'].strip().splitlines()[-1]}"
        raise PilotError(Failure(FailureKind.INTERNAL, "internal.bug", message, stage=publication.stage))
    if "failure" in answer:
        raise PilotError(from_json(Failure, answer["failure"]))
    return answer["value"]


def of_the_download(error: StoreError, publication: Publication) -> Failure:
    """The failure that an error of the image store's download means where no image was fetched."""
    code = error.code.replace("image.", "artifact.", 1)
    hint = f"the factory corrects {publication.place_key}, or whoever publishes the tarballs puts the file there"
    if error.temporary:
        hint = "the site looks at the node's way to the server"
    if code == "artifact.digest":
        hint = "whoever publishes the tarballs finds out who changed the file; a new index needs a new "
        hint += publication.digest_key
    if error.code == "disk.full":
        hint = error.hint
    return Failure(error.kind, code, error.message, hint, stage=publication.stage, retry=error.temporary)


def _error(publication: Publication, code: str, message: str, hint: str) -> PilotError:
    code = f"{publication.code}.{code}"
    return PilotError(Failure(FailureKind.NODE_RESOURCE, code, message, hint, stage=publication.stage, retry=True))
