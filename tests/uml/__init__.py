"""What this machine's kernel cannot show, shown by another kernel: a User-Mode Linux that runs the testbed.

``python -m tests.uml`` starts it. It is no part of ``make test``: its modules have names that pytest does not collect.
"""
