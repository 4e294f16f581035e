"""Tests that run real programs in the testbed."""
