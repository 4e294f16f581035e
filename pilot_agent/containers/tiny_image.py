"""A SIF file of nine kilobytes, made here: shows whether a runtime can mount SIF files when a node has none yet.

It holds one program, ``/exit_37``, which says ``MARK`` and exits with 37: neither the runtime nor a shell does both. It
may hold places for the node's own programs too.
Nothing in it is compressed, so that every squashfs driver can read it, and the same bytes come out every time.
Formats: the kernel's Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h; Apptainer's
sif/pkg/sif/sif.go; the ELF standard.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

MARK = "pilot-agent: a program ran in a SIF file"
STATUS = 37
PROGRAM = "/exit_37"
ARCHITECTURE = "x86_64"
"""The only processor that the program is for."""

EMPTY_DIRECTORIES = ("dev", "etc", "home", "proc", "root", "srv", "sys", "tmp", "var/tmp")

Tree = Mapping[str, "bytes | str | Tree"]
"""A directory's entries: the content of executable files, where symbolic links lead, and further directories."""

_NOTHING = 0xFFFFFFFFFFFFFFFF  # a table that a squashfs does not have
_BLOCK_SIZE = 131072
_DIRECTORY, _FILE, _LINK = 1, 2, 3
_STORED = 0x8000  # a metadata block that is not compressed
_STORED_DATA = 1 << 24
# Nothing compressed, no fragments, no extended attributes.
_FLAGS = 0x1 | 0x2 | 0x8 | 0x10 | 0x200 | 0x800
_PAGE = 4096

_SIF_AMD64 = b"02"
_SIF_PARTITION = 0x4004
_SIF_SQUASHFS, _SIF_PRIMARY_SYSTEM = 1, 2


def sif(places: Tree | None = None) -> bytes:
    """The whole file, with ``places`` in its root directory too."""
    tree: dict[str, bytes | str | Tree] = {PROGRAM.strip("/"): program(), **(places or {})}
    for path in EMPTY_DIRECTORIES:
        first, _, second = path.partition("/")
        tree[first] = {second: {}} if second else {}
    return wrap(squashfs(tree))


def program() -> bytes:
    """A static x86_64 program: write(1, MARK) and _exit(STATUS), two system calls and nothing else."""
    said = MARK.encode() + b"\n"
    load = struct.Struct("<BI")
    # mov edi, 1; mov edx, length; mov eax, 1 (write); lea rsi, [rip + distance]
    write = load.pack(0xBF, 1) + load.pack(0xBA, len(said)) + load.pack(0xB8, 1)
    # syscall; mov edi, STATUS; mov eax, 60 (exit); syscall
    leave = b"\x0f\x05" + load.pack(0xBF, STATUS) + load.pack(0xB8, 60) + b"\x0f\x05"
    code = write + b"\x48\x8d\x35" + struct.pack("<i", len(leave)) + leave + said
    base, start = 0x400000, 64 + 56
    size = start + len(code)
    header = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + start, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, _PAGE)
    return header + segment + code


def squashfs(tree: Tree) -> bytes:
    """A squashfs 4.0 file system of directories and executable files, each of at most one block."""
    return _Squashfs().image(tree)


def wrap(file_system: bytes) -> bytes:
    """A SIF file around the squashfs of an x86_64 root file system."""
    descriptor_offset, data_offset = 128, _PAGE
    extra = struct.pack("<ii3s", _SIF_SQUASHFS, _SIF_PRIMARY_SYSTEM, _SIF_AMD64)
    descriptor = struct.pack(
        "<i?III3q2q2q128s384s",
        *(_SIF_PARTITION, True, 1, 0xF0000001, 0),
        *(data_offset, len(file_system), len(file_system)),
        *(0, 0, 0, 0, b"pilot-agent", extra),
    )
    header = struct.pack(
        "<32s10s3s3s16s8q",
        *(b"#!/usr/bin/env run-singularity\n", b"SIF_MAGIC", b"01", _SIF_AMD64, b"pilot-agent-sif1"),
        *(0, 0, 0, 1, descriptor_offset, len(descriptor), data_offset, len(file_system)),
    )
    return (header + descriptor).ljust(data_offset, b"\0") + file_system


class _Squashfs:
    """Collects data, inodes and directory listings; every table fits one metadata block of 8 KiB."""

    def __init__(self) -> None:
        self.data = b""
        self.inodes = b""
        self.listings = b""
        self.count = 0

    def image(self, tree: Tree) -> bytes:
        total = _inodes_in(tree)
        root = self._directory(tree, total + 1)
        inode_start = 96 + len(self.data)
        listing_start = inode_start + 2 + len(self.inodes)
        identity_start = listing_start + 2 + len(self.listings)
        identities = struct.pack("<I", 0)
        index_start = identity_start + 2 + len(identities)
        used = index_start + 8
        super_block = struct.pack(
            "<5I6H8Q",
            *(0x73717368, self.count, 0, _BLOCK_SIZE, 0),
            *(1, _BLOCK_SIZE.bit_length() - 1, _FLAGS, 1, 4, 0),
            *(root, used, index_start, _NOTHING, inode_start, listing_start, _NOTHING, _NOTHING),
        )
        tables = b"".join(_stored(table) for table in (self.inodes, self.listings, identities))
        whole = super_block + self.data + tables + struct.pack("<Q", identity_start)
        return whole.ljust(-(-len(whole) // _PAGE) * _PAGE, b"\0")

    def _directory(self, tree: Tree, parent: int) -> int:
        """Write what is in it, then itself; the offset of its inode. Inodes are numbered as they are written, from 1,
        a directory after what it holds, so that its own number is known from the size of its tree."""
        own = self.count + _inodes_in(tree)
        entries = b""
        for name, content in sorted(tree.items()):
            kind, offset = self._entry(content, own)
            # The number relative to the first of the listing's header, which is this directory's.
            entries += struct.pack("<HhHH", offset, self.count - own, kind, len(name) - 1) + name.encode()
        listing = struct.pack("<III", len(tree) - 1, 0, own) + entries if tree else b""
        subdirectories = sum(not isinstance(content, (bytes, str)) for content in tree.values())
        place, self.listings = len(self.listings), self.listings + listing
        body = struct.pack("<IIHHI", 0, 2 + subdirectories, len(listing) + 3, place, parent)
        return self._inode(_DIRECTORY, body)

    def _entry(self, content: bytes | str | Tree, parent: int) -> tuple[int, int]:
        """Kind of an entry, and the offset of its inode."""
        if isinstance(content, bytes):
            return _FILE, self._file(content)
        if isinstance(content, str):
            return _LINK, self._inode(_LINK, struct.pack("<II", 1, len(content.encode())) + content.encode())
        return _DIRECTORY, self._directory(content, parent)

    def _file(self, content: bytes) -> int:
        start = 96 + len(self.data)
        self.data += content
        return self._inode(
            _FILE, struct.pack("<IIIII", start, 0xFFFFFFFF, 0, len(content), len(content) | _STORED_DATA)
        )

    def _inode(self, kind: int, body: bytes) -> int:
        self.count += 1
        offset = len(self.inodes)
        self.inodes += struct.pack("<HHHHII", kind, 0o755, 0, 0, 0, self.count) + body
        return offset


def _inodes_in(tree: Tree) -> int:
    """The number of inodes of a directory and all that is in it."""
    return 1 + sum(1 if isinstance(content, (bytes, str)) else _inodes_in(content) for content in tree.values())


def _stored(table: bytes) -> bytes:
    return struct.pack("<H", len(table) | _STORED) + table
