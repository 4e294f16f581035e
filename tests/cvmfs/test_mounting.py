from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.cvmfs.distribution import Distribution
from pilot_agent.cvmfs.mounting import CODES, Mounted, in_order, mount, prove, unmount
from pilot_agent.lifecycle.mounts import is_mount_point
from pilot_agent.probes.kernel.namespaces import mount as mount_here
from tests.cvmfs.distributions import CONFIGURATION, make, tell
from tests.probes.hanging_fuse import hanging_mount
from tests.probes.namespaced import in_namespace

A, B = "a.example.org", "b.example.org"
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "cvmfs")


def mounted(root: Path, *names: str, then: Callable[[Distribution], Any] = lambda _: None, **given: Any) -> Any:
    """What became of these repositories in a namespace of the test's own, and what ``then`` found there."""

    def work() -> Any:
        laid = Distribution(str(root))
        return [[asdict(one) for one in mount(laid, names, environment=ENVIRONMENT, **given)], then(laid)]

    found, after = in_namespace(work)
    return {one["repository"]: Mounted(**one) for one in found}, after


def asked(root: Path) -> list[str]:
    return (root / "asked").read_text().split()


def test_the_configuration_repository_comes_first_and_each_answers(root: Path) -> None:
    def read(laid: Distribution) -> list[str]:
        return [Path(laid.point(name), "new_repository").read_text() for name in (CONFIGURATION, A, B)]

    found, texts = mounted(root, A, B, A, then=read)
    assert asked(root) == [CONFIGURATION, A, B]
    assert list(found) == [CONFIGURATION, A, B]
    assert all(one.ok and one.code == 0 and one.reason == "" for one in found.values())
    assert texts == [f"this is {name}\n" for name in (CONFIGURATION, A, B)]


def test_nothing_is_tried_without_the_configuration_repository(root: Path) -> None:
    tell(root, CONFIGURATION, 'echo "reached nobody" >&2; exit 16')
    found, _ = mounted(root, A)
    assert asked(root) == [CONFIGURATION]
    assert (found[CONFIGURATION].ok, found[A].ok) == (False, False)
    assert found[A].reason.startswith(f"it was not tried without the configuration repository {CONFIGURATION}: ")
    assert "reached nobody" in found[A].reason


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_refusal_is_explained_with_the_words_of_client_and_log(root: Path, code: int) -> None:
    log = f'mkdir -p "$here/log"; echo "whitelist expired" > "$here/log/{A}.log"'
    tell(root, A, f'{log}; echo "Failed to initialize" >&2; echo "mountrepo {A} failed"; exit {code}')
    found, left = mounted(root, A, B, then=lambda laid: os.listdir(laid.mount_point))
    assert (found[A].ok, found[A].code, found[B].ok) == (False, code, True)
    assert found[A].reason == (
        f"mountrepo exited {code}: {CODES[code]}; it said: Failed to initialize; its log ends with: whitelist expired"
    )
    assert sorted(left) == [B, CONFIGURATION]


def test_an_account_in_what_the_client_says_is_not_repeated(root: Path) -> None:
    tell(root, A, "echo 'no way through http://pilot:secret@squid:3128' >&2; exit 23")
    found, _ = mounted(root, A)
    assert "squid:3128" in found[A].reason
    assert "secret" not in found[A].reason


def test_a_mount_that_succeeds_with_nothing_in_it_is_none(root: Path) -> None:
    tell(root, A, 'mount -t tmpfs none "$point"; exit 0')
    found, left = mounted(root, A, then=lambda laid: os.listdir(laid.mount_point))
    assert (found[A].ok, found[A].code) == (False, 0)
    assert "an empty directory" in found[A].reason
    assert left == [CONFIGURATION]


def test_a_return_code_of_0_without_any_mount_is_none(root: Path) -> None:
    tell(root, A, "exit 0")
    found, left = mounted(root, A, then=lambda laid: os.listdir(laid.mount_point))
    assert (found[A].ok, left) == (False, [CONFIGURATION])


def test_a_mount_that_hangs_costs_its_deadline_and_the_next_is_tried(root: Path) -> None:
    tell(root, A, "while :; do sleep 1; done")
    found, _ = mounted(root, A, B, mount_seconds=3.0)
    assert (found[A].ok, found[A].code, found[B].ok) == (False, None, True)
    assert "did not end within 3.0 s" in found[A].reason


def test_a_mount_that_ignores_signals_is_killed_and_taken_away(root: Path) -> None:
    tell(root, A, 'trap "" TERM; mount -t tmpfs none "$point"; while :; do sleep 1; done')
    found, left = mounted(root, A, mount_seconds=3.0, then=lambda laid: os.listdir(laid.mount_point))
    assert (found[A].ok, left) == (False, [CONFIGURATION])


def test_the_stale_mount_of_a_dead_client_is_taken_away_and_tried_again(root: Path) -> None:
    stale = 'if grep -q " $point " /proc/mounts; then echo "Permission denied" >&2; exit 4; fi'
    tell(root, A, stale)

    def twice() -> Any:
        laid = Distribution(str(root))
        os.mkdir(laid.mount_point)
        os.mkdir(laid.point(A))
        mount_here("dead", laid.point(A), "tmpfs", 0)
        found = [asdict(one) for one in mount(laid, [A], environment=ENVIRONMENT)]
        return [*found, is_mount_point(laid.point(CONFIGURATION))]

    _, again, configured = in_namespace(twice)
    assert (again["ok"], again["code"]) == (True, 0)
    assert configured, "the configuration repository was alive, and stays"
    assert asked(root) == [CONFIGURATION, A, A]


def test_a_name_that_leads_elsewhere_is_not_given_to_a_command(root: Path) -> None:
    found, _ = mounted(root, "../evil", "plain")
    assert [one.ok for one in found.values()] == [True, False, False]
    assert asked(root) == [CONFIGURATION]


def test_a_client_that_does_not_answer_is_found_out(tmp_path: Path) -> None:
    def work() -> list[str]:
        path = str(tmp_path / A)
        os.mkdir(path)
        with hanging_mount(path) as served:
            served.become("silent")
            state = prove(path, A, seconds=2.0)
            return [state.state, state.reason]

    state, reason = in_namespace(work)
    assert (state, "no answer within 2 s" in reason) == ("hung", True)


@pytest.mark.parametrize(
    ("attributes", "state"),
    [
        ({"user.fqrn": A, "user.revision": "7"}, "ok"),
        ({}, "ok"),
        ({"user.revision": "7"}, "broken"),
        ({"user.fqrn": B, "user.revision": "7"}, "broken"),
    ],
    ids=["its own name", "hidden attributes", "no name", "the name of another"],
)
def test_a_client_that_tells_anything_must_tell_its_repository(
    tmp_path: Path, attributes: dict[str, str], state: str
) -> None:
    def work() -> str:
        with hanging_mount(tmp_path / A, attributes):
            return prove(str(tmp_path / A), A).state

    assert in_namespace(work) == state


def test_unmounting_begins_with_the_last_and_ends_with_the_configuration_repository(root: Path) -> None:
    def work() -> Any:
        laid = Distribution(str(root))
        mount(laid, [A, B], environment=ENVIRONMENT)
        left = unmount(laid, [A, B], environment=ENVIRONMENT)
        return [left, is_mount_point(laid.point(A)), os.listdir(laid.mount_point)]

    assert in_namespace(work) == [{}, False, []]


def test_what_is_in_use_is_unmounted_only_lazily(root: Path) -> None:
    def work() -> Any:
        laid = Distribution(str(root))
        mount(laid, [A], environment=ENVIRONMENT)
        with open(f"{laid.point(A)}/new_repository", encoding="utf-8") as used:
            busy = unmount(laid, [A], environment=ENVIRONMENT)
            still = is_mount_point(laid.point(A))
            lazily = unmount(laid, [A], environment=ENVIRONMENT, lazy=True)
            return [list(busy), still, lazily, used.read()]

    busy, still, lazily, text = in_namespace(work)
    assert (busy, still, lazily) == ([A], True, {})
    assert text == f"this is {A}\n"


def test_a_distribution_without_a_configuration_repository_has_no_first(tmp_path: Path) -> None:
    root = make(tmp_path / "cvmfs", configuration="")
    assert in_order(Distribution(str(root)), [B, A, B]) == (B, A)
