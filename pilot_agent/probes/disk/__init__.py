"""Directories that could hold the workspace."""
