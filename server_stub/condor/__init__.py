"""HTCondor's Python bindings, each use in a child process: a library that hangs or crashes takes nobody along.

``python -m server_stub.condor`` is that child (``child.py``, the only module that loads the bindings), ``asking.py`` is
how the server asks it.
"""
