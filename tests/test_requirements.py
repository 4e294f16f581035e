"""The language of requirements: what it accepts, where it stops, and what a verdict says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.model import CheckStatus, Fact, FailureKind, Json, Limit, PilotError
from pilot_agent.requirement_text import RequirementError, parse
from pilot_agent.requirements import evaluate

GPUS = [{"name": "A", "memory_mib": 40960}, {"name": "B", "memory_mib": 16000}]
FACTS = {
    fact.name: fact
    for fact in (
        Fact("cpu.usable", 4, "cores"),
        Fact("memory.usable_mib", 8000.5, "MiB"),
        Fact("os.id", "debian"),
        Fact("os.version", "13"),
        Fact("os.glibc", "2.34"),
        Fact("os.kernel", "6.1.0-18-amd64"),
        Fact("os.microarch", "x86-64-v3"),
        Fact("userns.usable", True),
        Fact("fuse.usable", False),
        Fact("gpu.devices", GPUS),
        Fact("gpu.count", 0),
        Fact("cvmfs.repositories", []),
        Fact("cpu.flags", ["sse2", "avx2", "avx512f"]),
        Fact("os.limits", {"nofile": {"soft": 1024, "hard": 4096}, "core": {"soft": 0, "hard": 0}}),
        Fact.absent("batch.scratch", "no batch system gave one"),
        Fact.unknown("clock.offset_seconds", "no server answered"),
    )
}

MET = [
    "cpu.usable >= 4",
    "node.cpu.usable >= 4",
    "cpu.usable==4",
    "cpu.usable < 4.5",
    "cpu.usable != 5",
    "memory.usable_mib > 8000",
    "os.id in [debian, 'rocky']",
    'os.id == "debian"',
    "os.id != rocky",
    "os.version >= 9",
    "os.glibc > 2.9",
    "os.glibc < 2.34.1",
    "os.kernel >= 5.11",
    "os.kernel >= 05.011",
    "os.microarch >= x86_64-v2",
    "os.microarch == x86_64-v3",
    "userns.usable",
    "userns.usable == true",
    "not fuse.usable",
    "fuse.usable == false",
    "gpu.devices[*].memory_mib >= 16000",
    "gpu.devices[1].name in [B]",
    "gpu.devices",
    "not gpu.count",
    "not cvmfs.repositories[*]",
    "not batch.scratch",
    "not os.id in [rocky, alma]",
    "cpu.flags contains avx512f",
    "not cpu.flags contains 'amx_tile'",
    "os.limits.nofile.soft >= 1024",
]

UNMET = [
    "cpu.usable >= 5",
    "not cpu.usable",
    "os.id in [rocky]",
    "os.id == deb",
    "os.glibc >= 2.100",
    "fuse.usable",
    "userns.usable == 1",
    "gpu.devices[*].memory_mib >= 16001",
    "cvmfs.repositories[*] == x",
    "batch.scratch",
    "batch.scratch == /tmp",
    "not userns.usable",
    "cpu.flags contains amx_tile",
    "cvmfs.repositories contains images.example.org",
]

NOT_KNOWN = [
    "clock.offset_seconds < 5",
    "not clock.offset_seconds",
    "gpu.devices[*].clock > 1",
    "gpu.devices[7].name == A",
    "cpu.usable[*] > 1",
    "os.id >= rocky",
    "userns.usable > 3",
    "os.id.name == x",
]


@pytest.mark.parametrize("text", MET)
def test_a_requirement_that_the_node_meets_passes(text: str) -> None:
    assert evaluate(parse(text), FACTS).status is CheckStatus.PASS


@pytest.mark.parametrize("text", UNMET)
def test_a_requirement_that_the_node_does_not_meet_fails(text: str) -> None:
    result = evaluate(parse(text), FACTS)
    assert result.status is CheckStatus.FAIL
    assert result.message.startswith(f"found {parse(text).path} ")
    assert result.message.count(parse(text).path) == 1 + (parse(text).negated or parse(text).operator == "exists")


@pytest.mark.parametrize("text", NOT_KNOWN)
def test_what_is_not_known_is_not_met_whether_negated_or_not(text: str) -> None:
    result = evaluate(parse(text), FACTS)
    assert result.status is CheckStatus.FAIL
    assert any(why in result.message for why in ("not known", "no order", "no list", "no part"))


@pytest.mark.parametrize(
    ("level", "status"),
    [("required", CheckStatus.FAIL), ("preferred", CheckStatus.WARN), ("reported", CheckStatus.SKIP)],
)
@pytest.mark.parametrize("text", ["cpu.usable >= 64", "no.such.fact"])
def test_the_level_decides_what_an_unmet_requirement_means(text: str, level: str, status: CheckStatus) -> None:
    assert evaluate(parse(text), FACTS, level).status is status


def test_a_met_requirement_passes_at_every_level() -> None:
    for level in ("required", "preferred", "reported"):
        assert evaluate(parse("cpu.usable >= 1"), FACTS, level).status is CheckStatus.PASS


def test_an_unknown_level_is_an_error_of_the_configuration() -> None:
    with pytest.raises(PilotError, match="level 'nice'") as caught:
        evaluate(parse("cpu.usable"), FACTS, "nice")
    assert caught.value.failure.kind is FailureKind.CONFIG


def test_a_failed_verdict_says_what_was_found_what_was_needed_and_who_acts() -> None:
    result = evaluate(parse("cpu.usable >= 16"), FACTS)
    assert result.message == "found cpu.usable 4 cores, needed >= 16"
    assert "the site" in result.hint
    assert result.code == "requirement.cpu.usable"
    assert result.kind is FailureKind.NODE_RESOURCE


def test_an_unknown_fact_tells_why_it_is_unknown() -> None:
    assert "no server answered" in evaluate(parse("clock.offset_seconds < 5"), FACTS).message


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 0),
        ("   ", 3),
        ("not", 3),
        ("cpu.usable >=", 13),
        ("cpu.usable 4", 11),
        ("cpu..usable", 4),
        ("cpu. usable", 4),
        (".cpu", 0),
        ("4 >= cpu.usable", 0),
        ("cpu.usable >= 4 5", 16),
        ("cpu.usable = 4", 11),
        ("os.id in debian", 9),
        ("os.id in []", 10),
        ("os.id in [debian", 16),
        ("os.id in [debian,]", 17),
        ("gpu.devices[", 12),
        ("gpu.devices[x]", 12),
        ("gpu.devices[-1]", 12),
        ("gpu.devices[*", 13),
        ("gpu.devices[*].", 15),
        ("gpu.devices[*] .name", 15),
        ('os.id == "debian', 9),
        ("cpu.usable >= [4]", 14),
        ("__import__('os')", 0),
        ("cpu.usable >= " + "9" * 1000, 1000),
    ],
)
def test_a_text_that_is_no_requirement_is_refused_with_its_position(text: str, position: int) -> None:
    with pytest.raises(RequirementError) as caught:
        parse(text)
    assert caught.value.position == position
    assert caught.value.failure.kind is FailureKind.CONFIG
    assert f"position {position}" in caught.value.failure.message


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    position = 0
    try:
        assert parse(text).steps
    except RequirementError as error:
        position = error.position
    assert 0 <= position <= len(text)


@given(
    st.lists(st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), min_size=1, max_size=4).filter(
        lambda names: names[0] not in ("not", "node")
    ),
    st.sampled_from(["==", "!=", ">=", "<=", ">", "<"]),
    st.text(st.characters(codec="utf-8", exclude_characters='"', exclude_categories=["Cs"]), max_size=20),
    st.booleans(),
)
def test_what_is_written_by_the_rules_is_understood(names: list[str], operator: str, value: str, negated: bool) -> None:
    path = ".".join(names)
    requirement = parse(f'{"not " if negated else ""}{path} {operator} "{value}"')
    assert (requirement.path, requirement.operator, requirement.negated) == (path, operator, negated)
    assert requirement.values == (value,)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.sampled_from([*MET, *UNMET]))
def test_a_fact_of_any_kind_gets_a_verdict(value: Json, text: str) -> None:
    requirement = parse(text)
    name = ".".join(str(step) for step in requirement.steps[:2])
    result = evaluate(requirement, {name: Fact(name, value)})
    assert result.status in (CheckStatus.PASS, CheckStatus.FAIL)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_numbers_are_put_in_their_order(found: int, needed: int) -> None:
    facts = {"n": Fact("n", found)}
    verdicts = {
        operator: evaluate(parse(f"n {operator} {needed}"), facts).status is CheckStatus.PASS
        for operator in ("==", "!=", ">=", "<=", ">", "<")
    }
    assert verdicts == {
        "==": found == needed,
        "!=": found != needed,
        ">=": found >= needed,
        "<=": found <= needed,
        ">": found > needed,
        "<": found < needed,
    }


def test_a_fact_that_no_probe_gives_blames_whoever_wrote_the_requirement_and_suggests_one() -> None:
    result = evaluate(parse("cpu.useable >= 4"), FACTS)
    assert result.status is CheckStatus.FAIL
    assert (result.kind, result.code) == (FailureKind.CONFIG, "requirement.unknown_fact")
    assert "did you mean cpu.usable?" in result.message
    assert evaluate(parse("not nothing.like.this"), FACTS).kind is FailureKind.CONFIG


def test_a_number_without_an_operator_says_that_the_shell_may_have_eaten_it() -> None:
    result = evaluate(parse("cpu.usable"), FACTS)
    assert result.status is CheckStatus.PASS
    assert "the shell" in result.message
    assert "quotes" in result.message
    for whole in ("cpu.usable >= 4", "userns.usable", "gpu.devices"):
        assert "shell" not in evaluate(parse(whole), FACTS).message


def test_what_would_change_it_is_what_the_probe_says_or_the_limit_that_decides() -> None:
    limits = (Limit("cpu.usable", 8, "cores", "online"), Limit("cpu.usable", 4, "cores", "cgroup2 cpu.max /x"))
    facts = {
        "userns.usable": Fact("userns.usable", False, detail="user.max_user_namespaces is 0; set it to 15000"),
        "cpu.usable": Fact("cpu.usable", 4, "cores", limits=limits),
    }
    assert evaluate(parse("userns.usable"), facts).hint == "user.max_user_namespaces is 0; set it to 15000"
    assert evaluate(parse("cpu.usable >= 8"), facts).hint.startswith("cgroup2 cpu.max /x decides: the site raises it")


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("os.limits.nofile.soft >= 4096", True),
        ("os.limits.nofile.soft < 4096", False),
        ("os.limits.nofile.soft == unlimited", True),
        ("os.limits.nofile.hard >= 4096", False),
    ],
)
def test_no_limit_is_more_than_any_number(text: str, met: bool) -> None:
    facts = {"os.limits": Fact("os.limits", {"nofile": {"soft": "unlimited", "hard": 1024}})}
    assert (evaluate(parse(text), facts).status is CheckStatus.PASS) is met


@pytest.mark.parametrize("text", ["cpu.usable >= eight", "memory.usable_mib >= 8G", "os.microarch >= v3"])
def test_a_value_that_can_never_be_compared_blames_whoever_wrote_it(text: str) -> None:
    result = evaluate(parse(text), FACTS)
    assert (result.status, result.kind, result.code) == (CheckStatus.FAIL, FailureKind.CONFIG, "requirement.value")
    assert "has no order with" in result.message


@pytest.mark.parametrize(
    ("source", "change"),
    [
        ("online", "the node has only 4 cores online"),
        ("MemTotal", "the node has only 4 cores (MemTotal)"),
        ("SLURM_CPUS_ON_NODE", "SLURM_CPUS_ON_NODE decides: whoever submits the pilot"),
        ("cgroup2 cpu.max /x", "cgroup2 cpu.max /x decides: the site raises it"),
        ("statvfs /tmp", "statvfs /tmp decides: the site frees space"),
    ],
)
def test_who_changes_a_limit_follows_from_its_source(source: str, change: str) -> None:
    limits = (Limit("cpu.usable", 4, "cores", source), Limit("cpu.usable", 9, "cores", "other"))
    fact = Fact("cpu.usable", 4, "cores", source=source, limits=limits)
    hint = evaluate(parse("cpu.usable >= 8"), {"cpu.usable": fact}).hint
    assert change in hint


def test_the_reserve_for_the_pilot_is_not_what_must_change() -> None:
    unit = "MiB"
    limits = (
        Limit("memory.usable_mib", 4000, unit, "cgroup2 memory.max /x"),
        Limit("memory.usable_mib", 3936, unit, "cgroup2 memory.max /x without 64 MiB of site.memory_reserve_mib"),
    )
    facts = {"memory.usable_mib": Fact("memory.usable_mib", 3936, unit, limits=limits)}
    assert evaluate(parse("memory.usable_mib >= 8000"), facts).hint.startswith("cgroup2 memory.max /x decides")


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("os.limits.nofil.soft >= 1", "requirement.unknown_part", "did you mean nofile?"),
        ("os.id.name == x", "requirement.unknown_part", "it is debian"),
        ("cpu.usable[*] > 1", "requirement.unknown_part", "it is no list but 4"),
        ("cpu.flags == avx512f", "requirement.value", "cpu.flags contains avx512f"),
        ("cpu.usable contains 4", "requirement.value", "only a list contains anything"),
    ],
)
def test_what_no_node_can_meet_is_the_mistake_of_whoever_wrote_it(text: str, code: str, said: str) -> None:
    result = evaluate(parse(text), FACTS)
    assert (result.status, result.kind, result.code) == (CheckStatus.FAIL, FailureKind.CONFIG, code)
    assert said in f"{result.message} -> {result.hint}"


def test_a_part_that_other_nodes_may_have_is_missing_on_this_one() -> None:
    result = evaluate(parse("gpu.devices[0].mig_mode == on"), FACTS)
    assert (result.status, result.kind) == (CheckStatus.FAIL, FailureKind.NODE_RESOURCE)
    assert "only name, memory_mib" in result.message


def test_of_a_long_list_whole_elements_are_shown() -> None:
    flags = [f"flag{number}" for number in range(100)]
    result = evaluate(parse("cpu.flags"), {"cpu.flags": Fact("cpu.flags", flags)})
    assert result.message.startswith("found cpu.flags flag0, flag1, ")
    shown, _, more = result.message.partition(" and ")
    assert set(shown.removeprefix("found cpu.flags ").split(", ")) <= set(flags)
    assert more.startswith(f"{100 - shown.count('flag') + 1} more")
