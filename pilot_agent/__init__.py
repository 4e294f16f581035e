"""A self-contained pilot for HTCondor pools."""

__version__ = "0.1.0"

CVMFS = "/cvmfs"
"""Where jobs see it, and where it is on a node that mounts it itself. Here, as the smallest programs need it too."""
