#!/bin/bash
# As they were written many years ago: backticks, awk, the variable for the condor vars file, a fixed order of sourcing.
glidein_config=$1
entry_point=$2
condor_vars_file=`grep -i "^CONDOR_VARS_FILE " $glidein_config | awk '{print $2}'`
add_config_line_source=`grep '^ADD_CONFIG_LINE_SOURCE ' $glidein_config | awk '{print $2}'`
source $add_config_line_source
add_config_line OLD_STYLE_ID $entry_point
add_condor_vars_line OLD_STYLE_ID "S" "-" "OLD_STYLE_ID" "Y" "Y" "+"
