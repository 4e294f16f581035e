"""The page tells everything that the report holds, and nothing in a report can break it or make it do something."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import given

from pilot_agent.output.html import POLICY, html_page
from pilot_agent.output.style import STYLE
from tests.output import hostile
from tests.output.markup_check import Page
from tests.output.reports import USERNS_HINT, check, fact, failure, fit, full, missing, of_node, span, unfit


def page_of(report: object) -> Page:
    """The page of a report, read strictly."""
    return Page(html_page(report))


@given(hostile.reports)
def test_nothing_in_a_report_can_break_the_page(report: object) -> None:
    page = page_of(report)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page.text)


@pytest.mark.parametrize("trick", hostile.TRICKS)
def test_a_hostile_text_stays_text_wherever_it_stands(trick: str) -> None:
    page = page_of(hostile.everywhere(trick))
    shown = " ".join(trick.split())
    if shown.isprintable() and 0 < len(shown) < 100:
        assert shown in page.text


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    text = html_page(full())
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'.replace("'", "&#x27;") in text
    assert not re.search(r"<script|javascript:|@import|url\(|https?://[^<]*\.(js|css|woff)", text)
    assert "url(" not in STYLE
    assert "<" not in STYLE


def test_each_vo_has_its_verdict_with_the_reason_and_the_change() -> None:
    page = page_of(full())
    assert "VO example: this node is fit" in page.text
    assert "VO lattice: this node is NOT fit" in page.text
    assert page.text.count(USERNS_HINT) == 2, "the change stands in the verdict and in the check"
    assert "who acts: the site" in page.text
    assert "memory.usable_mib is 15872 MiB, 64000 MiB are needed" in page.text


def test_a_report_without_verdicts_has_one_from_its_outcome() -> None:
    assert "✓ This node is fit" in page_of(fit()).text
    assert "NOT fit" not in page_of(fit()).text
    report = unfit()
    del report["verdicts"]
    assert "✗ This node is NOT fit" in page_of(report).text


def test_a_check_that_failed_itself_says_nothing_of_the_node() -> None:
    report = unfit()
    report["verdicts"][0]["failure"] = failure("plugin.crashed", "example crashed", kind="plugin")
    page = page_of(report)
    assert "? This node may be fit or not: the check failed" in page.text
    assert "the author of the plugin" in page.text


def test_a_failure_beside_verdicts_that_are_all_good_is_not_lost() -> None:
    report = full()
    report["verdicts"] = [{"vo": "example", "fit": True, "failure": None}]
    assert "The check did not end well" in page_of(report).text


@pytest.mark.parametrize("name", ["cpu", "disk", "gpu", "userns"])
def test_every_fact_is_there_with_where_it_was_read(name: str) -> None:
    page = page_of(full())
    for field, entry in full()["node"][name].items():
        assert field in page.text
        assert entry["source"] in page.text


def test_the_limit_that_decides_is_marked() -> None:
    page = page_of(full())
    assert "▸ 4 cores: SLURM_CPUS_ON_NODE - decides" in page.text
    assert page.text.count("- decides") == 2
    assert "128 cores: online" in page.text


def test_sizes_are_also_said_in_the_unit_that_people_think_in() -> None:
    assert "15872 MiB (15.5 GiB)" in page_of(full()).text


def test_what_is_not_known_says_why() -> None:
    page = page_of(full())
    assert "unknown squashfuse --version did not end within 5 s" in page.text
    assert "absent no proxy is configured" in page.text


def test_facts_that_are_missing_for_one_reason_stand_together() -> None:
    report = full()
    report["node"]["batch"] = {name: missing("absent", "no batch system") for name in ("system", "job_id", "end_time")}
    page = page_of(report)
    assert "system, job_id, end_time" in page.text
    assert page.text.count("no batch system") == 2, "in the node in brief and among the facts"


def test_an_absurdly_long_value_is_shortened_and_says_so() -> None:
    report = full()
    report["node"]["os"]["kernel"] = fact("x" * 3_000_000)
    text = html_page(report)
    assert "(2980000 more characters)" in text
    assert len(Page(text).text) < 100_000


def test_a_list_of_things_becomes_a_table_of_its_own() -> None:
    page = page_of(full())
    assert "2 in the table below" in page.text
    assert "uncorrectable ECC errors: 3" in page.text


def test_the_report_can_be_saved_from_the_page() -> None:
    (link,) = [link for link in page_of(full()).links if link.startswith("data:")]
    assert json.loads(base64.b64decode(link.partition(",")[2])) == full()


def test_a_report_that_is_too_large_is_not_kept_in_the_page() -> None:
    report = full()
    report["ad"] = {"x": "y" * 5_000_000}
    page = page_of(report)
    assert "too large" in page.text
    assert not [link for link in page.links if link.startswith("data:")]


def test_a_report_that_is_nested_too_deeply_still_has_a_page() -> None:
    deep: object = "bottom"
    for _ in range(100_000):
        deep = [deep]
    report = full()
    report["node"]["os"]["arch"] = fact(deep)
    assert "too deep" in page_of(report).text


@pytest.mark.parametrize("report", [None, [], {}, 3, "report", {"node": [], "checks": {}, "timeline": 7}])
def test_what_is_no_report_has_a_page_too(report: object) -> None:
    assert "unknown host" in page_of(report).text


def test_links_lead_to_parts_of_the_page() -> None:
    page = page_of(full())
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_what_several_vos_share_stands_there_once() -> None:
    report = full()
    both = ("example", "lattice")
    report["checks"] = [check("fuse", "warn", "no device", vo=vo) for vo in both] + [check("own", vo="lattice")]
    page = page_of(report)
    assert page.text.count("no device") == 1
    assert "fuse every VO no device" in page.text
    assert "1 warned, 1 passed" in page.text


def test_each_vo_has_its_own_containers_where_there_are_several() -> None:
    report = full()
    report["verdicts"][0]["container"] = full()["container"]
    assert "VO example PREFERRED (PREFERRED x OPTIONAL)" in page_of(report).text.replace("examplePREF", "example PREF")
    assert "docker://registry.example.org/cuda:12" in page_of(report).text


def test_the_ways_to_cvmfs_are_there_with_what_must_change() -> None:
    report = full()
    report["cvmfs"]["rungs"].append({"name": "container", "mode": 4, "state": "refused", "reason": "open <device>"})
    page = page_of(report)
    assert "cvmfs" in page.ids
    assert "PREFERRED (PREFERRED x OPTIONAL) - the VO says PREFERRED, the site OPTIONAL: jobs get CVMFS" in page.text
    assert "✓ takennative all of atlas.cern.ch answer at /cvmfs" in page.text
    assert "refused container (4) open <device>" in page.text


def test_each_vo_has_its_own_ways_to_cvmfs_where_there_are_several() -> None:
    report = full()
    for verdict, decision in zip(report["verdicts"], ("REQUIRED", "NEVER"), strict=True):
        verdict["cvmfs"] = report["cvmfs"] | {"decision": decision}
    text = page_of(report).text
    assert text.index("VO exampleREQUIRED (") < text.index("VO latticeNEVER (")


def test_a_page_of_a_node_of_which_nobody_wants_cvmfs_has_no_part_about_it() -> None:
    assert "cvmfs" not in page_of(full() | {"cvmfs": None}).ids


def test_what_jobs_get_beside_their_image_names_who_asked_and_why_not() -> None:
    page = html_page(full())
    for said in (
        *(
            "/cvmfs, read-only",
            "/data at /store",
            "VO example",
            "the site&#x27;s containers.binds_allowed has no /data",
        ),
        *("--rocm, for jobs with GPUs", "LD_PRELOAD", "it acts outside the container"),
    ):
        assert said in page


def test_a_refused_image_says_what_was_seen_of_it() -> None:
    assert "seen of it: leads_to: /data/el9-2026.sif; size_bytes: 73400320; os.arch: x86_64" in html_page(full())


def test_what_fails_comes_first() -> None:
    report = full()
    report["checks"] = [check("one", "pass"), check("two", "warn"), check("three", "skip"), check("four", "fail", "no")]
    marks = re.findall("✗ fails|! warns|✓ ok|– skipped", page_of(report).text)
    assert marks == ["✗ fails", "! warns", "✓ ok", "– skipped"]


def test_a_timeline_of_hundreds_of_entries_stays_bounded() -> None:
    report = full()
    report["timeline"] = [span("probe", f"probe {n}", n / 10, 0.01 + n / 1000) for n in range(900)]
    text = html_page(report)
    assert text.count("<rect") == 400
    assert "500 shortest entries are only in the table" in text


@pytest.mark.parametrize("name", ["slurm_cgroup2", "aarch64_mi250"])
def test_the_report_of_a_recorded_node_becomes_a_page(name: str) -> None:
    report = of_node(name)
    page = page_of(report)
    assert report["pilot"]["host"] in page.text
    for entry in report["checks"]:
        assert " ".join(entry["message"].split()) in page.text


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("front", "back"),
    [
        *[(front, back) for front in ("text", "quiet") for back in ("page", "card", "good-back", "bad-back")],
        *[(name, f"{name}-back") for name in ("good", "bad", "warn", "none")],
        *[("in-bar", bar) for bar in ("bar", "stage", "bar-bad", "bar-other")],
    ],
)
def test_letters_stand_out_from_their_ground(scheme: int, front: str, back: str) -> None:
    """Contrast of at least 4.5 (WCAG 2.2, level AA)."""
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", STYLE.split("@media")[scheme]))
    light, dark = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5
