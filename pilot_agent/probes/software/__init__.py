"""What is installed on the node."""
