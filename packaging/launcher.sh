#!/bin/sh
# What a factory's batch job runs beside the payload it was sent:
#
#   launcher.sh --payload FILE --sha256 HEX -- ARGUMENTS ...
#
# It checks the payload against the digest in the job's arguments and becomes it (exec: no process stays behind).
# pilot.sh brings its Python; for pilot.pyz the first Python that is new enough is taken.
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
    fail 2 usage launcher.usage "$1" "Usage: launcher.sh --payload FILE --sha256 HEX -- ARGUMENTS ..."
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

# find_python: the first Python >= 3.11 in $python; what else was seen in $seen.
find_python() {
    python=
    seen=
    for directory in "" /usr/bin/ /usr/local/bin/; do
        for name in python3.14 python3.13 python3.12 python3.11 python3; do
            python=$(command -v "$directory$name") || continue
            version=$("$python" -I -S -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) ||
                version="does not start"
            case $version in
            3.1[1-9].* | 3.[2-9][0-9].*) return 0 ;;
            esac
            seen="$seen $python ($version)"
        done
    done
    return 1
}

payload=
expected=
while [ $# -gt 0 ]; do
    case $1 in
    --payload | --sha256)
        [ $# -ge 2 ] || usage "$1 needs a value."
        if [ "$1" = --payload ]; then payload=$2; else expected=$2; fi
        shift 2
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
    find_python || fail 66 config python.missing \
        "no Python 3.11 or newer was found; seen:${seen:- none}." \
        "Send pilot.sh, which carries its own Python, or install a newer one on the node."
    exec "$python" -I -S -B -X utf8 "$payload" "$@"
    ;;
*) exec /bin/sh "$payload" "$@" ;;
esac
