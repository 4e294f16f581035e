"""The commands of ``pilot-frontend``."""
