"""Entries made from what others know of sites: CRIC, OSG's collector, a GlideinWMS factory's configuration."""
