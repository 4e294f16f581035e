"""What people see fits the terminal and says what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent import standalone
from pilot_agent.collect import Declared, PluginReport
from pilot_agent.hookspecs import Attribute, Probe
from pilot_agent.host import Loaded
from pilot_agent.model import (
    BindVerdict,
    CheckResult,
    CheckStatus,
    ContainerDecision,
    Fact,
    Failure,
    FailureKind,
    ImageCandidate,
    JobSurroundings,
    Limit,
    OptionVerdict,
    VariableVerdict,
    Verdict,
)
from pilot_agent.output.words import clean
from pilot_agent.plan_page import CHECK_STAGES, RUN_STAGES, plan_table, plugin_table
from pilot_agent.render import check_report, facts, fold, paragraph, surroundings, table, verdict
from pilot_agent.stages import STAGES
from tests.test_state import EMPTY, full

cells = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60)


short = cells.map(lambda text: text[:8])


@given(st.lists(st.tuples(short, short, cells)), st.integers(48, 200))
def test_no_line_of_a_table_is_wider_than_the_terminal(rows: list[tuple[str, str, str]], width: int) -> None:
    assert all(len(line) <= width for line in table(rows, width=width).splitlines())


@given(st.lists(st.tuples(cells, cells, cells, cells)), st.integers(20, 300))
def test_nothing_of_a_table_is_lost_at_any_width(rows: list[tuple[str, str, str, str]], width: int) -> None:
    shown = "".join(table(rows, width=width).split())
    for letter in set("".join("".join(row) for row in rows)) - {" "}:
        assert shown.count(letter) == sum(cell.count(letter) for row in rows for cell in row)


@given(st.text(max_size=200), st.integers(1, 80))
def test_folding_keeps_every_word_and_the_width(text: str, width: int) -> None:
    lines = fold(text, width)
    assert all(len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(clean(text).split())


@pytest.mark.parametrize("width", [20, 60, 120])
def test_nothing_that_is_shown_can_steer_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    evil = "a\x1b]0;title\x07\x1b[2Jb\x9b1mc\u202ed\u061ce"
    failure = Failure(FailureKind.NODE_RESOURCE, evil, evil, evil)
    state = replace(
        EMPTY,
        host=evil,
        facts={
            evil: Fact(evil, evil, source=evil),
            "b": Fact.absent("b", evil),
            "cpu.model": Fact("cpu.model", [evil]),
        },
        checks=(CheckResult(evil, CheckStatus.FAIL, evil, hint=evil, vo=evil),),
        verdicts=(Verdict(evil, False, failure), Verdict(evil, True)),
        failures=(failure,),
    )
    pages = [facts(state), check_report(state), table([(evil, evil, evil)]), paragraph(evil), "\n".join(fold(evil, 9))]
    for page in [*pages, check_report(replace(state, verdicts=(Verdict(evil, True),), failures=()))]:
        assert clean(page) == page
        assert "title" in page.replace("\n", "")


def test_a_number_that_can_only_be_damage_is_shown_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    state = replace(EMPTY, facts={"a": Fact("a", 10**400, "MiB"), "b": Fact("b", float("inf"), "MiB")})
    assert "a number of more than 30 digits MiB" in facts(state)


def test_a_path_is_broken_at_its_slashes() -> None:
    assert fold("read from /proc/sys/kernel/osrelease now", 16) == ["read from /proc", "/sys/kernel", "/osrelease now"]
    assert fold("x86-64-v4 and x86-64-v3", 12) == ["x86-64-v4", "and", "x86-64-v3"]


def test_of_two_wide_columns_each_gets_its_share() -> None:
    rows = [("a", "one two three four five six seven eight nine ten", "uno dos tres cuatro cinco seis siete ocho")]
    lines = table(rows, width=60).splitlines()
    assert lines[0].startswith("a  one two three four five six")
    assert "uno dos tres" in lines[0]
    assert len(lines) == 2


def test_where_columns_have_no_room_a_row_takes_two_lines() -> None:
    rows = [("a.very.long.name.of.a.fact.of.this.node", "a value in words that is long", "/a/file")]
    assert table(rows, width=60).splitlines() == [
        "a.very.long.name.of.a.fact.of.this.node",
        "      a value in words that is long",
        "      /a/file",
    ]


def test_a_reason_is_shown_whole_and_its_source_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "neither /dev/nvidia*, nor /proc/driver/nvidia, nor /sys/class/kfd shows a device on this node, so none"
    state = replace(EMPTY, facts={"gpu.count": Fact.absent("gpu.count", reason, source="sysfs")})
    for width in (40, 60, 80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        page = facts(state)
        assert " ".join(reason.split()) in " ".join(page.replace("sysfs", "").split())
        assert ("sysfs" in page) == (width >= 110)
        assert all(len(line) <= width for line in page.splitlines())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_page_of_a_check_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert [line for line in check_report(full()).splitlines() if len(line) > width] == []


def test_columns_stand_under_each_other_and_the_last_one_is_folded() -> None:
    rows = [("a", "one two three four five six seven"), ("bbb", "x")]
    assert table(rows, width=25) == "a    one two three four\n     five six seven\nbbb  x"


def test_nothing_is_an_empty_table() -> None:
    assert table([]) == ""


@pytest.mark.parametrize(
    ("fact", "shown"),
    [
        (Fact("a", 4, "cores"), "4 cores"),
        (Fact("a", True), "yes"),
        (Fact("a", []), "none"),
        (Fact("a", [{"name": "A100", "uuid": "x"}, {"path": "/scratch"}]), "A100, /scratch"),
        (Fact("a", ["word"] * 100), "word and 80 more"),
        (Fact("a", ["w" * 70] * 2), f"{'w' * 70} and 1 more"),
        (Fact.unknown("a", "the probe timed out"), "unknown: the probe timed out"),
        (Fact.absent("a", "no GPU"), "absent: no GPU"),
    ],
)
def test_a_value_is_shown_as_people_say_it(fact: Fact, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert shown in facts(replace(EMPTY, facts={"a": fact}))


def test_a_fit_node_is_called_fit() -> None:
    assert verdict(EMPTY) == "This node is fit."


def test_an_unfit_node_says_why_and_what_would_change_it() -> None:
    failure = Failure(FailureKind.NODE_RESOURCE, "disk.too_small", "3 MiB free, 64 needed", "free some; the site acts")
    text = verdict(replace(EMPTY, failures=(failure,)), width=100)
    assert "NOT fit: 3 MiB free, 64 needed (node_resource, disk.too_small)" in text
    assert "free some; the site acts" in text


def test_the_page_of_a_check_has_facts_checks_container_and_verdict() -> None:
    page = check_report(full())
    for part in ("wn1.example.org", "cpu.usable", "4 cores", "FAIL", "userns", "REQUIRED", "/images/el9", "NOT fit"):
        assert part in page


def test_what_jobs_get_beside_their_image_is_told_with_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    found = JobSurroundings(
        binds=(
            BindVerdict("/data", "/calibration", True, "plugin p (data)", given=True),
            BindVerdict("/gone", "/gone", False, "configuration (vo)", given=False, reason="the node has none"),
        ),
        options=(OptionVerdict("--writable", "plugin p (data)", given=False, reason="not allowed"),),
        environment=(VariableVerdict("A", "very-secret", "configuration (site)", given=True),),
    )
    lines = [" ".join(line.split()) for line in surroundings(found).splitlines()]
    assert lines == [
        "given /data at /calibration (read-only) plugin p (data)",
        "not /gone configuration (vo): the node has none",
        "not --writable plugin p (data): not allowed",
        "given A configuration (site)",
    ]
    assert surroundings(JobSurroundings()) == ""
    decision = ContainerDecision("REQUIRED", "a x b", "", surroundings=found)
    assert "not allowed" in check_report(replace(EMPTY, container=decision))


def test_hints_are_shown_for_what_did_not_pass_only() -> None:
    passed = CheckResult("a", CheckStatus.PASS, "fine", hint="never shown")
    warned = CheckResult("b", CheckStatus.WARN, "poor", hint="look here")
    page = check_report(replace(EMPTY, checks=(passed, warned)))
    assert "never shown" not in page
    assert "poor" in page
    assert "-> look here" in page


def test_plugins_and_the_plan_are_listed() -> None:
    loaded = Loaded(
        (
            Declared("p", "pilot_probes", Probe(name="look", run="m:f"), builtin=False),
            Declared("p", "pilot_images", ImageCandidate("el9", "/x"), builtin=False),
            Declared("p", "pilot_attributes", Attribute(name="HasX"), builtin=False),
        ),
        (PluginReport("p", "/x/p.py", ("pilot_probes", "pilot_images"), 3),),
    )
    assert "/x/p.py" in plugin_table(loaded)
    plan = plan_table(loaded)
    lines = [line.split() for line in plan.splitlines()]
    heads = [line.split(":")[0].strip() for line in plan.splitlines() if line[2] != " "]
    assert heads == [name for name, _, _ in RUN_STAGES]
    for stage, kind, name in (("probe", "Probe", "look"), ("container", "ImageCandidate", "el9")):
        at = next(number for number, words in enumerate(lines) if words[0].rstrip(":") == stage)
        assert lines[at + 1][:2] == [kind, name]
    checked = plan_table(loaded, check=True)
    assert "container" in checked
    assert "handoff" not in checked
    assert "HasX" not in checked


def test_the_plan_has_the_stages_that_are_run() -> None:
    named = [name.replace(" ", "_") for name, _, _ in RUN_STAGES]
    assert named == ["configure", *STAGES, "handoff", "teardown"]
    assert [name.replace(" ", "_") for name in CHECK_STAGES] == ["probe", *standalone.CHECK_STAGES]


def test_without_room_for_sources_the_limit_that_decides_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = (Limit("cpu.usable", 8, "cores", "online"), Limit("cpu.usable", 4, "cores", "affinity"))
    state = replace(EMPTY, facts={"cpu.usable": Fact("cpu.usable", 4, "cores", source="affinity", limits=limits)})
    monkeypatch.setenv("COLUMNS", "80")
    assert facts(state) == "cpu.usable  4 cores (by affinity)"


def test_large_memory_is_told_in_gibibytes_too() -> None:
    state = replace(EMPTY, facts={"memory.usable_mib": Fact("memory.usable_mib", 24105, "MiB")})
    assert "24105 MiB (23.5 GiB)" in facts(state)


def test_what_failed_stands_first_and_is_counted() -> None:
    bad = CheckResult("bad", CheckStatus.FAIL, "no")
    checks = (bad, CheckResult("good", CheckStatus.PASS, "yes"), CheckResult("so-so", CheckStatus.WARN, "hm"))
    page = check_report(replace(EMPTY, checks=checks))
    assert page.index("bad") < page.index("so-so") < page.index("good")
    assert "1 failed, 1 warned, 1 passed" in page


def test_checks_that_are_the_same_for_every_vo_are_shown_once() -> None:
    checks = [CheckResult("memory", CheckStatus.PASS, "enough", vo=vo) for vo in ("a", "b")]
    checks.append(CheckResult("cpu.usable >= 8", CheckStatus.FAIL, "too few", vo="b"))
    failure = Failure(FailureKind.NODE_RESOURCE, "requirement.cpu.usable", "too few", "give more")
    verdicts = (Verdict("a", True), Verdict("b", False, failure))
    page = check_report(replace(EMPTY, checks=tuple(checks), verdicts=verdicts, failures=(failure,)))
    assert page.count("enough") == 1
    assert page.index("For the VO b") < page.index("cpu.usable >= 8")
    assert "This node is fit for a." in page
    assert "This node is NOT fit for b: too few" in page


def test_what_does_not_work_is_shown_with_the_reason() -> None:
    state = replace(EMPTY, facts={"fuse.usable": Fact("fuse.usable", False, detail="/dev/fuse has mode 0600")})
    assert facts(state) == "fuse.usable  no: /dev/fuse has mode 0600"


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1, "sockets", "1 socket"),
        (2, "sockets", "2 sockets"),
        (1, "GPUs", "1 GPU"),
        (0, "GPUs", "0 GPUs"),
        (1, "s", "1 s"),
    ],
)
def test_of_one_thing_the_unit_is_in_the_singular(value: int, unit: str, shown: str) -> None:
    page = facts(replace(EMPTY, facts={"x": Fact("x", value, unit)}))
    assert page.split("  ")[1].strip() == shown


def test_what_is_only_reported_is_told_and_not_skipped() -> None:
    told = CheckResult("gpu.count >= 1", CheckStatus.SKIP, "found gpu.count 0 GPUs", code="requirement.gpu.count")
    page = check_report(replace(EMPTY, checks=(told, CheckResult("gpu", CheckStatus.SKIP, "none"))))
    assert "  told  gpu.count >= 1" in page
    assert "  skip  gpu " in page
    assert "1 skipped, 1 told" in page


def test_of_several_failures_the_verdict_says_how_many_stand_above() -> None:
    failures = [Failure(FailureKind.NODE_RESOURCE, f"c{n}", f"reason {n}") for n in range(3)]
    checks = tuple(CheckResult(f"c{n}", CheckStatus.FAIL, f"reason {n}", code=f"c{n}") for n in range(3))
    state = replace(EMPTY, checks=checks, failures=tuple(failures))
    assert "reason 0 (node_resource, c0); and 2 more, see above" in verdict(state, width=200)
    assert "see above" not in verdict(replace(state, checks=checks[:1], failures=tuple(failures[:1])), width=200)
