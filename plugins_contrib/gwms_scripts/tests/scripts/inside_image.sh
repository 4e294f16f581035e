#!/bin/sh
# Runs in the image of jobs: what is there becomes an attribute.
# shellcheck source=/dev/null
. "$(grep -m1 '^ADD_CONFIG_LINE_SOURCE ' "$1" | cut -d ' ' -f 2-)"
. /etc/os-release
gconfig_add EXAMPLE_ImageSystem "$ID $VERSION_ID"
add_condor_vars_line EXAMPLE_ImageSystem S - + Y Y +
gconfig_add EXAMPLE_InsidePath "$(dirname "$1")/tmp"
"$(gconfig_get ERROR_GEN_PATH)" -ok inside_image.sh place "$PWD"
