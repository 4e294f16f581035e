#!/bin/bash
# A node check in the style of today's frontends: free space and memory, told as metrics.
glidein_config="$1"
add_config_line_source=$(grep -m1 '^ADD_CONFIG_LINE_SOURCE ' "$glidein_config" | cut -d ' ' -f 2-)
# shellcheck source=/dev/null
. "$add_config_line_source"
error_gen=$(gconfig_get ERROR_GEN_PATH "$glidein_config")
work_dir=$(gconfig_get GLIDEIN_WORK_DIR "$glidein_config")

free_mib=$(df -Pm "$work_dir" | awk 'NR == 2 { print $4 }')
memory_mib=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)
if [ "$free_mib" -lt 1 ]; then
    "$error_gen" -error check_node.sh WN_Resource "Only $free_mib MiB free in $work_dir" free_mib "$free_mib"
    exit 1
fi
"$error_gen" -ok check_node.sh free_mib "$free_mib" memory_mib "$memory_mib"
exit 0
