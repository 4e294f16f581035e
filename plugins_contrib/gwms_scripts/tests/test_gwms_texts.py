"""The texts that scripts and adapter exchange: glidein_config, condor vars, result documents, printed attributes."""

from __future__ import annotations

import html
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_gwms_scripts import condor_vars, glidein_config, results
from pilot_gwms_scripts.ad_text import NoLiteralError, parse_ad, parse_literal
from pilot_gwms_scripts.condor_vars import LineError, Variable, format_line, parse_line, parse_lines, resolve
from pilot_gwms_scripts.images import binds_of, candidates, dictionary_text, images_of
from pilot_gwms_scripts.layout import shell_file

from pilot_agent.model import CheckStatus, FailureKind
from pilot_agent.process import Result
from tests.needs import need

SHELLS = [name.split() for name in ("dash", "bash", "bash --posix", "busybox sh") if shutil.which(name.split()[0])]
SHELL_FILES = ("add_config_line.source", "error_gen.sh", "logging_utils.source", "inside.sh", "cleanup.sh")
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.*+]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=200)


@given(st.text(max_size=2000))
def test_whatever_is_in_the_file_is_read_as_lines_that_every_reader_understands(text: str) -> None:
    values = glidein_config.parse(text)
    assert glidein_config.parse(glidein_config.text_of(values)) == values


@given(st.dictionaries(KEYS, VALUES, max_size=8))
def test_values_come_back_as_they_were_written(values: dict[str, str]) -> None:
    assert glidein_config.parse(glidein_config.text_of(values)) == values


def test_the_last_line_of_a_key_counts_and_comments_are_none() -> None:
    text = "A 1\n# --- User Parameters ---\nB  two  words\nA 2\n\n C 3\nD\n"
    assert glidein_config.parse(text) == {"B": " two  words", "A": "2", "D": ""}


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ("/srv/tmp", "/work/pilot/tmp"),
        ("/srv", "/work/pilot"),
        ("/srv/bin:/usr/bin:/srv/lib", "/work/pilot/bin:/usr/bin:/work/pilot/lib"),
        ("DIR=/srv/a, /srv/b", "DIR=/work/pilot/a, /work/pilot/b"),
    ],
)
def test_paths_of_the_directory_are_those_inside_an_image_and_back(inside: str, outside: str) -> None:
    assert glidein_config.moved({"A": inside}, "/srv", "/work/pilot") == {"A": outside}
    assert glidein_config.moved({"A": outside}, "/work/pilot", "/srv") == {"A": inside}


@pytest.mark.parametrize("value", ["/cvmfs/srv/data", "https://example.org/srv/data", "/srv2/x", "/srv-old", "a/srv/b"])
def test_what_has_the_directory_in_its_name_only_is_another_path(value: str) -> None:
    assert glidein_config.moved({"A": value}, "/srv", "/work/pilot") == {"A": value}


@pytest.mark.parametrize("key", ["", "a b", "#a", "a\nb", "a\x00"])
def test_a_key_that_nobody_would_find_is_not_written(key: str) -> None:
    with pytest.raises(ValueError, match="cannot be a key"):
        glidein_config.text_of({key: "1"})


@pytest.mark.parametrize("what", ["a directory", "a link", "nothing", "too much"])
def test_a_file_that_was_destroyed_is_as_before(tmp_path: Path, what: str) -> None:
    path = tmp_path / "glidein_config"
    if what == "a directory":
        path.mkdir()
        (path / "x").touch()
    elif what == "a link":
        path.symlink_to("/etc/passwd")
    elif what == "too much":
        path.write_bytes(b"A 3\n" * (glidein_config.FILE_BYTES // 4 + 1))
    values, problems = glidein_config.settle(str(path), {"A": "1"}, {"FIXED": "yes"})
    assert values == {"A": "1", "FIXED": "yes"}
    assert "as before" in problems[0]
    assert glidein_config.read(str(path)) == values


VARIABLES = st.builds(
    Variable,
    name=st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True),
    kind=st.sampled_from(["C", "S", "I"]),
    default=st.none() | st.from_regex(r"[!-,.-~][!-~]{0,9}", fullmatch=True),
    attribute=st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True),
    required=st.booleans(),
    exported=st.booleans(),
    job=st.just(""),
)


@given(VARIABLES)
def test_a_condor_vars_line_is_read_as_it_was_written(variable: Variable) -> None:
    assert parse_line(format_line(variable)) == variable


@given(st.text(max_size=300))
def test_any_text_is_condor_vars_lines_and_problems(text: str) -> None:
    variables, _ = parse_lines([text])
    resolve(variables, {variable.name: "1" for variable in variables})


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("A S - + N Y", "6 columns"),
        ("A X - + N Y -", "C, S or I"),
        ("A S - + n Y -", "Y or N"),
        ("A S - + N Y *", "column 7"),
        ("A.B S - + N Y -", "letters, digits"),
    ],
)
def test_a_line_that_is_none_is_told(line: str, problem: str) -> None:
    with pytest.raises(LineError, match=problem):
        parse_line(line)


def test_columns_say_type_default_names_and_where_a_value_goes() -> None:
    lines = """
    # a comment
    TEXT S - + N Y +
    NUMBER I 5 EXAMPLE_Number N Y @
    TRUTH C - + N Y -
    ONLY_JOBS S - EXAMPLE_ONLY N N @
    ONLY_HERE S - + N N -
    NEEDED S - + Y Y -
    OPTIONAL S - + N Y +
    """
    values = {"TEXT": "True", "TRUTH": "TRUE", "ONLY_JOBS": "x y", "ONLY_HERE": "z"}
    found = resolve(parse_lines([lines])[0], values)
    assert found.attributes == {"TEXT": "True", "EXAMPLE_Number": 5, "TRUTH": True}
    assert found.environment == {"TEXT": "True", "EXAMPLE_Number": "5", "EXAMPLE_ONLY": "x y"}
    assert found.missing == ("NEEDED",)


def test_of_several_files_the_last_line_of_a_name_counts() -> None:
    variables, problems = parse_lines(["A S group + N Y -\n", "broken\nA S main + N Y -\n"])
    assert resolve(variables, {}).attributes == {"A": "main"}
    assert len(problems) == 1


@pytest.mark.parametrize(
    "text",
    [
        "TARGET.x > 3",
        'ifThenElse(MY.a =?= "b)\\"(", {1, 2}, [a = 1; b = 2])',
        "(CurrentTime - 5) / 2",
        "'quoted name' + 1",
    ],
)
def test_an_expression_reaches_the_machine_ad_as_it_is(text: str) -> None:
    found = resolve(parse_lines(["A C - + N Y +"])[0], {"A": text})
    assert (found.attributes, found.expressions, found.environment) == ({}, {"A": text}, {"A": text})


@given(st.text(max_size=60))
def test_no_text_keeps_the_look_at_expressions_from_an_answer(text: str) -> None:
    assert condor_vars.is_expression(text) in (True, False)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *[("I", "five"), ("I", "1.5"), ("I", "true"), ("C", "(1"), ("C", "1)"), ("C", '"open'), ("C", "1; 2")],
        *[("C", "1 // 2"), ("C", "a\\"), ("C", "(" * 50 + ")" * 50)],
    ],
)
def test_a_value_that_is_no_constant_of_its_type_is_told_and_left_out(kind: str, text: str) -> None:
    found = resolve(parse_lines([f"A {kind} - + N Y -"])[0], {"A": text})
    assert found.attributes == {}
    assert "A is not in the machine ad" in found.problems[0]


@pytest.mark.parametrize("name", ["START", "NUM_CPUS", "SLOT_TYPE_1_PARTITIONABLE", "SEC_DEFAULT_ENCRYPTION", "Cpus"])
def test_a_setting_of_htcondor_is_told_and_no_attribute(name: str) -> None:
    found = resolve(parse_lines([f"X S - {name} N Y @"])[0], {"X": "1"})
    assert (found.attributes, found.environment) == ({}, {name: "1"})
    assert "a setting of HTCondor" in found.problems[0]


@pytest.mark.parametrize("name", ["GLIDEIN_CPUS", "SINGULARITY_PATH", "HAS_STARTED", "OSG_MACHINE_GPUS", "Startup"])
def test_what_only_looks_like_a_setting_is_an_attribute(name: str) -> None:
    assert resolve(parse_lines([f"X S - {name} N Y -"])[0], {"X": "1"}).attributes == {name: "1"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("7", 7), ("-7", -7), ("1.5", 1.5), ("1e3", 1000.0), ("True", True), ("false", False), ("UNDEFINED", None)],
        *[('"a b"', "a b"), (r'"a \"b\""', 'a "b"'), ('""', "")],
    ],
)
def test_a_literal_has_a_value(text: str, value: object) -> None:
    assert parse_literal(text) == value


@pytest.mark.parametrize("text", ["", "a", "1 + 1", '"a" + "b"', "1e999", "9" * 30, '"open', "{1}"])
def test_anything_else_is_no_literal(text: str) -> None:
    with pytest.raises(NoLiteralError):
        parse_literal(text)


@given(st.text(max_size=500))
def test_junk_that_a_periodic_script_prints_is_told_and_nothing_else(text: str) -> None:
    found, _ = parse_ad(text)
    assert all(name.isidentifier() for name in found)


def test_a_printed_ad_is_attributes_and_its_end() -> None:
    found, problems = parse_ad('A = 1\nB="x"\n- update:true\nC = A + 1\nnoise\nD == 1\n')
    assert found == {"A": 1, "B": "x"}
    assert len(problems) == 3


@given(st.text(max_size=1000))
def test_any_text_is_a_document_or_none(text: str) -> None:
    results.parse(text)
    results.parse(f"<OSGTestResult><status>ERROR</status><detail>{text}</detail>")


def document(shell: list[str], directory: Path, *arguments: str) -> str:
    """What error_gen.sh writes."""
    program = directory / "main" / "error_gen.sh"
    program.parent.mkdir(exist_ok=True)
    program.write_text(shell_file("error_gen.sh"))
    subprocess.run([*shell, str(program), *arguments], check=True)
    return (directory / "otrb_output.xml").read_text(encoding="utf-8")


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_document_says_what_the_script_said_in_every_shell(tmp_path: Path, shell: list[str]) -> None:
    detail = "No <binary> & \"quoted\" 'found' \\n %s $HOME"
    text = document(shell, tmp_path, "-error", "a.sh", "WN_Resource", detail, "size", "<1>", "empty", "")
    assert html.unescape(text).count(detail) == 1
    found = results.parse(text)
    assert found is not None
    assert (found.ok, found.failure_type, found.detail) == (False, "WN_Resource", detail)
    assert found.metrics == {"failure": "WN_Resource", "size": "<1>", "empty": ""}
    passed = results.parse(document(shell, tmp_path, "-ok", "a.sh"))
    assert passed == results.Document(ok=True, metrics={}, detail="")


def test_a_document_that_is_no_xml_is_read_all_the_same() -> None:
    text = """<?xml version="1.0"?>
    <OSGTestResult id="singularity_setup.sh" version="4.3.1"><result><status>ERROR</status>
    <metric name="failure" ts="2026-11-20T21:11:59+00:00" uri="local">WN_Resource</metric></result>
    <detail>
        No <binary> & found
    </detail></OSGTestResult>"""
    found = results.parse(text)
    assert found is not None
    assert found.detail == "No <binary> & found"


def ended(code: int | None, **more: object) -> Result:
    return Result(("x.sh",), code, stderr=b"last words\n", **more)  # type: ignore[arg-type]


def test_status_and_exit_code_must_agree() -> None:
    ok, bad = results.Document(True, {"a": "1"}, "fine"), results.Document(False, {"failure": "Network"}, "down")
    passed = results.verdict("x", ended(0), ok)
    assert (passed.status, passed.message, passed.metrics) == (CheckStatus.PASS, "fine", {"a": "1"})
    assert results.verdict("x", ended(0), bad).metrics == {}
    failed = results.verdict("x", ended(1), bad)
    assert (failed.kind, failed.code, failed.message) == (FailureKind.NETWORK, "script.network", "x: down")
    lied = results.verdict("x", ended(1), ok)
    assert (lied.kind, lied.code) == (FailureKind.PLUGIN, "script.failed")
    assert "last words" in lied.message
    late = results.verdict("x", ended(None, timed_out=True, allowed_seconds=2.0), bad)
    assert (late.kind, late.code) == (FailureKind.PLUGIN, "plugin.timeout")


def test_images_and_binds_are_read_from_what_scripts_set() -> None:
    values = {
        "SINGULARITY_IMAGES_DICT": "el9:/a:tag,el8:/b, el9:docker://c:1,broken,:x,y:",
        "SINGULARITY_IMAGE_DEFAULT7": "/seven",
        "GLIDEIN_SINGULARITY_BINDPATH": "/a,/b:/c:ro, relative,/d:/d:rw",
        "GLIDEIN_SINGULARITY_BINDPATH_DEFAULT": "/a",
    }
    found = images_of(values)
    assert found == {"el9": "docker://c:1", "el8": "/b", "rhel7": "/seven"}
    assert [one.platform for one in candidates(found, {"el8": "/b"}, "x")] == ["el9", "rhel7"]
    assert binds_of(values) == ["/a", "/b:/c:ro", "/d:/d"]
    assert dictionary_text({"el9": [{"path": "/x"}, {"path": "/y"}], "bad,": [{"path": "a,b"}]}) == "el9:/x"


STORE = """
glidein_config=$1/glidein_config condor_vars_file=$1/vars
export glidein_config condor_vars_file
. "$1/add_config_line.source"
[ -z "$(gconfig_get NOPE)" ]
add_config_line 'A*[' "first   value"
gconfig_add_safe 'A*[' 'x & \\n y' z
gconfig_add B.
gconfig_add B 'two
lines'
! gconfig_add 'bad key' 1 2>/dev/null
! gconfig_add '' 1 2>/dev/null
add_condor_vars_line B S - + N Y -
add_condor_vars_line B S - + N Y @
! add_condor_vars_line B S - + N Y 2>/dev/null
! add_condor_vars_line B S 'a b' + N Y - 2>/dev/null
echo "B three" >>"$glidein_config"
gconfig_trim
printf '%s|' "$(gconfig_get 'A*[')" "$(gconfig_get b "" -i)" "$(gconfig_get_toupper B)"
printf '%s|' "$(gconfig_get B. "$1/glidein_config")"
"""


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("lock", ["flock", "directory"])
def test_the_shell_functions_keep_the_file_in_order_in_every_shell(tmp_path: Path, shell: list[str], lock: str) -> None:
    (tmp_path / "add_config_line.source").write_text(shell_file("add_config_line.source"))
    (tmp_path / "glidein_config").write_text("A 1\nB 0\n# comment\nNO_END 1")
    path = "/usr/bin:/bin"
    if lock == "directory":
        path = str(tmp_path / "bin")
        (tmp_path / "bin").mkdir()
        for name in ("tr", "cut", "sed", "awk", "mv", "mkdir", "rmdir", "sleep"):
            (tmp_path / "bin" / name).symlink_to(shutil.which(name) or name)
    (tmp_path / "vars").touch()
    program = [shutil.which(shell[0]) or shell[0], *shell[1:]]
    command = [*program, "-euc", STORE, "test", str(tmp_path)]
    done = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "x & \\n y z|three|THREE||"
    text = (tmp_path / "glidein_config").read_text()
    assert text == "A 1\n# comment\nNO_END 1\nA*[ x & \\n y z\nB. \nB three\n"
    assert parse_lines([(tmp_path / "vars").read_text()])[0] == [
        Variable("B", "S", None, "B", required=False, exported=True, job="B")
    ]
    assert condor_vars.resolve([], {}).attributes == {}


def test_the_shell_files_are_clean(tmp_path: Path) -> None:
    need("shellcheck", shutil.which("shellcheck") is not None, "install it (Debian: shellcheck)")
    for name in SHELL_FILES:
        (tmp_path / name).write_text(shell_file(name))
    paths = [str(tmp_path / name) for name in SHELL_FILES]
    done = subprocess.run(["shellcheck", "-s", "sh", *paths], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_a_document_of_beginnings_alone_holds_nothing_up() -> None:
    """As long as one may be: at the third power of its length it would take hours."""
    text = "<OSGTestResult ><status>OK</status>" + '<metric name="x"' * (results.DOCUMENT_BYTES // 16)
    document = results.parse(text)
    assert document is not None
    assert document.metrics == {}
