"""One module per thing probed: readers of a root directory and an environment that they are given."""
