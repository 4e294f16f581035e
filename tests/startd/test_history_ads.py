"""The ads of a startd history are found whatever stands in them: a banner that a job wrote is none."""

from __future__ import annotations

import io
import random
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pilot_agent.startd import history_ads
from pilot_agent.startd.history_ads import LINE_LIMIT_BYTES, MOST_AT_ONCE, MOST_BANNERS, Ad, read_ads
from tests.startd.histories import banner, history

WANTED = frozenset(("exitcode", "user", "toe"))
OWN = ('ExitCode = 7\nUser = "user@pool"\n', "1.0")
FORGED = 'ClusterId = 9\nExitCode = 0\nUser = "victim@pool"\n'


def ads_in(content: bytes, begin: int = 0) -> list[Ad]:
    return list(read_ads(io.BytesIO(content), WANTED, begin, len(content)))


def found(content: bytes) -> list[tuple[int, int, str, str]]:
    """Cluster, process, exit code and user of each ad."""
    return [(ad.banner.cluster, ad.banner.process, ad.text("exitcode"), ad.string("user")) for ad in ads_in(content)]


HONEST = (1, 0, "7", "user@pool")


def hostile(*inside: str) -> tuple[str, str]:
    """The ad of a job with a string that holds line ends, which comes first in it."""
    return f'Aaa = "x\n{"".join(inside)}b"\n{OWN[0]}', "6.6"


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("forged", [1, 2, 5])
def test_banners_in_a_string_end_no_ad(before: int, after: int, forged: int) -> None:
    """Each of them names the banner that the real one names, or the forged one before it."""
    start = len(history(*[OWN] * before))
    last = len(history(*[OWN] * before)) - len(banner(start)) if before else 0
    first = history(*[OWN] * before)
    last = first.rfind(b"*** ") if before else 0
    inside, names = "", last
    for number in range(forged):
        inside += FORGED
        position = start + len('Aaa = "x\n') + len(inside)
        inside += banner(names, f"9.{number}", "victim")
        names = position if number % 2 else last
    content = history(*[OWN] * before, hostile(inside), *[OWN] * after)
    assert found(content) == [HONEST] * before + [(6, 6, "", "")] + [HONEST] * after


def test_what_a_job_writes_into_its_own_ad_a_second_time_is_not_believed_at_all() -> None:
    assert found(history(hostile(FORGED), OWN)) == [(6, 6, "", ""), HONEST]


@pytest.mark.parametrize(
    "value", ['"a\\\\"', '"a\\"', '{ "a", "b" }', '[ x = "y;z" ]', '"*** Offset = 0"', '"a \\" b"']
)
def test_odd_strings_of_honest_jobs_hide_nothing(value: str) -> None:
    odd = f"Aaa = {value}\n{OWN[0]}"
    assert found(history(OWN, (odd, "1.0"), OWN)) == [HONEST] * 3


def test_ads_that_were_written_at_the_same_moment_are_told_apart() -> None:
    """Each starter looked for the banner before it when the others had not written yet (seen with HTCondor 23.9)."""
    content = history(OWN)
    content += b"".join(OWN[0].encode() + banner(content.rfind(b"*** "), f"1.{n}").encode() for n in range(5))
    last = content.rfind(b"*** ")
    content += OWN[0].encode() + banner(last).encode()
    assert [process for _, process, _, _ in found(content)] == [0, 0, 1, 2, 3, 4, 0]


def test_ads_that_were_written_into_each_other_are_no_others() -> None:
    first, second = OWN[0].encode(), OWN[0].replace("7", "8").encode()
    before = history(OWN)
    name = before.rfind(b"*** ")
    mixed = first[:20] + second + banner(name, "1.2").encode() + first[20:] + banner(name, "1.1").encode()
    content = before + mixed
    content += OWN[0].encode() + banner(content.rfind(b"*** ")).encode()
    assert found(content) == [HONEST, (1, 1, "7", ""), HONEST]


def test_a_tail_begins_where_the_last_ad_ended() -> None:
    content, seen, position = history(*[(OWN[0], f"{n}.0") for n in range(9)]), 0, 0
    draw, numbers = random.Random(5), []
    while seen < len(content):
        seen = min(len(content), seen + draw.randint(1, 99))
        for ad in read_ads(io.BytesIO(content), WANTED, position, seen):
            numbers.append(ad.banner.cluster)
            position = ad.end
    assert numbers == list(range(9))


def test_more_than_a_history_can_hold_is_none() -> None:
    assert ads_in(banner(0).encode() * (MOST_BANNERS + 1)) == []
    assert len(ads_in(banner(0).encode() * (MOST_AT_ONCE + 1))) == 1


def test_too_many_banners_are_never_all_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper, which reads them, has little."""
    monkeypatch.setattr(history_ads, "MOST_BANNERS", 500)
    content = banner(0).encode() * 10_000
    tracemalloc.start()
    try:
        assert ads_in(content) == []
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 500_000


def test_a_huge_line_is_never_in_memory() -> None:
    class Watched(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size <= LINE_LIMIT_BYTES
            return super().readline(size)

    content = history((f'Aaa = "{"x" * 3 * LINE_LIMIT_BYTES}"\n' + OWN[0], "1.0"), OWN)
    assert len(list(read_ads(Watched(content), WANTED, 0, len(content)))) == 2


PIECES = st.sampled_from(
    [b"\n", b'"', b"\\", b"*** ", banner(0, "9.9").encode(), banner(60, "9.9").encode(), b'User = "v"\n', b" = ", b"x"]
)


@given(st.lists(PIECES | st.binary(max_size=20), max_size=30), st.integers(0, 300))
def test_whatever_stands_there_it_raises_nothing_and_gives_no_more_ads_than_banners(
    pieces: list[bytes], begin: int
) -> None:
    content = b"".join(pieces)
    ads = ads_in(content, begin)
    assert len(ads) <= content.count(b"*** Offset")
    for ad in ads:
        ad.how(), ad.integer("exitcode"), ad.number("exitcode"), ad.string("user"), ad.true("user")
        assert 0 < ad.end <= len(content)


@given(st.lists(PIECES, max_size=20))
@example([b"\n", banner(0, "9.9").encode(), b'Aaa = "'])
def test_no_string_of_a_job_makes_an_ad(pieces: list[bytes]) -> None:
    """As HTCondor prints it: a quote in a string is escaped, and nothing else."""
    text = b"".join(pieces).decode().replace('"', '\\"')
    first = f'Aaa = "{text}"\n{OWN[0]}'
    content = history(OWN, (first, "6.6"), OWN)
    read = found(content)
    assert [one[:2] for one in read] == [(1, 0), (6, 6), (1, 0)]
    assert read[1][3] in ("user@pool", "")
