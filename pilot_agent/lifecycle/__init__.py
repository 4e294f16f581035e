"""The end of life, from its beginning: guardian, keeper, journal, signals, teardown.

Everything here is loaded by the processes that stay for the whole life of a pilot. Each module of the standard
library costs them memory (``dataclasses`` 1.7 MiB, ``subprocess`` 1.1, ``socket`` 0.6, ``typing`` 0.5), so these
modules use plain classes with slots, ``os.posix_spawn`` and ``_socket``, and a constant named ``TYPE_CHECKING``.
"""
