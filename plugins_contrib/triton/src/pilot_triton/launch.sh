#!/bin/sh
# Starts tritonserver in its image and stays its parent, so that a failed start ends with the server's own reason.
# Arguments: program, its arguments.
set -u
umask 077
server=$1
shift

complain() {
    echo "triton: $*"
    exit 3
}

[ -x "$server" ] || command -v "$server" >/dev/null 2>&1 || server=/opt/tritonserver/bin/tritonserver
[ -x "$server" ] || command -v "$server" >/dev/null 2>&1 ||
    complain "the image has no tritonserver, neither on PATH ($PATH) nor at $server: it is none of Triton's"

began="triton: starting $server $*"
echo "$began"
"$server" "$@" &
child=$!
# The server ends what it began before it goes.
trap 'kill -TERM "$child" 2>/dev/null' TERM INT HUP
wait "$child"
code=$?
# A signal ends the wait, not the server.
while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    code=$?
done
[ "$code" -ne 0 ] || exit 0
[ "$code" -lt 128 ] || { echo "triton: the server was ended by signal $((code - 128))"; exit "$code"; }

# What it said since it was started is in the file behind our own output.
said=$(tail -c 200000 /proc/$$/fd/1 2>/dev/null | tr -d '\000' | tail -n 400)
said=${said##*"$began"}
reason=$(printf '%s\n' "$said" | sed -n \
    -e 's/^[EW][0-9].*[]] "\{0,1\}\(failed to load .* version .*\)$/\1/p' \
    -e 's/^E[0-9].*[]] "\{0,1\}\(Poll failed for model directory .*\)$/\1/p' \
    -e "s/^E[0-9].*[]] \"\{0,1\}\(failed to poll from model repository.*\)\$/\1/p" \
    -e 's/^E[0-9].*[]] "\{0,1\}\(Failed to start .*\)$/\1/p' |
    sed -e 's/"$//' -e 's/\\n.*//' -e "s/\\\\'/'/g" | sort -u | head -n 5 | paste -sd ';' - 2>/dev/null)
last=$(printf '%s\n' "$said" | sed -n 's/^error: //p' | tail -n 1)
echo "triton: the server exited $code: ${reason:-${last:-it did not say why}}"
exit "$code"
