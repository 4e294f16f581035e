"""What a job leaves in its scratch directory for HTCondor to follow: links to files outside.

HTCondor sends a job's output with the pilot's uid and follows links, so a link to the pool's token would send the
token. The program below is HTCondor's hook between a job's end and the transfer of its output; when it starts, the
job's processes are gone.
"""

from __future__ import annotations

LINKS = "pilot_links"
"""The program's name in LIBEXEC."""

PATIENCE_SECONDS = 3600
"""HTCondor goes on without the hook after this time: longer than any directory that fits a node takes."""

# Most jobs leave files and few directories, and the container runtime leaves scratch/var/tmp: as deep as that the shell
# sees itself that there is no link, and find looks for those in what is deeper. The shell knows no name in a directory
# that it may not list, so one of those is left to find too. Nobody reads the job's ad, which HTCondor sends here:
# without a reader it goes on when this program has ended.
# An absolute link was meant for the container's directories, which the node has not. A relative one without `..`
# stays inside, because the links it may pass through are looked at too.
LINKS_TEXT = """\
#!/bin/sh
# Removes the links of an ended job that lead out of its scratch directory; made by the pilot.
LC_ALL=C
export LC_ALL
set +f
unset GLOBIGNORE

# What cannot be looked through is not sent: HTCondor holds the job because nothing can be opened.
close() {
    chmod 0 .
    exit 1
}

usable() {
    [ -r "$1" ] && [ -w "$1" ] && [ -x "$1" ]
}

# Whether there is no link in a directory, and no deeper or unusable directory than so many marks allow.
plain() {
    usable "$1" && [ "$2" ] || return 1
    for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        [ ! -L "$entry" ] || return 1
        [ ! -d "$entry" ] || plain "$entry" "${2#+}" || return 1
    done
}

cd -P . || close
if plain . ++++; then exit 0; fi
here=$PWD
export here
# A directory that its owner cannot list would hide a link: it is opened before find looks into it.
find . -type d ! -perm -0700 -exec chmod u+rwx {} \\; -o -type l -lname '/*' -exec rm -f -- {} + || close
find . -type l -lname '*..*' -exec sh -c '
    for link do
        case $(readlink -m -- "$link") in
            "$here" | "$here"/*) ;;
            *) rm -f -- "$link" || exit 1 ;;
        esac
    done
' sh {} + || close
exit 0
"""
