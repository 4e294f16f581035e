"""An image that a job itself transfers, and that is none: it comes after the guard, which looks at the job's ad only.

The program that HTCondor takes for the runtime runs a program in such an image first; no other job pays. HTCondor gives
a job back with the reason where it finds ``.job_wrapper_failure`` in the job's directory (seen with 23.9.6), and holds
none that has begun. So the pilot remembers the job, and the guard holds it when it comes again, once: after its owner
released it, it is tried anew.
"""

from __future__ import annotations

# The texts of Apptainer 1.1 to 1.5 that ``containers.messages`` has as image.damaged and image.format.
_TEXTS = (
    *("trying to read the squashfs image", "find a valid SQUASHFS", "find a valid squashfs"),
    *("failed to read SIF partition", "while loading SIF", "image format not recognized"),
)
_REASON = "image.damaged: the image that the job transfers is no image, or was cut short; transfer a whole one"

# Both programs lie in LIBEXEC, below the private directory. Names of jobs are theirs of ``GlobalJobId``. The image may
# have a program of its own in the place of /bin/true, which writes in the job's directory: so the job's name is read
# before it runs, and no link is followed after that.
_MARKS = '"${0%/*}/../../../condor/lock/damaged.$pilot_job"'
_NO_NAME = "'' | *[!A-Za-z0-9.#_@:-]*"

OWN_IMAGE = (
    r"""pilot_scratch=${pilot_scratch%:*}
pilot_own=
pilot_job=
case $1 in "$pilot_scratch"/* | [!/]*) [ ! -f "$1" ] || pilot_own=yes ;; esac
if [ "$pilot_own" ]; then
    while read -r pilot_word; do
        case $pilot_word in
            'GlobalJobId = "'?*'"') pilot_job=${pilot_word#*\"} pilot_job=${pilot_job%\"} ;;
        esac
    done < "$pilot_scratch/.job.ad"
    if ! pilot_said=$(eval "\"\$pilot_runtime\"$pilot_options \"\$1\" /bin/true" 2>&1 < /dev/null); then
        case $pilot_said in
            @TEXTS@)
                rm -rf "$pilot_scratch/.job_wrapper_failure"
                set -C
                echo '@REASON@' > "$pilot_scratch/.job_wrapper_failure"
                set +C
                case $pilot_job in @NO_NAME@) ;; *) : > @MARKS@ ;; esac
                exit 255 ;;
        esac
    fi
fi
""".replace("@TEXTS@", " | ".join(f'*"{text}"*' for text in _TEXTS))
    .replace("@REASON@", _REASON)
    .replace("@NO_NAME@", _NO_NAME)
    .replace("@MARKS@", _MARKS)
)
"""Lines of the shell for the runtime's place, whose image is the first word that is left."""

REMEMBERED = (
    r"""case $pilot_job in
    @NO_NAME@) ;;
    *) [ ! -e @MARKS@ ] || { rm -f @MARKS@; refuse '@REASON@.'; } ;;
esac
""".replace("@NO_NAME@", _NO_NAME)
    .replace("@MARKS@", _MARKS)
    .replace("@REASON@", _REASON)
)
"""Lines of the guard, which has the job's name in ``pilot_job``."""
