"""Makes the CVMFS clients that pilots bring to nodes that have none; see cvmfs_distributions.py."""
