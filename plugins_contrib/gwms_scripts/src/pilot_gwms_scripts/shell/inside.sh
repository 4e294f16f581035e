#!/bin/sh
# Run one custom script inside the image of jobs, in the directory of glidein_config: inside.sh PATH ID
# What it prints is only its log; its exit code is left as a file for whoever reads the result.

mark=.adapter/inside/$(printf '%s' "$1" | tr / _)
[ -e "$mark.go" ] || exit 0
: >"$mark.started" || exit 1
glidein_config=$PWD/glidein_config.inside
GLIDEIN_LOCAL_TMP_DIR=$PWD/tmp TMPDIR=$PWD/tmp
PATH=$PWD/.gwms.d/bin:$PATH
export glidein_config GLIDEIN_LOCAL_TMP_DIR TMPDIR PATH
"./$1" "$glidein_config" "$2" >&2
printf '%s\n' "$?" >"$mark.code"
exit 0
