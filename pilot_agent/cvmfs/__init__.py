"""CVMFS on the node: what is mounted and whether it answers."""
