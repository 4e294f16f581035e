#!/bin/sh
# Write the result of a custom script as the XML document that factories collect:
#   error_gen.sh -ok ID [NAME VALUE]...
#   error_gen.sh -error ID TYPE DETAIL [NAME VALUE]...
# The document is otrb_output.xml in the directory of glidein_config, wherever the script has gone meanwhile.

directory=${0%/*}
[ "$directory" != "$0" ] || directory=.
output=$directory/../otrb_output.xml
now=$(date -u +%Y-%m-%dT%H:%M:%S+00:00)

escaped() {
    printf '%s' "$1" | tr -d '\000-\010\013\014\016-\037' |
        sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/"/\&quot;/g'
}

metric() { printf '    <metric name="%s" ts="%s" uri="local">%s</metric>\n' "$(escaped "$1")" "$now" "$(escaped "$2")"; }

usage() {
    printf '%s\n' "usage: error_gen.sh -ok ID [NAME VALUE]... | -error ID TYPE DETAIL [NAME VALUE]..." >&2
    exit 2
}

case ${1:-} in
    -ok)
        [ "$#" -ge 2 ] || usage
        status=OK id=$2 type='' detail=''
        shift 2
        ;;
    -error)
        [ "$#" -ge 4 ] || usage
        status=ERROR id=$2 type=$3 detail=$4
        shift 4
        ;;
    *) usage ;;
esac

{
    printf '<?xml version="1.0"?>\n<OSGTestResult id="%s" version="4.3.1">\n  <result>\n' "$(escaped "$id")"
    printf '    <status>%s</status>\n' "$status"
    [ -z "$type" ] || metric failure "$type"
    while [ "$#" -ge 2 ]; do
        metric "$1" "$2"
        shift 2
    done
    printf '  </result>\n'
    [ -z "$detail" ] || printf '  <detail>\n    %s\n  </detail>\n' "$(escaped "$detail")"
    printf '</OSGTestResult>\n'
} >"$output.new" && mv -f "$output.new" "$output"
