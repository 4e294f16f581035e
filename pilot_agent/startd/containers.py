"""The container knobs: HTCondor itself starts the jobs' containers, told by expressions over the job's ad."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pilot_agent import CVMFS
from pilot_agent.containers.selection import ANY_PLATFORM
from pilot_agent.startd.classad import LiteralError, config_literal, config_text, string
from pilot_agent.startd.confinement import COPY, RUNTIME, STARTER
from pilot_agent.startd.guard import GUARD
from pilot_agent.startd.links import LINKS, PATIENCE_SECONDS
from pilot_agent.startd.plan import FAILING_IMAGES_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilot_agent.startd.confinement import Confinement
    from pilot_agent.startd.plan import ContainerPlan

# HTCondor puts a job's image directly behind the extra arguments: no image can be an option.
END_OF_OPTIONS = "--"

# The keyword of the pilot's hooks. Set for the starter, a job cannot choose others.
HOOK_KEYWORD = "PILOT"

# The name under which the startd starts a job's starter. When the startd itself starts, it runs a starter without that
# name, which tests the runtime for 0.1 s and leaves ~/.apptainer behind (seen with HTCondor 23.9.6): the pilot has
# tested it already, so only the jobs' starters are told of it.
JOB_STARTER = "slot_type_{}"

_BIND_SEPARATORS = re.compile(r"[\s,]")


def container_knobs(container: ContainerPlan | None, slot_types: int = 1) -> dict[str, str]:
    """The knobs for so many types of slots; without a plan no job runs in a container and none can ask for one.

    Raises ``LiteralError`` for an image path, bind or option that a configuration cannot carry.
    """
    if container is None:
        return {
            "SINGULARITY": "",
            "SINGULARITY_JOB": "False",
            "PILOT_IMAGE": "undefined",
            "PILOT_CONTAINER_START": "(TARGET.REQUIRED_OS is undefined) || " + _any_platform(),
        }
    runtime = f"$(LIBEXEC)/{RUNTIME}"
    options = map(_checked_option, container.extra_arguments)
    starters = [JOB_STARTER.format(number) for number in range(1, slot_types + 1)]
    return {
        "SINGULARITY": "" if container.proven else runtime,
        **({f"{name}.SINGULARITY": runtime for name in starters} if container.proven else {}),
        "PILOT_IMAGE": config_text(image_expression(container)),
        "SINGULARITY_JOB": contained_expression(container),
        "SINGULARITY_IMAGE_EXPR": _place_expression(container),
        "SINGULARITY_TARGET_DIR": config_text(container.target_directory),
        # A job's own SingularityBind would reach the pilot's private directory: only the pilot's binds count.
        "SINGULARITY_BIND_EXPR": config_literal(",".join(_checked_bind(bind) for bind in container.binds)),
        "SINGULARITY_EXTRA_ARGUMENTS": config_literal(" ".join((*options, END_OF_OPTIONS))),
        "SINGULARITY_USE_PID_NAMESPACES": str(container.pid_namespace),
        # A plain switch, not an expression: it cannot tell an image that the pilot proved from a job's own.
        "SINGULARITY_RUN_TEST_BEFORE_JOB": str(container.test_before_job),
        "SINGULARITY_MOUNT_HOME": "False",
        "SINGULARITY_VERBOSITY": "-s",
        "PILOT_CONTAINER_START": _start_expression(container),
        **_hooks(),
        **(_confinement(container.confinement) if container.confinement is not None else {}),
    }


def image_expression(container: ContainerPlan) -> str:
    """The ClassAd expression for a job's image, undefined when the job names a platform that is not on offer.

    It decides as ``containers.selection.choose`` does: an image that the job names, then the first platform of its
    REQUIRED_OS that is on offer, in the job's order, then the default image.
    """
    default = container.images.get(container.default_platform or "")
    default_text = string(default) if default is not None else "undefined"
    words = (*container.images, *ANY_PLATFORM)
    anything = " || ".join(_first_known(word, words) for word in ANY_PLATFORM)
    expression = f"ifThenElse({anything}, {default_text}, undefined)"
    for name, image in reversed(list(container.images.items())):
        expression = f"ifThenElse({_first_known(name, words)}, {string(image)}, {expression})"
    named = 'isString(TARGET.REQUIRED_OS) && TARGET.REQUIRED_OS =!= ""'
    expression = f"ifThenElse({named}, {expression}, {default_text})"
    for attribute in ("ContainerImage", "SingularityImage"):
        expression = f"ifThenElse(isString(TARGET.{attribute}), TARGET.{attribute}, {expression})"
    return expression


def _first_known(word: str, known: Iterable[str]) -> str:
    """Whether ``word`` is the first of the ``known`` ones in the job's REQUIRED_OS.

    ClassAds can test whether a list has a member, not which member comes first: a regular expression passes over every
    unknown word. It has neither a backslash, which each syntax of ClassAds reads in another way, nor a dollar sign.
    """
    every = "|".join(map(_plain, known))
    pattern = f"^(?:(?!(?:{every})(?![^, ]))[^, ]*+[, ]++)*+{_plain(word)}(?![^, ])"
    return f'regexp({string(pattern)}, TARGET.REQUIRED_OS, "i")'


def _plain(word: str) -> str:
    """A platform's name, letters, digits and . _ + - only, as a pattern."""
    return re.sub("[.+]", r"[\g<0>]", word)


def runtime_environment(container: ContainerPlan | None, workspace: str) -> dict[str, str]:
    """Variables of every job's starter: what the runtime writes stays in the workspace, not in the account's home.

    Inside the container that path does not exist, so a nested runtime is given one that does.
    """
    if container is None:
        return {}
    prefix = "SINGULARITY" if os.path.basename(container.runtime) == "singularity" else "APPTAINER"
    return {
        f"{prefix}_CONFIGDIR": os.path.join(workspace, "tmp", "runtime"),
        f"{prefix}ENV_{prefix}_CONFIGDIR": f"{container.target_directory}/.{prefix.lower()}",
    }


def _place_expression(container: ContainerPlan) -> str:
    """The job's image where the node has it: jobs and dictionary say /cvmfs/... wherever that is mounted. The mount
    point has no character that a configuration could not carry (``cvmfs.rungs.PLAIN_PATH``)."""
    if container.cvmfs == CVMFS:
        return "$(PILOT_IMAGE)"
    place = f"strcat({string(container.cvmfs)}, substr($(PILOT_IMAGE), {len(CVMFS)}))"
    return f'ifThenElse(regexp("^{CVMFS}/", $(PILOT_IMAGE)), {place}, $(PILOT_IMAGE))'


def _any_platform() -> str:
    members = (f'stringListIMember({string(word)}, TARGET.REQUIRED_OS, ", ")' for word in ANY_PLATFORM)
    return "(" + " || ".join((*members, 'TARGET.REQUIRED_OS =?= ""')) + ")"


def contained_expression(container: ContainerPlan) -> str:
    """Which jobs run in a container."""
    if container.required:
        return "True"
    return "(TARGET.WantContainer =!= False) && isString($(PILOT_IMAGE))"


def _start_expression(container: ContainerPlan) -> str:
    """Which jobs may come: for some there is no image, and some images could not be had a moment ago."""
    failing = f'stringListMember($(PILOT_IMAGE), MY.{FAILING_IMAGES_ATTRIBUTE}, " ") =!= True'
    if container.required:
        return f"isString($(PILOT_IMAGE)) && ({failing})"
    known = f"isString($(PILOT_IMAGE)) || (TARGET.REQUIRED_OS is undefined) || {_any_platform()}"
    return f"({known}) && ((TARGET.WantContainer =?= False) || ({failing}))"


def _confinement(confinement: Confinement) -> dict[str, str]:
    directory = f"$(ETC)/../{COPY}"
    processes = {
        # The procd that all daemons share would take process numbers for those of its own PID namespace, and a starter
        # without one does not measure memory. TMP_DIR is the starter's own.
        "STARTER.PROCD_ADDRESS": "$(TMP_DIR)/procd",
        "STARTER.PROCD_LOG": "$(TMP_DIR)/ProcLog",
        # Where the startd sees the starter is a program that takes no signals: the starter gets them over the network.
        "STARTD.NEVER_USE_KILL_FOR_DC_SIGNALS": "True",
    }
    return {
        "STARTER": f"$(LIBEXEC)/{STARTER}",
        "STARTER.SEC_TOKEN_DIRECTORY": directory,
        "STARTER.SEC_TOKEN_SYSTEM_DIRECTORY": directory,
        **(processes if confinement.processes else {}),
    }


def _hooks() -> dict[str, str]:
    """What looks at each job's ad before its files come, and at its files before they go."""
    return {
        "STARTER_JOB_HOOK_KEYWORD": HOOK_KEYWORD,
        f"{HOOK_KEYWORD}_HOOK_PREPARE_JOB_BEFORE_TRANSFER": f"$(LIBEXEC)/{GUARD}",
        f"{HOOK_KEYWORD}_HOOK_JOB_EXIT": f"$(LIBEXEC)/{LINKS}",
        f"{HOOK_KEYWORD}_HOOK_JOB_EXIT_TIMEOUT": str(PATIENCE_SECONDS),
    }


def _checked_bind(bind: str) -> str:
    if not bind.startswith("/") or _BIND_SEPARATORS.search(bind):
        raise LiteralError(f"bind {bind!r}: an absolute path without space or comma is needed")
    return bind


def _checked_option(option: str) -> str:
    if not option.startswith("-") or re.search(r"[\s\"']", option):
        raise LiteralError(f"container option {option!r}: one word that begins with a hyphen is needed (--name=value)")
    return option
