#!/bin/bash
# What container jobs of this VO get, before anybody chooses.
glidein_config="$1"
# shellcheck source=/dev/null
. "$(grep -m1 '^ADD_CONFIG_LINE_SOURCE ' "$glidein_config" | cut -d ' ' -f 2-)"
images=$(gconfig_get SINGULARITY_IMAGES_DICT)
gconfig_add SINGULARITY_IMAGES_DICT "${images:+$images,}example9:/cvmfs/images.example.org/el9:latest"
gconfig_add GLIDEIN_SINGULARITY_BINDPATH "/etc/hosts,/usr/share:/site/share:ro"
