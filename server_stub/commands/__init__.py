"""The command lines ``pilot-factory`` and ``pilot-frontend``: each command says what it takes, and calls what does it.

A new command is a ``Command`` in a module of ``factory`` or ``frontend`` that the group's ``COMMANDS`` names.
"""
