"""The image store: a directory of the node in which images are fetched and unpacked once, for all slots and pilots of
one account."""
