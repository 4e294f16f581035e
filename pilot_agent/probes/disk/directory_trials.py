"""All candidate directories tried at the same time: one child for each file system, as one that hangs does so as a
whole, and a child costs milliseconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from pilot_agent.codec import to_json
from pilot_agent.model import Json
from pilot_agent.probes.answers import NOT_RECORDED, Answer
from pilot_agent.probes.disk.directory_trial import try_directory
from pilot_agent.probes.mountinfo import Mount, mount_of
from pilot_agent.probes.node import Node

WORKSPACE = "workspace"
"""The key of the workspace among the answers: its path is another one in every run."""

_MOST_LINKS = 40


def try_all(
    node: Node, paths: Sequence[str], mounts: Sequence[Mount], *, seconds: float, workspace: str | None = None
) -> dict[str, Answer]:
    """The raw answer of each directory (a ``DirectoryTrial`` as JSON); those that are no absolute paths are not tried.

    That of the ``workspace`` is under ``WORKSPACE``, in a recording wherever it was.
    """
    places = {path: path for path in paths if is_absolute(path)}
    if workspace is not None and node.live:
        places[WORKSPACE] = workspace
    groups: dict[str, dict[str, str]] = {}
    for key, path in places.items():
        groups.setdefault(_group_of(node, path, mounts), {})[key] = path
    trials = {trial_key(group): _trial(members, mounts) for group, members in groups.items()}
    answers = node.ask_all(trials, seconds=seconds) if trials else {}
    found = dict.fromkeys(paths, Answer())
    for group, members in groups.items():
        answer = answers[trial_key(group)]
        found |= {key: _part(answer, key) for key in members}
        if isinstance(answer.value, Mapping) and WORKSPACE in answer.value:
            found[WORKSPACE] = _part(answer, WORKSPACE)
    return found


def trial_key(point: str) -> str:
    """What the active test of all candidates on a mount is called in a recording."""
    return f"scratch on {point}"


def is_absolute(path: str) -> bool:
    """True for a path that can be tried."""
    return path.startswith("/") and "\0" not in path


def resolve(node: Node, path: str, mounts: Sequence[Mount]) -> str:
    """``path`` without links, as far as they can be followed without a look at a file system that may hang."""
    waiting = [part for part in os.path.normpath(path).split("/") if part][::-1]
    done, links = "/", 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            done = os.path.dirname(done)
            continue
        step = os.path.join(done, part)
        mount = mount_of(mounts, step)
        if mount is not None and mount.shared:
            return os.path.join(step, *waiting[::-1])
        target = node.link(step)
        if target is None:
            done = step
            continue
        links += 1
        if links > _MOST_LINKS:
            return path
        waiting += [each for each in target.split("/") if each not in ("", ".")][::-1]
        done = "/" if target.startswith("/") else done
    return done


def _group_of(node: Node, path: str, mounts: Sequence[Mount]) -> str:
    mount = mount_of(mounts, resolve(node, path, mounts)) if mounts else None
    return mount.point if mount else path


def _trial(members: Mapping[str, str], mounts: Sequence[Mount]) -> Callable[[], Json]:
    def try_members() -> Json:
        found: dict[str, Json] = {}
        proven = False
        for key, path in members.items():
            # A file system allows programs or not as a whole.
            tried = try_directory(path, mounts, run_program=not proven)
            proven = proven or (tried.directory and not (tried.make or tried.write or tried.execute))
            found[key] = to_json(tried)
        return found

    return try_members


def _part(answer: Answer, key: str) -> Answer:
    if answer.problem or not answer.recorded:
        return answer
    value = answer.value if isinstance(answer.value, Mapping) else {}
    return Answer(value[key]) if key in value else Answer(problem=NOT_RECORDED, recorded=False)
