"""What the pilot may believe and run."""
