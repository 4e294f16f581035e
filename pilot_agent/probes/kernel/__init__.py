"""What the kernel lets an ordinary account do: namespaces and FUSE."""
