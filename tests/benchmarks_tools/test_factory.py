"""The factory's figures count what they say: no answer that is not whole, no minute without its slowest."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from benchmarks import factory, factory_downloads
from benchmarks.factory_reports import Sent


def test_of_a_hundred_reports_the_slowest_but_one_counts() -> None:
    sent = Sent({f"p{number}": float(number) for number in range(200)})
    assert sent.percentile() == 198.0
    assert Sent({"p": 3.0}).percentile() == 3.0


def test_all_of_a_factorys_figures_are_measured_or_those_that_are_named() -> None:
    assert factory.wanted(["factory"]) == ["factory-reports", "factory-downloads", "factory-pages"]
    assert factory.wanted(["memory", "factory-pages"]) == ["factory-pages"]


CONTENT = b"x" * 5000
NAME = f"targets/files/{hashlib.sha256(CONTENT).hexdigest()}.models.zip"


def read(answer: bytes, size: int | None) -> None:
    async def once() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(answer)
        reader.feed_eof()
        await factory_downloads._answer(reader, NAME, size)

    asyncio.run(once())


def answer(status: int, content: bytes, length: int | None = None) -> bytes:
    return f"HTTP/1.1 {status} x\r\nContent-Length: {length or len(content)}\r\n\r\n".encode() + content


def test_a_client_takes_what_is_whole_and_that_there_is_none() -> None:
    read(answer(200, CONTENT), 5000)
    read(answer(404, b"{}"), None)


@pytest.mark.parametrize(
    ("told", "size"),
    [
        (answer(503, b"busy"), 5000),
        (answer(200, CONTENT), None),
        (answer(200, CONTENT[1:]), 5000),
        (answer(200, CONTENT[1:] + b"y"), 5000),
        (answer(200, CONTENT[:-1], 5000), 5000),
    ],
    ids=["refused", "there", "short", "altered", "cut off"],
)
def test_a_client_counts_nothing_else(told: bytes, size: int | None) -> None:
    with pytest.raises(ValueError, match="targets/"):
        read(told, size)


def test_what_is_published_is_of_the_sizes_that_are_asked_for(tmp_path: Path) -> None:
    sizes = factory_downloads.publish(tmp_path)
    assert {name: (tmp_path / name).stat().st_size for name in sizes} == sizes
    *_, target = sizes
    assert hashlib.sha256((tmp_path / target).read_bytes()).hexdigest() in target
