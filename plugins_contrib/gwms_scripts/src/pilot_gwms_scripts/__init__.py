"""Existing GlideinWMS custom scripts as setups and periodic tasks of a pilot."""
