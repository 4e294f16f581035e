#!/bin/sh
# Names a script that is run at the pilot's end; some of its bytes are of no encoding that anybody knows.
glidein_config=$1
add_config_line_source=$(grep '^ADD_CONFIG_LINE_SOURCE ' "$glidein_config" | cut -d ' ' -f 2-)
# shellcheck source=/dev/null
. "$add_config_line_source"
place=$(grep '^EXAMPLE_Mark ' "$glidein_config" | cut -d ' ' -f 2-)
printf '#!/bin/sh\n# \351\377\nprintf "named \\351" >>"%s"\n' "$place" >own_end.sh
add_config_line GLIDEIN_CLEANUP_SCRIPT "$PWD/own_end.sh"
