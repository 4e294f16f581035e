"""Tests of the HTCondor hand-off."""
