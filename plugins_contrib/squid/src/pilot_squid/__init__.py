"""An HTTP cache for all jobs of a node: squid beside the jobs of its pilots."""
