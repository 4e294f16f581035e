#!/bin/sh
# Attributes for matching, and variables for jobs.
set -eu
glidein_config=$1
# shellcheck source=/dev/null
. "$(grep -m1 '^ADD_CONFIG_LINE_SOURCE ' "$glidein_config" | cut -d' ' -f2-)"
condor_vars_file=$(gconfig_get CONDOR_VARS_FILE)
export condor_vars_file

add_config_line_safe EXAMPLE_Region "Upper Lake & 'Hills'"
add_condor_vars_line EXAMPLE_Region "S" "-" "+" "Y" "Y" "+"
gconfig_add EXAMPLE_FastScratch True
add_condor_vars_line EXAMPLE_FastScratch C - GLIDEIN_HasFastScratch N Y -
gconfig_add EXAMPLE_Cores_Seen "$(getconf _NPROCESSORS_ONLN)"
add_condor_vars_line EXAMPLE_Cores_Seen I - + N Y @
gconfig_add EXAMPLE_Fits 'ifThenElse(MY.Memory > 1, "yes $(MEMORY)", "no")'
add_condor_vars_line EXAMPLE_Fits C - + N Y -
gconfig_add EXAMPLE_Internal "only for other scripts"
add_condor_vars_line EXAMPLE_Cache S /var/tmp/cache EXAMPLE_CACHE_DIR N N @
