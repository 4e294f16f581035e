"""The commands of ``pilot-factory``."""
