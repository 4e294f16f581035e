"""The guard: what a job's ad may not say, because HTCondor would act on it outside the job's container.

HTCondor's starter runs with the pilot's uid. Some attributes of a job make it run programs, open files or send files
there, where the pool's token can be read. START cannot refuse them: it sees values, and an expression of the job gives
each reader another one. HTCondor's hook before the transfer gets the job's ad as text, so it sees the expression itself
and everything that is no plain literal is refused. A refused job is held, with a sentence for its owner.

The program is one POSIX shell, which takes the starter's token away first (see ``confinement``) and starts nothing else
for a job that it lets pass: every job pays for it. HTCondor cannot leave it out for some jobs. Its keyword for hooks is
a word of the configuration or of the job, never an expression of the machine's (seen with HTCondor 23.9.6).
A string of a job may hold line ends, so a line may be forged. Every rule therefore only forbids: a forged line can add
a refusal and never take one away.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pilot_agent import CVMFS
from pilot_agent.containers.job_ad import LOADED
from pilot_agent.startd.confinement import COPY
from pilot_agent.startd.fetching import FETCHED, choice_text
from pilot_agent.startd.own_images import REMEMBERED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilot_agent.startd.plan import ContainerPlan

GUARD = "pilot_guard"
"""The program's name in LIBEXEC."""

HELD = 1
"""Its exit code for a job that is held: HTCondor holds a job for 1 to 299."""

GIVEN_BACK = 400
"""HookStatusCode for a job that goes elsewhere: 300 and more."""

PAUSE_SECONDS = 3600
"""How long the pilot takes no job with an image that was not allowed; see ``lifecycle.image_failures``."""

# HTCondor runs a program, writes a file or reads one for these, outside the container.
FORBIDDEN = (
    *("PreCmd", "PostCmd", "ToolDaemonCmd", "TransferPlugins"),
    *("StarterUserLog", "JobStarterLog", "JobStarterDebug", "ManifestDir", "RequestedChroot", "RemoteIwd"),
    # Checkpoints are sent while the job goes on: nothing can look for links in between.
    *("CheckpointExitCode", "SuccessCheckpointExitCode", "SuccessCheckpointExitSignal", "CheckpointSig"),
)
# Names of files in the job's scratch directory, separated by commas or semicolons, some as `new = old`.
NAMES = (
    *("TransferOutput", "TransferOutputFiles", "TransferCheckpoint", "FailureFiles", "TransferInputRemaps"),
    "TransferIntermediate",
)
# Names of files that the submit node sends, or URLs that the node itself opens.
SOURCES = (
    *("TransferInput", "TransferInputFiles", "PublicInputFiles", "TransferOutputRemaps", "OutputDestination", "Cmd"),
    "X509UserProxy",
)
STREAMS = (("In", "In"), ("Out", "Out"), ("Err", "Err"))
# Schemes that the runtime or HTCondor fetches from elsewhere; others name files or containers of the node.
SCHEMES = ("docker", "oras", "library", "shub", "http", "https", "osdf", "stash", "pelican", "s3", "gs")
ALWAYS_ALLOWED = (CVMFS,)

_PROGRAM = r"""#!/bin/sh
# Reads a job's ad and refuses what would act outside the job's container; made by the pilot.
LC_ALL=C
copy=${0%/*}/../../@COPY@/pool
if [ -e "$copy" ] && ! { true > "$copy"; }; then
    echo 'HookStatusCode = @GIVEN_BACK@'
    echo 'HookStatusMessage = "this pilot cannot take its token out of the way of the job"'
    exit 0
fi
set -f
newline='
'

refuse() {
    echo 'HookStatusCode = @HELD@'
    echo "HookStatusMessage = \"This pilot refuses the job: $1\""
    exit @HELD@
}

@GIVE_BACK@# Leaves the text of a string literal in $text; anything else is an expression, whose value nobody knows.
literal() {
    text=${value#\"}
    [ "$text" != "$value" ] || refuse "$name must be a plain string and not an expression."
    value=$text
    text=${value%\"}
    [ "$text" != "$value" ] || refuse "$name must be a plain string and not an expression."
    case $text in
        \"* | *[!\\]\"*) refuse "$name must be a plain string and not an expression." ;;
    esac
}

# Leaves $text without quotes and blanks in $squeezed: HTCondor joins the parts of a word that quotes divide.
squeeze() {
    IFS=" '\"\\	"
    set -- $text
    IFS=
    squeezed=$*
    IFS=$newline
}

inside() {
    literal
    IFS=" ,;='\"	"
    set -- $text
    IFS=,
    words=,$*,
    IFS=$newline
    case $words in
        *,/* | *[,/]..[,/]* | *://* | *\\*)
            refuse "$name may only name files in the job's own directory, without a leading / and without '..'." ;;
    esac
}

image() {
    literal
    case $text in
        '' | [!A-Za-z0-9_./]* | *[!A-Za-z0-9_.+:@=%/~-]* | .. | ../* | */.. | */../*)
            refuse "$name is no name of an image: letters, digits and _.+:@=%/~- are allowed, '..' is not." ;;
        @IMAGES@) ;;
        @SCHEMES@) ;;
        /* | *:*)
            @FORBID@ "$name is no image on offer: use REQUIRED_OS, a transferred file, a registry or /cvmfs." ;;
    esac
}

pilot_job=
universe=
transfer=
streams=
absolute=
contained=yes
singularity_image=
container_image=
required_os=
IFS=$newline
while read -r line || [ "$line" ]; do
    name=${line%% = *}
    value=${line#* = }
    case $value in [Uu][Nn][Dd][Ee][Ff][Ii][Nn][Ee][Dd]) continue ;; esac
    case $name in
        @FORBIDDEN@)
            refuse "$name makes HTCondor act outside the job's container; take it out of the submit file." ;;
        @UNIVERSE@)
            [ "$value" = 5 ] || refuse "only the vanilla and the container universe run here."
            universe=5 ;;
        @JOB@)
            literal
            pilot_job=$text ;;
        @SHOULD@)
            case $value in
                '"YES"' | '"IF_NEEDED"') transfer=$value ;;
                *) refuse 'files must be transferred; set should_transfer_files = YES.' ;;
            esac ;;
        @DOMAIN@)
            literal
            case $text in [Pp][Ii][Ll][Oo][Tt]-*) refuse "$name may not be the pilot's." ;; esac ;;
        @DOCKER@)
            case $value in
                [Ff][Aa][Ll][Ss][Ee]) ;;
                *) refuse 'the docker universe does not run here; use container_image.' ;;
            esac ;;
        @ENVIRONMENT@)
            literal
            IFS="'\"\\"
            set -- $text
            IFS=
            text=" $*"
            IFS=$newline
            case $text in
                *[!A-Za-z0-9_]APPTAINER_* | *[!A-Za-z0-9_]SINGULARITY_*)
                    refuse "$name may not set APPTAINER_ or SINGULARITY_ variables; take them out of it." ;;
                *[!A-Za-z0-9_]LD_[A-Z]* | *[!A-Za-z0-9_]@LOADED@*)
                    refuse "$name sets a variable that acts outside the job's container (LD_..., SHELLOPTS, BASH_...);\
 set it in the job's own script instead." ;;
            esac ;;
        @DELIMITER@)
            [ "$value" = '";"' ] || refuse "$name may only be a semicolon." ;;
        @PLATFORM@)
            literal
            required_os=$text ;;
        @WANTS@)
            case $value in [Ff][Aa][Ll][Ss][Ee]) contained=@ALWAYS@ ;; esac ;;
        @TARGET@)
            literal
            case $text in
                '' | [!/]* | *[!A-Za-z0-9_./-]* | *..*) refuse "$name must be a plain absolute path." ;;
            esac ;;
        @SINGULARITY@)
            image
            singularity_image=$text ;;
        @CONTAINER@)
            image
            container_image=$text ;;
        @NAMES@)
            inside ;;
        @SOURCES@)
            literal
            squeeze
            case $squeezed in
                *[Ff][Ii][Ll][Ee]://*) refuse "$name may not hold a file: URL, which is a file of the node." ;;
            esac ;;
        @STREAM_SWITCHES@)
            case $value in
                [Tt][Rr][Uu][Ee]) ;;
                *) streams="$streams ${name#????????}" ;;
            esac ;;
        @STREAMS@)
            literal
            case $text in
                *:*) refuse "$name may not be a URL; list it in transfer_input_files or transfer_output_remaps." ;;
                /dev/null) ;;
                .. | */..) refuse "$name must name a file." ;;
                /* | ../* | */../*) absolute="$absolute $name" ;;
            esac ;;
    esac
done
[ "$universe" ] || refuse 'its ad names no universe.'
[ "$transfer" ] || refuse 'files must be transferred; set should_transfer_files = YES.'
if [ "$absolute" ] && [ "$streams" ]; then
    IFS=' '
    for name in $absolute; do
        for stream in $streams; do
            case $name,$stream in
                [Ii]*,[Ii]* | [Oo]*,[Oo]* | [Ee]*,[Ee]*)
                    refuse "$name is a file of the node; take out transfer_input, _output or _error = false." ;;
            esac
        done
    done
fi
@REMEMBERED@@CHOICE@exit 0
"""


# Opened for reading too, the FIFO never makes the guard wait. The image has only characters that need no quotes.
_GIVE_BACK = r"""give_back() {
    if [ -p @FIFO@ ]; then printf '["%s", @PAUSE_SECONDS@]\n' "$text" 1<> @FIFO@; fi
    echo 'HookStatusCode = @GIVEN_BACK@'
    echo "HookStatusMessage = \"image.forbidden: $text: $1\""
    exit 0
}

"""


def guard_text(container: ContainerPlan) -> str:
    """The program for jobs of this plan: reads the job's ad on its standard input and ends with 0, or with ``HELD``
    after it printed the reason.
    """
    allowed = (*ALWAYS_ALLOWED, *container.allowed_paths)
    images = [shlex.quote(image) for image in container.images.values()]
    images += [shlex.quote(path.rstrip("/")) + "/*" for path in allowed]
    schemes = [scheme for scheme in SCHEMES if scheme in container.fetched or scheme not in FETCHED]
    switches = [f"Transfer{switch}" for switch, _ in STREAMS]
    patterns = {
        "COPY": COPY,
        "HELD": str(HELD),
        "IMAGES": " | ".join(images),
        "SCHEMES": " | ".join(f"{scheme}://[A-Za-z0-9_]*" for scheme in schemes),
        "FORBIDDEN": _any(FORBIDDEN),
        "UNIVERSE": _any(("JobUniverse",)),
        "JOB": _any(("GlobalJobId",)),
        "REMEMBERED": REMEMBERED,
        "SHOULD": _any(("ShouldTransferFiles",)),
        "DOMAIN": _any(("FileSystemDomain",)),
        "DOCKER": _any(("WantDocker",)),
        "ENVIRONMENT": _any(("Environment", "Env")),
        "LOADED": "* | *[!A-Za-z0-9_]".join(LOADED),
        "DELIMITER": _any(("EnvDelim",)),
        "PLATFORM": _any(("REQUIRED_OS",)),
        "TARGET": _any(("ContainerTargetDir",)),
        "SINGULARITY": _any(("SingularityImage",)),
        "CONTAINER": _any(("ContainerImage",)),
        "WANTS": _any(("WantContainer",)),
        "ALWAYS": "yes" if container.required else "",
        "NAMES": _any(NAMES),
        "SOURCES": _any(SOURCES),
        "STREAM_SWITCHES": _any(switches),
        "STREAMS": _any(name for _, name in STREAMS),
        "CHOICE": choice_text(container, _any_case),
        "FORBID": "give_back" if container.forbidden_fifo else "refuse",
        "GIVE_BACK": _GIVE_BACK if container.forbidden_fifo else "",
        "GIVEN_BACK": str(GIVEN_BACK),
        "FIFO": shlex.quote(container.forbidden_fifo),
        "PAUSE_SECONDS": str(PAUSE_SECONDS),
    }
    text = _PROGRAM
    for name, pattern in patterns.items():
        text = text.replace(f"@{name}@", pattern)
    return text


def _any(names: Iterable[str]) -> str:
    """A shell pattern for any of these attributes in any case, as ClassAds take them."""
    return " | ".join(map(_any_case, names))


def _any_case(word: str) -> str:
    return "".join(f"[{c.upper()}{c.lower()}]" if c.isalpha() else c for c in word)
