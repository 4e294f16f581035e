#!/bin/sh
# What a factory's batch job runs beside the payload it was sent:
#
#   launcher.sh --payload FILE --sha256 HEX [--python PATTERN] ... [--image IMAGE] -- ARGUMENTS ...
#
# It checks the payload against the digest in the job's arguments and becomes it (exec: no process stays behind).
# pilot.sh brings its Python. For pilot.pyz the first Python that is new enough is taken: of the --python patterns, of
# PATH and the usual directories, of CVMFS, and at last of IMAGE, in which the pilot then runs as a whole.
# Exit codes of its own: 2 usage, 64 no program to compute a digest with, 66 no usable Python, 68 wrong payload.
set -u

# fail EXIT KIND CODE MESSAGE HINT: one sentence for people, one line of JSON for programs.
fail() {
    printf 'pilot-agent: %s: %s %s\n' "$3" "$4" "$5" >&2
    printf '{"kind": "%s", "code": "%s", "message": "%s", "hint": "%s"}\n' "$2" "$3" \
        "$(printf '%s' "$4" | sed 's/[\\"]/\\&/g' | tr '\n\t' '  ')" "$5"
    exit "$1"
}

usage() {
    fail 2 usage launcher.usage "$1" \
        "Usage: launcher.sh --payload FILE --sha256 HEX [--python PATTERN] ... [--image IMAGE] -- ARGUMENTS ..."
}

# digest FILE: its sha256 in hexadecimal, by the first program that can compute it.
digest() {
    if command -v sha256sum >/dev/null; then
        sha256sum <"$1"
    elif command -v openssl >/dev/null; then
        openssl dgst -sha256 -r <"$1"
    elif command -v shasum >/dev/null; then
        shasum -a 256 <"$1"
    fi | { read -r hex _ && printf '%s' "$hex"; }
}

# Byte code for 3.13 and 3.11 is in the payload: others compile all of it at every start.
names="python3.13 python3.11 python3.12 python3.14 python3"
directories="/usr/bin /usr/local/bin /etc/alternatives"
# Repositories that have a whole Python which needs nothing of the node.
on_cvmfs="
/cvmfs/software.eessi.io/versions/*/compat/linux/$(uname -m)/usr/bin/python3
/cvmfs/soft.computecanada.ca/gentoo/*/*/usr/bin/python3"
# Without one of these the payload does not work; Debian's python3-minimal, for one, lacks some.
test_program='
import sys
version = "%d.%d.%d" % sys.version_info[:3]
missing = []
for name in ("zlib", "json", "ssl", "ctypes", "hashlib", "socket"):
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
print(version + (" without " + ", ".join(missing) if missing else ""))
'
line='
'

# What is on CVMFS may hang.
limit=
if timeout 5 true 2>/dev/null; then limit="timeout 20"; fi

# open_to_all FILE: everybody may put another one in its place, or in that of a directory above it.
open_to_all() {
    above=$1
    while :; do
        case $above in
        */*) above=${above%/*} ;;
        *) break ;;
        esac
        set -- "$@" "$above/"
    done
    # shellcheck disable=SC2012 # only modes are read
    ls -ldnL -- "$@" 2>/dev/null | (
        while read -r mode _; do
            case $mode in
            d???????w[!tT]* | -???????w*) exit 7 ;;
            esac
        done
    )
    [ $? -eq 7 ]
}

# usable FILE: it is a Python that the payload can run with; what else it is goes to $seen.
usable() {
    case "$tried " in *" $1 "*) return 1 ;; esac
    tried="$tried $1"
    if open_to_all "$1"; then
        seen="$seen $1 (everybody may write there)"
        return 1
    fi
    # shellcheck disable=SC2086 # two words, or none
    version=$($limit "$1" -I -S -c "$test_program" 2>/dev/null | head -c 100)
    case $version in
    "") version="does not start" ;;
    *without*) ;;
    3.1[1-9].* | 3.[2-9][0-9].*) return 0 ;;
    [23].*) old=yes ;;
    esac
    seen="$seen $1 ($version)"
    return 1
}

# among PATTERN: sets $python to the newest usable file that the pattern names.
among() {
    # The last in the alphabet is mostly the newest. Without IFS the pattern is not taken apart at spaces.
    # shellcheck disable=SC2016,SC2086
    candidates=$($limit sh -c 'IFS=; exec ls -d -- $1' sh "$1" 2>/dev/null | sort -r)
    IFS=$line
    set -f
    # shellcheck disable=SC2086
    set -- $candidates
    set +f
    unset IFS
    for python; do
        if [ -f "$python" ] && [ -x "$python" ]; then usable "$python" && return 0; fi
    done
    python=
    return 1
}

# in_path NAME: sets $python to the usable program of this name in PATH; relative parts of PATH do not count.
in_path() {
    python=$(command -v "$1") || python=
    case $python in
    /*) usable "$python" ;;
    *) return 1 ;;
    esac
}

# find_python: the first Python >= 3.11 in $python; what else was seen in $seen, and in $old whether one is too old.
find_python() {
    seen=
    tried=
    old=
    rest=$configured
    while [ -n "$rest" ]; do
        pattern=${rest%%"$line"*}
        rest=${rest#*"$line"}
        before=$tried
        among "$pattern" && return 0
        [ "$before" != "$tried" ] || seen="$seen $pattern (no such program)"
    done
    for name in $names; do
        in_path "$name" && return 0
    done
    for directory in $directories; do
        for name in $names; do
            python=$directory/$name
            if [ -f "$python" ] && [ -x "$python" ]; then usable "$python" && return 0; fi
        done
    done
    set -f
    # shellcheck disable=SC2086
    set -- $on_cvmfs
    set +f
    for pattern; do
        # The name is in the root directory's list without a mount being asked for.
        [ ! -d /cvmfs ] || ! among "$pattern" || return 0
    done
    python=
    return 1
}

# directory FILE: the directory that it is in.
directory() {
    case $1 in
    */*) printf '%s' "${1%/*}/" ;;
    *) pwd ;;
    esac
}

# in_image ARGUMENTS ...: becomes the payload with the Python of $image; returns only where it has none.
in_image() {
    runtime=$(command -v apptainer) || runtime=$(command -v singularity) || {
        seen="$seen $image (neither apptainer nor singularity in $PATH to start it)"
        return 1
    }
    here=$(pwd)
    own=$(cd -- "$(directory "$0")" && pwd)
    binds=
    for place in "$here" "$own" "${payload%/*}" "${_CONDOR_SCRATCH_DIR-}" "${TMPDIR-}" /cvmfs; do
        # A name with one of these signs cannot be bound.
        case $place in "" | *[:,]*) continue ;; esac
        [ ! -d "$place" ] || binds="${binds:+$binds,}$place"
    done
    found=$("$runtime" exec --bind "$binds" --pwd "$here" "$image" /bin/sh "$own/${0##*/}" --find-python 2>/dev/null) || {
        seen="$seen $image with $runtime (${found:-it did not start})"
        return 1
    }
    echo "pilot-agent: no Python of this node can be used:${seen:- none}. The pilot runs in $image with $found." >&2
    exec "$runtime" exec --bind "$binds" --pwd "$here" "$image" "$found" -I -S -B -X utf8 "$payload" "$@"
}

payload=
expected=
configured=
image=
while [ $# -gt 0 ]; do
    case $1 in
    --payload | --sha256)
        [ $# -ge 2 ] || usage "$1 needs a value."
        if [ "$1" = --payload ]; then payload=$2; else expected=$2; fi
        shift 2
        ;;
    --python | --image)
        [ -n "${2-}" ] || usage "$1 needs a value."
        if [ "$1" = --image ]; then image=$2; else configured=$configured$2$line; fi
        shift 2
        ;;
    --find-python)
        find_python && echo "$python" && exit 0
        echo "no Python 3.11 or newer; seen:${seen:- none}"
        exit 66
        ;;
    --)
        shift
        break
        ;;
    *) usage "unknown argument $1." ;;
    esac
done
[ -n "$payload" ] && [ -n "$expected" ] || usage "--payload and --sha256 are both needed."
expected=$(printf '%s' "$expected" | tr 'A-F' 'a-f')
case $payload in
/*) ;;
*) payload=$(pwd)/$payload ;;
esac
[ -r "$payload" ] || fail 68 corruption artifact.missing "the payload $payload was not found or cannot be read." \
    "Transfer it with the job."
found=$(digest "$payload")
[ -n "$found" ] || fail 64 node_resource tool.missing \
    "the payload cannot be checked: no sha256sum, openssl or shasum in $PATH." "Install coreutils on the node."
[ "$found" = "$expected" ] || fail 68 corruption artifact.digest \
    "$payload has the sha256 $found and not $expected." "Transfer it again, or correct the digest in the job."

case $payload in
*.pyz)
    if find_python; then
        exec "$python" -I -S -B -X utf8 "$payload" "$@"
    fi
    [ -z "$image" ] || in_image "$@"
    code=python.missing
    [ -z "$old" ] || code=python.too_old
    fail 66 config "$code" \
        "no Python 3.11 or newer was found; seen:${seen:- none}." \
        "Send pilot.sh, which carries its own Python, name one with --python, or install one on the node."
    ;;
*) exec /bin/sh "$payload" "$@" ;;
esac
