"""Matrix products on the GPU of a pilot's node."""
