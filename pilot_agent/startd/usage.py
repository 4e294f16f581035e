"""Holds a job that comes again after it used more memory or disk than its slot has.

The startd cannot hold a job of a confined starter, which is kept from the daemons' secrets and so takes no commands
(seen with HTCondor 23.9.6: the hold fails and the job is evicted). The job is back in its queue then, to do the same
again. HTCondor's hook before a job begins gets its ad, in which its access point noted what the last run used.
"""

from __future__ import annotations

USAGE = "pilot_usage"
"""The program's name in LIBEXEC."""

MEMORY_SUBCODE = 102
DISK_SUBCODE = 104
"""HoldReasonSubCode, and exit codes of the program: those of HTCondor's own policies for it."""

# A string of a job may hold line ends, so a line may be forged. The largest number counts: a forged line can only hold
# the job that has it. The access point rounds the names without _RAW.
USAGE_TEXT = f"""#!/bin/sh
# Holds a job that used more in an earlier run than its slot has; made by the pilot.
LC_ALL=C
set -f
memory_kib=0 disk_kib=0 slot_mib= slot_kib=

# The number in $value where it is one of up to 15 digits.
number() {{
    case $value in
        '' | *[!0-9]* | ????????????????*) value=0 ;;
    esac
}}

while IFS= read -r line || [ "$line" ]; do
    value=${{line#* = }}
    case $line in
        'ResidentSetSize_RAW = '*) number; [ "$value" -le "$memory_kib" ] || memory_kib=$value ;;
        'DiskUsage_RAW = '*) number; [ "$value" -le "$disk_kib" ] || disk_kib=$value ;;
    esac
done
[ -f .machine.ad ] || exit 0
while IFS= read -r line || [ "$line" ]; do
    value=${{line#* = }}
    case $line in
        'Memory = '*) number; slot_mib=$value ;;
        'Disk = '*) number; slot_kib=$value ;;
    esac
done < .machine.ad

# Holds the job with a sentence for its owner.
hold() {{
    echo "HookStatusCode = $1"
    echo "HookStatusMessage = \\"$2\\""
    exit "$1"
}}

memory_mib=$(((memory_kib + 1023) / 1024))
if [ @MEMORY@ = yes ] && [ "$slot_mib" ] && [ "$memory_mib" -gt "$slot_mib" ]; then
    hold {MEMORY_SUBCODE} "The job used $memory_mib MiB of memory; its slot has $slot_mib MiB (request_memory)."
fi
if [ @DISK@ = yes ] && [ "$slot_kib" ] && [ "$disk_kib" -gt "$slot_kib" ]; then
    hold {DISK_SUBCODE} "The job used $disk_kib KiB of disk; its slot has $slot_kib KiB (request_disk)."
fi
exit 0
"""


def usage_text(*, memory: bool, disk: bool) -> str:
    """The program for these policies."""
    words = {True: "yes", False: "no"}
    return USAGE_TEXT.replace("@MEMORY@", words[memory]).replace("@DISK@", words[disk])
