#!/bin/sh
# Fails as its own name says: fails_<type>.sh
type=${0##*/fails_}
type=${type%.sh}
error_gen=$(grep '^ERROR_GEN_PATH ' "$1" | cut -d ' ' -f 2-)
case $type in
    silently) exit 3 ;;
    lying) "$error_gen" -ok lying ;;
    *) "$error_gen" -error "fails_$type.sh" "$type" "$type was found & <told>" seen "$type" ;;
esac
echo "last words of $type"
exit 1
