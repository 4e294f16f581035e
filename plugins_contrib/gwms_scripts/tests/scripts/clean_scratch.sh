#!/bin/sh
# Tells that it ran, where the configuration says.
place=$(grep '^EXAMPLE_Mark ' "$1" | cut -d ' ' -f 2-)
echo "cleaned $(basename "$0")" >>"$place"
