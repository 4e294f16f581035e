"""`__main__`: what it answers before anything of the agent is imported."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pilot_agent import __main__ as entry
from tests.packaging.conftest import PROJECT


@pytest.mark.parametrize(
    "name", ["pilot_agent/__main__.py", "pilot_agent/__init__.py", "packaging/payload/zip_main.py"]
)
def test_what_an_old_python_reads_parses_there(name: str) -> None:
    text = (PROJECT / name).read_text()
    tree = ast.parse(text, feature_version=(3, 6))
    assert "from __future__ import annotations" not in text
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.JoinedStr, ast.NamedExpr))]


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 15), (3, 10, 99)])
def test_an_old_python_gets_a_sentence(version: tuple[int, int, int]) -> None:
    sentence = entry.too_old(version)
    assert sentence is not None
    assert sentence.count("\n") == 1
    assert ".".join(str(part) for part in version) in sentence
    assert "3.11" in sentence
    assert "pilot.sh" in sentence


def test_an_old_python_ends_with_the_exit_code_of_configuration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 6, 15, "final", 0))
    assert entry.main(["check"]) == 66
    assert "python.too_old" in capsys.readouterr().err


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 13, 5), (4, 0, 0)])
def test_a_new_python_is_accepted(version: tuple[int, int, int]) -> None:
    assert entry.too_old(version) is None


@pytest.mark.parametrize("words", [[], ["a b", 'quo"te', "back\\slash", "line\nbreak", "\u00e9\udcff"]])
def test_the_interpreter_list_is_json(words: list[str]) -> None:
    assert json.loads(entry.json_list(words)) == words


def test_the_checkout_answers_version_as_a_module_and_as_a_file() -> None:
    main = str(PROJECT / "pilot_agent/__main__.py")
    for words, cwd in ((["-m", "pilot_agent"], PROJECT), (["-I", "-S", main], Path("/")), ([main], Path("/"))):
        command = [sys.executable, *words, "--version"]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr, done.returncode) == ("pilot-agent 0.1.0\n", "", 0)


def test_a_python_that_does_not_know_its_own_path_is_found_by_the_kernel() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r}); told = sys.executable\n"
        "from pilot_agent import __main__ as entry; entry.know_own_interpreter()\n"
        "print([told, entry.interpreter_command()[0]])"
    )
    # Started by a bare name and without PATH, sys.executable is empty.
    words = ["python3", "-I", "-S", "-c", script]
    done = subprocess.run(words, executable=sys.executable, env={}, capture_output=True, text=True, check=False)
    assert done.stdout == f"{['', os.path.realpath(sys.executable)]}\n", done.stderr


def test_only_an_unpacked_runtime_of_our_own_is_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    assert not entry.remove_runtime(str(outside))
    link = tmp_path / "pilot-runtime.link"
    link.symlink_to(outside)
    assert not entry.remove_runtime(str(link))
    assert not entry.remove_runtime(str(tmp_path / "pilot-runtime.absent"))
    runtime = tmp_path / "pilot-runtime.abc"
    (runtime / "deep/er").mkdir(parents=True)
    (runtime / "deep/link").symlink_to(outside)
    (runtime / "deep/er/file").touch()
    assert entry.remove_runtime(str(runtime))
    assert (outside / "file").exists()


def test_a_poisoned_duty_to_remove_is_not_taken(tmp_path: Path) -> None:
    victim = tmp_path / "pilot-runtime.victim"
    victim.mkdir()
    script = (
        "import os, sys; os.environ['PILOT_AGENT_RUNTIME_PID'] = str(os.getpid())\n"
        "sys.argv[1:] = ['--version']\n"
        "from pilot_agent.__main__ import main; sys.exit(main())"
    )
    environment = {**os.environ, "PILOT_AGENT_RUNTIME_CLEAN": str(victim), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert done.returncode == 0
    assert victim.is_dir()
