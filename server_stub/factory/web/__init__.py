"""The pages that a factory shows to people."""
