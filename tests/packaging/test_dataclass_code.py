"""The byte code that the payload carries for dataclasses is what they would compile, and is used."""

from __future__ import annotations

import json
import marshal
import zipfile
from importlib.util import MAGIC_NUMBER

import pytest

from pilot_agent.dataclass_code import digest, use_carried
from tests.packaging.conftest import Built, start, system_python

HEAD = """
import json, os, sys
archive = sys.argv[1]
sys.path[:0] = [archive + "/cp311"] * (sys.version_info[1] == 11) + [archive]
from pilot_agent import dataclass_code
"""
COMPILED = """
texts = []
sys.addaudithook(lambda event, found: texts.append(found[0]) if event == "compile" and found[1] == "<string>" else None)
carried = len(sys.argv) > 2 and dataclass_code.use_carried()
import pilot_agent.pipeline, pilot_agent.handoff
own = [text for text in texts if isinstance(text, (str, bytes)) and b"def __create_fn__" in (
    text if isinstance(text, bytes) else text.encode())]
print(json.dumps([carried, len(own)]))
"""
BEHAVIOUR = """
if len(sys.argv) > 2:
    assert dataclass_code.use_carried()
import dataclasses
from pilot_agent.model import Fact, Failure, FailureKind, TimelineEntry
fact = Fact("cpu.usable", 4, "cores")
try:
    fact.value = 5
    frozen = "no"
except dataclasses.FrozenInstanceError as error:
    frozen = str(error)
@dataclasses.dataclass(frozen=True, slots=True)
class Own:
    of_a_plugin: int
    with_default: str = "x"
print(json.dumps([
    repr(fact), fact == Fact("cpu.usable", 4, "cores"), fact == Fact("cpu.usable", 5, "cores"), frozen,
    repr(Failure(FailureKind.NETWORK, "a.b", "c")), hash(TimelineEntry("a", "b", "c", 1.0, 2.0, "ok")) != 0,
    repr(Own(1)), Own(1) == Own(1, "x"), str(Fact.__init__.__annotations__), Fact.__init__.__qualname__,
]))
"""


def run(built: Built, program: str, *words: str) -> object:
    """What a program prints (JSON) that imports the agent from the payload, under the node's Python."""
    command = [system_python(), "-I", "-S", "-B", "-X", "utf8", "-c", HEAD + program, str(built.pyz), *words]
    done = start(command)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_pilot_of_the_payload_compiles_no_dataclass_of_its_own(built: Built) -> None:
    assert run(built, COMPILED, "carried") == [True, 0]
    without = run(built, COMPILED)
    assert isinstance(without, list)
    assert without[0] is False
    assert without[1] > 100


def test_records_are_the_same_with_carried_code_and_without(built: Built) -> None:
    assert run(built, BEHAVIOUR, "carried") == run(built, BEHAVIOUR)


def test_the_file_of_another_python_is_not_taken(built: Built) -> None:
    with zipfile.ZipFile(built.pyz) as archive:
        files = {name: archive.read(f"{name}pilot_agent/dataclass_code.bin") for name in ("", "cp311/")}
    assert files[""][:4] != files["cp311/"][:4]
    other = files["cp311/" if files[""].startswith(MAGIC_NUMBER) else ""]
    program = f"dataclass_code.__loader__ = type('L', (), {{'get_data': lambda self, path: {other[:64]!r}}})()\n"
    assert run(built, program + "print(json.dumps(dataclass_code.use_carried()))") is False


def test_a_checkout_carries_none() -> None:
    assert use_carried() is False


def test_a_text_is_found_by_its_digest(built: Built) -> None:
    with zipfile.ZipFile(built.pyz) as archive:
        files = [archive.read(f"{name}pilot_agent/dataclass_code.bin") for name in ("", "cp311/")]
    own = next((data for data in files if data.startswith(MAGIC_NUMBER)), None)
    if own is None:
        pytest.fail("these tests run under one of the payload's two Pythons")
    codes = marshal.loads(own[len(MAGIC_NUMBER) :])
    assert len(codes) > 150
    assert all(len(key) == len(digest("")) for key in codes)
