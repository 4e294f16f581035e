"""The order of proofs, what one failure means for the others, and the budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from pilot_agent.containers import trials
from pilot_agent.containers.abilities import AbilityTrial
from pilot_agent.containers.candidates import Located
from pilot_agent.containers.proof import ProofSetting
from pilot_agent.containers.runtime import RuntimeProgram
from pilot_agent.containers.trials import Trials, try_all
from pilot_agent.model import ImageCandidate
from pilot_agent.process import Interrupted, Result, Runner
from tests.containers.runtimes import NO_FUSE, NO_PID_NAMESPACE, NO_USER_NAMESPACE, UNPACKS, calls, make_runtime
from tests.wake_pipe import WakePipe

LONG = 60.0


def located(name: str) -> Located:
    if name.startswith("docker://"):
        return Located(ImageCandidate("p", name), name, "remote")
    form: Literal["file", "directory"] = "file" if name.endswith(".sif") else "directory"
    return Located(ImageCandidate("p", name), f"/images/{name}", form)


class Bench:
    """One runtime and what it is given."""

    def __init__(self, tmp_path: Path, behaviour: str = "", sif: str = "") -> None:
        self.runtime = make_runtime(tmp_path / "bin", behaviour, sif=sif)
        self.temporary = tmp_path / "tmp"
        self.temporary.mkdir()
        program = RuntimeProgram(str(self.runtime), "apptainer", "1.4.5", (1, 4, 5), "PATH")
        self.setting = ProofSetting(program, {"PATH": "/usr/bin:/bin"}, str(self.temporary))

    def run(self, *ladders: Sequence[str], budget_seconds: float = 30.0) -> Trials:
        made = [[located(name) for name in ladder] for ladder in ladders]
        return try_all(self.setting, made, budget_seconds=budget_seconds)

    @property
    def images(self) -> list[str]:
        """The images that were tried, in their order."""
        return [word for call in calls(self.runtime) for word in call.split() if word.startswith("/images/")]


def test_the_first_candidate_that_runs_is_chosen(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    found = bench.run(["broken-a", "broken-b", "good", "never"])
    assert found.chosen(0, 4) == 2
    assert (0, 3) not in found.proofs
    assert bench.images == ["/images/broken-a", "/images/broken-b", "/images/good"]


def test_a_remote_candidate_is_never_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    found = bench.run(["broken", "docker://x", "good"], ["docker://y"], ["good"])
    assert [found.chosen(ladder, length) for ladder, length in enumerate((3, 1, 1))] == [1, 0, 0]
    assert sorted(bench.images) == ["/images/broken", "/images/good"]
    assert not any("docker" in call for call in calls(bench.runtime))


def test_a_platform_whose_candidates_all_fail_has_none(tmp_path: Path) -> None:
    found = Bench(tmp_path).run(["broken"], ["good"])
    assert found.chosen(0, 1) is None
    assert found.chosen(1, 1) == 0
    assert found.any_proven


def test_the_default_platform_is_tried_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(["one"], ["two"], ["three"])
    assert bench.images[0] == "/images/one"
    assert sorted(bench.images) == ["/images/one", "/images/three", "/images/two"]


def test_an_image_of_two_platforms_is_proven_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    found = bench.run(["same"], ["other"], ["third"], ["same"])
    assert found.chosen(3, 1) == 0
    assert bench.images.count("/images/same") == 1


def test_without_pid_namespaces_the_image_is_tried_again_without_one_and_so_are_the_rest(tmp_path: Path) -> None:
    bench = Bench(tmp_path, NO_PID_NAMESPACE)
    found = bench.run(["one"], ["two"], ["three"], ["four"])
    assert all(found.chosen(ladder, 1) == 0 for ladder in range(4))
    assert not found.pid_namespace
    contained = [call for call in calls(bench.runtime) if " -C " in call]
    assert len(contained) <= trials.WIDTH


def test_a_node_that_refuses_user_namespaces_is_not_asked_for_every_image(tmp_path: Path) -> None:
    bench = Bench(tmp_path, NO_USER_NAMESPACE)
    found = bench.run(["one", "other"], ["two"], ["three"], ["four"], ["five"])
    assert found.node_problem is not None
    assert found.node_problem.code == "userns.disabled"
    assert len(bench.images) <= trials.WIDTH
    assert not found.any_proven
    assert not found.pid_namespace


@pytest.mark.parametrize(("behaviour", "sif"), [("", NO_FUSE), (UNPACKS, "")])
def test_where_sif_files_cannot_be_mounted_only_one_is_tried(tmp_path: Path, behaviour: str, sif: str) -> None:
    bench = Bench(tmp_path, behaviour, sif)
    found = bench.run(["one.sif", "one"], ["two"], ["three.sif"], ["four.sif", "four"])
    assert found.sif is False
    assert [found.chosen(ladder, length) for ladder, length in enumerate((2, 1, 1, 2))] == [1, 0, None, 1]
    assert len([image for image in bench.images if image.endswith(".sif")]) <= trials.WIDTH


def test_a_sif_file_that_runs_shows_that_they_can_be_used(tmp_path: Path) -> None:
    assert Bench(tmp_path).run(["one.sif"]).sif is True


def test_without_a_sif_file_nothing_is_said_of_them(tmp_path: Path) -> None:
    assert Bench(tmp_path).run(["one"]).sif is None


def test_without_time_only_the_default_image_is_proven_and_the_rest_stay_untried(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    found = bench.run(["one"], ["two"], ["three"], budget_seconds=0.0)
    assert set(found.proofs) == {(0, 0)}
    assert found.chosen(2, 1) == 0
    assert bench.images == ["/images/one"]


def test_an_image_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "LONGEST_SECONDS", 0.3)
    found = Bench(tmp_path).run(["hanging", "good"])
    proof = found.proofs[0, 0]
    assert proof.diagnosis is not None
    assert proof.diagnosis.code == "image.timeout"


def test_nothing_of_a_proof_is_left(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(["one"], ["broken"], ["two"])
    assert list(bench.temporary.iterdir()) == []


def test_a_signal_ends_the_proofs_and_leaves_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with WakePipe() as wake:
        wake.ring()
        with pytest.raises(Interrupted):
            try_all(bench.setting, [[located("hanging")]], budget_seconds=30, wake=wake)
    assert list(bench.temporary.iterdir()) == []


def test_no_room_for_a_proof_is_an_error_of_the_system(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.temporary.rmdir()
    with pytest.raises(FileNotFoundError):
        bench.run(["one"])


def test_other_runs_go_on_beside_the_first_proof_and_are_waited_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    beside = AbilityTrial(bench.setting, sif_files=True)
    found = try_all(bench.setting, [[located("good")], [located("other")]], budget_seconds=LONG, beside=beside)
    assert found.any_proven
    assert found.directories is True
    assert not beside.waiting
    assert not beside.running
    assert beside.ran
    assert len(calls(bench.runtime)) == 3
    beside.clear()
    assert list(bench.temporary.iterdir()) == []


@pytest.mark.parametrize("behaviour", [NO_USER_NAMESPACE, ""], ids=["a runtime that runs nothing", "no time"])
def test_no_other_run_is_started_where_it_would_be_of_no_use(tmp_path: Path, behaviour: str) -> None:
    bench = Bench(tmp_path, behaviour)
    beside = Beside()
    try_all(bench.setting, [[located("good")]], budget_seconds=LONG if behaviour else 0, beside=beside)
    assert beside.started <= (1 if behaviour else 0)


class Beside:
    """Asks to be started again and again, and never runs."""

    def __init__(self) -> None:
        self.running: dict[int, str] = {}
        self.started = 0

    @property
    def waiting(self) -> bool:
        return self.started < 5

    def start(self, runner: Runner, seconds: float) -> None:
        self.started += 1
        command = ["/bin/sleep", "0.2"]
        handle = runner.start(command, deadline_seconds=seconds, environment={}, output_limit_bytes=10)
        assert isinstance(handle, int)
        self.running[handle] = "sleep"

    def settle(self, handle: int, result: Result) -> None:
        del self.running[handle]
