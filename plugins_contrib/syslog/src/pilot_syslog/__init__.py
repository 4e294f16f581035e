"""Events of pilots in the log of the node."""
