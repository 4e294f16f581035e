"""Compresses under the Python that it belongs to, so that one zlib decides the bits: pack_worker.py zip|gzip IN OUT."""

from __future__ import annotations

import gzip
import sys
import zipfile


def pack_gzip(source: str, target: str) -> None:
    """Write `source` as one gzip member without name and date."""
    with (
        open(source, "rb") as file,
        open(target, "wb") as out,
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0) as packed,
    ):
        packed.write(file.read())


def pack_zip(source: str, target: str) -> None:
    """Write the zip `source` again behind the same shebang, everything but byte code compressed.

    Byte code is read at every start; sources only by a Python without byte code here, the rest hardly ever.
    """
    with zipfile.ZipFile(source) as plain, open(target, "wb") as out:
        with open(source, "rb") as file:
            out.write(file.readline())
        with zipfile.ZipFile(out, "a") as packed:
            for entry in plain.infolist():
                stored = entry.filename.endswith(".pyc")
                compression = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
                packed.writestr(entry, plain.read(entry), compression, 9)


if __name__ == "__main__":
    {"zip": pack_zip, "gzip": pack_gzip}[sys.argv[1]](sys.argv[2], sys.argv[3])
