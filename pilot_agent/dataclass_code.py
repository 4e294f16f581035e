"""Byte code for what ``dataclasses`` writes as text and compiles for each class, carried by the payload.

Every process of the pipeline makes some 140 records of the standard library's kind, and compiling their methods was 0.1
of its 0.25 CPU seconds before the first stage. The payload's builder compiles the same texts once; a text that it does
not know is compiled here, so a plugin's own classes work as ever.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pilot_agent.light import sha256_hex

if TYPE_CHECKING:
    from typing import Any

FILE = "dataclass_code.bin"
"""The file beside this module: the magic number of the byte code, then a marshalled mapping from the SHA-256 of a text
(its first ``DIGEST_BYTES``) to the marshalled code, so that only what is needed is made."""

DIGEST_BYTES = 16


def digest(text: str) -> bytes:
    """The key of a text."""
    return bytes.fromhex(sha256_hex(text.encode()))[:DIGEST_BYTES]


def use_carried() -> bool:
    """Have ``dataclasses`` take its byte code from the payload; False where there is none for this Python, as in a
    checkout."""
    import marshal
    from importlib.util import MAGIC_NUMBER

    try:
        data: bytes = __loader__.get_data(os.path.join(os.path.dirname(__file__), FILE))  # type: ignore[name-defined]
    except (AttributeError, OSError):
        return False
    if not data.startswith(MAGIC_NUMBER):
        return False
    codes: dict[bytes, bytes] = marshal.loads(data[len(MAGIC_NUMBER) :])  # noqa: S302 - like all of its byte code

    def execute(text: str, names: dict[str, Any], values: dict[str, Any]) -> None:
        code = codes.get(digest(text))
        exec(text if code is None else marshal.loads(code), names, values)  # noqa: S102, S302 - what dataclasses does

    import dataclasses

    # The module's own name for it comes before the built-in one.
    vars(dataclasses)["exec"] = execute
    return True
