"""A stand-in for a distribution of cvmfsexec, whose client cannot be had here.

It has the layout, commands, environment, exit codes and outputs of cvmfsexec 4.51 as far as pilots meet them, and real
FUSE mounts: the client is squashfuse, a repository an image that the tests build. What it imitates on purpose is named
where it is done; everything else is as the kernel does it with the real client too, such as a mount whose client died.
"""
