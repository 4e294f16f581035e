"""The DIRAC fast benchmark (DB12) of a pilot's node."""
