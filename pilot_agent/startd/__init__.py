"""The HTCondor hand-off: a typed plan, the private configuration made from it, and what is read back afterwards."""
