"""Histories as HTCondor 23.9 writes them: each banner says where the one before begins."""

from __future__ import annotations


def banner(offset: int, job: str = "1.0", owner: str = "user") -> str:
    """The line that ends an ad."""
    cluster, process = job.split(".")
    named = f'ClusterId = {cluster} ProcId = {process} Owner = "{owner}" CompletionDate = 1795273819'
    return f"*** Offset = {offset} {named}\n"


def history(*ads: tuple[str, str], begin: int = 0) -> bytes:
    """The file with these ads, each given as its lines and its job; ``begin`` is how much of it is left out."""
    content, last = bytearray(), 0
    for lines, job in ads:
        content += lines.encode("utf-8", "surrogateescape")
        now = begin + len(content)
        content += banner(last, job).encode()
        last = now
    return bytes(content)
