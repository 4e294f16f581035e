"""What the batch system gave this job, one module for each system."""
