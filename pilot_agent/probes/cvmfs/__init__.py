"""CVMFS as the site mounts it."""
