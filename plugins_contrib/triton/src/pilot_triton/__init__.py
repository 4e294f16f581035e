"""NVIDIA's Triton inference server beside the jobs of a pilot: one server per node's pilot, used by all its jobs."""
