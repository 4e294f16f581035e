"""What a program or library says of itself: its machine, the libraries it loads, the versions it wants of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from payload.console import BuildError

MAGIC = b"\x7fELF"
MACHINES = {62: "x86_64", 183: "aarch64", 21: "ppc64le", 22: "s390x", 243: "riscv64"}
MOST_ENTRIES = 4096

_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRTAB, _SONAME, _VERNEED, _VERNEEDNUM = 1, 5, 14, 0x6FFFFFFE, 0x6FFFFFFF


@dataclass(frozen=True, slots=True)
class Elf:
    """``needed`` are the names of libraries in their order; ``versions`` maps a library to the versions wanted of it,
    such as libc.so.6 -> GLIBC_2.38. Both are empty for a program that is linked statically."""

    machine: str
    needed: tuple[str, ...]
    versions: dict[str, tuple[str, ...]]
    soname: str = ""


def read_elf(data: bytes, name: str) -> Elf | None:
    """What the file says; None when it is no ELF file. BuildError for one of another form than this reads."""
    if data[:4] != MAGIC:
        return None
    if len(data) < 64 or data[4] != 2 or data[5] != 1:
        raise BuildError(f"{name} is no 64-bit little-endian ELF file, and no other is built for")
    try:
        return _Reader(data, name).read()
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise BuildError(f"{name} is damaged: its dynamic section cannot be read ({error})") from error


class _Reader:
    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._name = name
        # ELF-64 header: e_phoff, e_phentsize, e_phnum.
        (offset,) = struct.unpack_from("<Q", data, 32)
        size, count = struct.unpack_from("<HH", data, 54)
        # Elf64_Phdr: p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz.
        self._segments = [struct.unpack_from("<IIQQQQ", data, offset + size * index) for index in range(count)]

    def read(self) -> Elf:
        (number,) = struct.unpack_from("<H", self._data, 18)
        machine = MACHINES.get(number, f"machine {number}")
        entries = list(self._dynamic())
        values = dict(entries)
        if _STRTAB not in values:
            return Elf(machine, (), {})
        strings = self._at(values[_STRTAB])
        needed = tuple(self._text(strings + value) for tag, value in entries if tag == _NEEDED)
        soname = self._text(strings + values[_SONAME]) if _SONAME in values else ""
        versions: dict[str, tuple[str, ...]] = {}
        if _VERNEED in values:
            versions = dict(self._versions(self._at(values[_VERNEED]), values.get(_VERNEEDNUM, 0), strings))
        return Elf(machine, needed, versions, soname)

    def _dynamic(self) -> Iterator[tuple[int, int]]:
        for kind, _, offset, _, _, size in self._segments:
            if kind == _DYNAMIC:
                for place in range(offset, offset + min(size, 16 * MOST_ENTRIES), 16):
                    tag, value = struct.unpack_from("<qQ", self._data, place)
                    if tag == 0:
                        return
                    yield tag, value

    def _versions(self, place: int, count: int, strings: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Elf64_Verneed (vn_version, vn_cnt, vn_file, vn_aux, vn_next), each with its Elf64_Vernaux (vna_hash,
        vna_flags, vna_other, vna_name, vna_next)."""
        for _ in range(min(count, MOST_ENTRIES)):
            _, names, file, first, following = struct.unpack_from("<HHIII", self._data, place)
            found, part = [], place + first
            for _ in range(names):
                _, _, _, name, step = struct.unpack_from("<IHHII", self._data, part)
                found.append(self._text(strings + name))
                if step == 0:
                    break
                part += step
            yield self._text(strings + file), tuple(found)
            if following == 0:
                break
            place += following

    def _at(self, address: int) -> int:
        """Where in the file an address of the loaded program lies."""
        for kind, _, offset, start, _, size in self._segments:
            if kind == _LOAD and start <= address < start + size:
                return int(offset + address - start)
        raise ValueError(f"no segment holds address {address:#x}")

    def _text(self, place: int) -> str:
        return self._data[place : self._data.index(b"\0", place)].decode("utf-8")
