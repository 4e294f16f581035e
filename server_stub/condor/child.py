"""What the child does with HTCondor's bindings. Nothing else of the server loads them for an access point.

Every question may name the access point: ``schedd`` (its name) and ``pool`` (its collector's address); without both it
is the one of this machine. An ad is given as plain JSON: expressions are evaluated, what is undefined is left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Question = Mapping[str, Any]
AD_LIMIT_BYTES = 1 << 20
TEXT_LIMIT_CHARACTERS = 2048


def main(argv: Sequence[str]) -> int:
    """``OPERATION FILE DESCRIPTOR``: answer the question in the file to the descriptor."""
    operation, path, descriptor = argv
    with open(path, "rb") as file:
        question = json.load(file)
    try:
        answer: dict[str, Any] = {"answer": OPERATIONS[operation](question)}
    except Exception as error:  # noqa: BLE001 - whatever the bindings raise, the server is told in their words
        answer = {"failed": _said(error)}
    with os.fdopen(int(descriptor), "w", encoding="utf-8") as file:
        json.dump(answer, file)
    # The library's own threads and atexit handlers have hung before: what was asked is answered.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def submit(question: Question) -> list[dict[str, Any]]:
    """``{"descriptions": [path, ...]}`` -> for each in this order ``{"cluster", "process"}`` or ``{"failed"}``."""
    import htcondor2

    answers: list[dict[str, Any]] = []
    try:
        schedd = _schedd(question)
    except Exception as error:  # noqa: BLE001 - then it is certain that nothing was submitted
        return [{"failed": _said(error)} for _ in question["descriptions"]]
    for path in question["descriptions"]:
        try:
            with open(path, encoding="utf-8") as file:
                made = schedd.submit(htcondor2.Submit(file.read()))
            answers.append({"cluster": int(made.cluster()), "process": int(made.first_proc())})
        except Exception as error:  # noqa: BLE001 - those that were submitted must be told
            answers.append({"failed": _said(error)})
    return answers


def parse(question: Question) -> dict[str, str]:
    """``{"texts": {name: text}}`` -> for each submit description by its name what is wrong with it, or nothing. No
    access point is asked."""
    import htcondor2

    found = {}
    for name, text in question["texts"].items():
        try:
            htcondor2.Submit(text)
            found[name] = ""
        except Exception as error:  # noqa: BLE001 - one that is wrong says nothing of the others
            found[name] = " ".join(str(error).split()) or type(error).__name__
    return found


def queue(question: Question) -> list[dict[str, Any]]:
    """``{"constraint", "attributes"}`` -> the ads of the jobs in the queue."""
    ads = _schedd(question).query(constraint=question["constraint"], projection=list(question["attributes"]))
    return [_plain(ad, question["attributes"]) for ad in ads]


def history(question: Question) -> list[dict[str, Any]]:
    """``{"constraint", "attributes", "most"}`` -> the ads of jobs that left the queue, the latest first."""
    found = _schedd(question).history(
        constraint=question["constraint"], projection=list(question["attributes"]), match=int(question["most"])
    )
    return [_plain(ad, question["attributes"]) for ad in found]


def act(question: Question) -> dict[str, int]:
    """``{"action": "Remove|RemoveX|Release|Hold", "jobs": ["1.0", ...], "reason"}`` -> how many of them it changed
    (``changed``), refused (``denied``), and did not find (``unknown``)."""
    import htcondor2

    action = getattr(htcondor2.JobAction, question["action"])
    # A bare string is dropped by the bindings; with the code they take both.
    told = _schedd(question).act(action, list(question["jobs"]), reason=(question["reason"], 0))
    names = {"changed": "TotalSuccess", "denied": "TotalPermissionDenied", "unknown": "TotalNotFound"}
    return {name: int(told[attribute]) for name, attribute in names.items()} if told is not None else {"changed": 0}


def schedd_name(question: Question) -> str:
    """``{}`` -> the name of the access point of this machine, from the ad that it writes to a file."""
    import classad2
    import htcondor2

    with open(htcondor2.param["SCHEDD_DAEMON_AD_FILE"], encoding="utf-8", errors="replace") as file:
        return str(classad2.parseOne(file.read(AD_LIMIT_BYTES)).get("Name", ""))


def versions(question: Question) -> dict[str, str]:
    """``{}`` -> the versions of the bindings and, where one answers, of the access point."""
    import htcondor2

    told = {"bindings": str(htcondor2.version())}
    location = _location(question)
    return {**told, "schedd": str(location["CondorVersion"])} if location is not None else told


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _location(question: Question) -> Any:
    import htcondor2

    collector = htcondor2.Collector(question["pool"]) if question.get("pool") else htcondor2.Collector()
    if question.get("schedd"):
        return collector.locate(htcondor2.DaemonType.Schedd, question["schedd"])
    return collector.locate(htcondor2.DaemonType.Schedd)


def _schedd(question: Question) -> Any:
    import htcondor2

    return htcondor2.Schedd(_location(question))


def _plain(ad: Any, attributes: Sequence[str]) -> dict[str, Any]:
    """The attributes of an ad that have a value; a text as far as anybody reads it. Some of them a site said."""
    found = {}
    for name in attributes:
        value = None
        with contextlib.suppress(Exception):  # what is no UTF-8, or cannot be evaluated, is no value
            value = ad.get(name)
            if hasattr(value, "eval"):
                value = value.eval()
        # What is undefined, or an error, the library gives as a kind of integer.
        if type(value) in (str, int, float, bool):
            found[name] = value[:TEXT_LIMIT_CHARACTERS] if isinstance(value, str) else value
    return found


OPERATIONS: dict[str, Callable[[Question], Any]] = {
    "submit": submit,
    "parse": parse,
    "queue": queue,
    "history": history,
    "act": act,
    "schedd": schedd_name,
    "versions": versions,
}
"""By the name in the question; what a function takes and gives is in its words."""
