#!/bin/bash
# Tells the load of the node: at the start to the log, later as attributes.
if [ "$GLIDEIN_PERIODIC_SCRIPT" = true ]; then
    read -r one _ </proc/loadavg
    echo "Load = $one"
    echo "Site = \"the \\\"lake\\\"\""
    echo "IsBusy = false"
    echo "When = CurrentTime"
    echo "-"
else
    echo "called with $2 in $PWD"
fi
