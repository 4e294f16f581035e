# shellcheck shell=sh
# Run the cleanup scripts at the pilot's end, in the order of their names: cleanup.sh SECONDS, in the directory of
# glidein_config. One that hangs costs its own time only, where timeout(1) is there.

glidein_config=$PWD/glidein_config
GLIDEIN_LOCAL_TMP_DIR=$PWD/tmp TMPDIR=$PWD/tmp
export glidein_config GLIDEIN_LOCAL_TMP_DIR TMPDIR
for script in .gwms.d/exec/cleanup/*; do
    if [ ! -f "$script" ] || [ ! -x "$script" ]; then
        continue
    fi
    if command -v timeout >/dev/null 2>&1; then
        timeout -k 1 "$1" "$script" "$glidein_config" main
    else
        "$script" "$glidein_config" main
    fi
done
exit 0
