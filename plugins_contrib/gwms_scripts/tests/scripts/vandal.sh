#!/bin/bash
# Everything that a script should not do.
glidein_config=$1
head -c 300000 /dev/urandom
for number in 1 2 3; do
    (setsid sleep 617 &) >/dev/null 2>&1
done
sleep 617 &
{
    echo "no value"
    printf 'WITH_CONTROL a\001b\rc\n'
    printf '\xff\xfe broken\n'
    echo "ERROR_GEN_PATH /nowhere"
    echo "EXAMPLE_Vandal was here"
    printf 'LONG '
    head -c 20000 /dev/zero | tr '\0' x
    printf '\nNO_LINE_END yes'
} >>"$glidein_config"
# shellcheck source=/dev/null
. "$(grep -m1 '^ADD_CONFIG_LINE_SOURCE ' "$glidein_config" | cut -d ' ' -f 2-)"
for number in $(seq 20); do
    gconfig_add "TOGETHER_$number" "$number" &
done
wait $(jobs -p | tail -n 20)
echo "this is no line" >>"$(gconfig_get CONDOR_VARS_FILE)"
exit 0
