"""A self-contained pilot for HTCondor pools."""

__version__ = "0.1.0"
