"""Makes the HTCondor that pilots bring to nodes that have none; see build_condor.py."""
