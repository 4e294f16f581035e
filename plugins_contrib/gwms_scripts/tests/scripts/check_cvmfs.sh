#!/bin/bash
# Every repository of the VO must open.
glidein_config="$1"
# shellcheck source=/dev/null
source "$(grep -m1 '^ADD_CONFIG_LINE_SOURCE ' "$glidein_config" | awk '{print $2}')"
error_gen=$(gconfig_get ERROR_GEN_PATH)
mount_dir=$(gconfig_get CVMFS_MOUNT_DIR)
for repository in $(gconfig_get EXAMPLE_CVMFS_REPOSITORIES | tr , ' '); do
    if ! ls "${mount_dir:-/cvmfs}/$repository/" >/dev/null 2>&1; then
        "$error_gen" -error "check_cvmfs.sh" "WN_Resource" "CVMFS repository <$repository> & its mount not available" "repository" "$repository"
        exit 1
    fi
done
"$error_gen" -ok "check_cvmfs.sh" "repositories" "$(gconfig_get EXAMPLE_CVMFS_REPOSITORIES)"
