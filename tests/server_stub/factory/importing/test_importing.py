"""Entries are made of what others know of sites, each thing without a counterpart is named, and changes can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.config_check import validate
from pilot_agent.model import PilotError
from server_stub.cli import main
from server_stub.factory.importing.command import judge
from server_stub.factory.importing.common import Imported, difference, name_of, overridden, written
from server_stub.factory.importing.cric import entries_from_cric
from server_stub.factory.importing.glideinwms import entries_from_glideinwms
from server_stub.factory.importing.osg import entries_from_osg
from server_stub.factory.reader import NAME

# Composed from the public schema of CRIC's `pandaqueue/query/?json`.
CRIC: dict[str, Any] = {
    "EXAMPLE_LONG": {
        "name": "EXAMPLE_LONG", "rc_site": "Example-T2", "state": "ACTIVE", "status": "online", "corecount": 8,
        "maxrss": 16000, "maxtime": 172800, "vo_name": "atlas", "container_type": "singularity:pilot",
        "catchall": "monkey=1", "queues": [
            {"ce_endpoint": "ce1.example.org:9619", "ce_flavour": "HTCONDOR-CE", "ce_state": "ACTIVE",
             "ce_queue_name": "long"},
            {"ce_endpoint": "arc.example.org:443", "ce_flavour": "ARC-CE", "ce_queue_name": "grid"},
            {"ce_endpoint": "old.example.org:8443/cream", "ce_flavour": "CREAM-CE"},
            {"ce_endpoint": "gone.example.org:9619", "ce_flavour": "HTCONDOR-CE", "ce_state": "DISABLED"},
        ],
    },
    "EXAMPLE_OFF": {
        "state": "ACTIVE", "status": "offline", "queues": [
            {"ce_endpoint": "ce2.example.org:9619", "ce_flavour": "HTCONDOR-CE"},
        ],
    },
    "EXAMPLE_DEAD": {"state": "INACTIVE", "queues": []},
}  # fmt: skip

# Composed from what OSG's computing elements advertise.
OSG: list[dict[str, Any]] = [
    {
        "Name": "ce.campus.example.edu", "OSG_ResourceGroup": "Campus", "OSG_Resource": "Campus-CE1",
        "CollectorHost": "ce.campus.example.edu:9619", "OSG_ResourceCatalog": [
            {"Name": "big", "CPUs": 64, "Memory": 256000, "MaxWallTime": 4320},
            {"Name": "pilots", "CPUs": 8, "Memory": 32000, "MaxWallTime": 1440, "IsPilotEntry": True, "GPUs": 1,
             "AllowedVOs": ["osg", "icecube"], "Requirements": "TARGET.x =?= 1"},
        ],
    },
    {
        "Name": "ce.lab.example.org", "OSG_ResourceCatalog": [
            {"Name": "small", "CPUs": 1, "Memory": 2000},
            {"Name": "whole", "CPUs": 16, "Memory": 64000, "WholeNode": True},
        ],
    },
    {"Name": "ce.empty.example.org"},
    {"OSG_Resource": "nameless"},
]  # fmt: skip

GLIDEINWMS = b"""<?xml version="1.0"?>
<glidein factory_name="f" glidein_name="g">
 <condor_tarballs/>
 <entries>
  <entry name="Campus_ce1" gatekeeper="schedd@ce1 ce1.example.org:9619" gridtype="condor" enabled="True"
         auth_method="scitoken" trust_domain="grid" work_dir="/scratch" proxy_url="http://squid.example.org:3128"
         rsl="(queue=long)(jobtype=single)">
   <config><max_jobs><per_entry glideins="500" idle="50" held="20"/><default_per_frontend glideins="100"/></max_jobs>
    <submit><submit_attrs><submit_attr name="+xcount" value="8"/><submit_attr name="Log" value="x"/>
     <submit_attr name="+Owner" value="$ENV(USER)"/></submit_attrs></submit></config>
   <allow_frontends><allow_frontend name="vo:frontend"/></allow_frontends>
   <attrs>
    <attr name="GLIDEIN_Site" value="Campus"/><attr name="GLIDEIN_CPUS" value="8"/>
    <attr name="GLIDEIN_MaxMemMBs" value="20000"/><attr name="GLIDEIN_Max_Walltime" value="170000"/>
    <attr name="GLIDEIN_Supported_VOs" value="OSG,IceCube"/>
    <attr name="GLIDEIN_Resource_Slots" value="GPUs,2,type=main"/>
    <attr name="GLIDEIN_SINGULARITY_REQUIRE" value="REQUIRED"/><attr name="GLIDEIN_Country" value="US"/>
   </attrs>
   <files><file absfname="/etc/vo/setup.sh" executable="True"/></files>
  </entry>
  <entry name="HPC" gatekeeper="pilot@login.example.org" gridtype="batch slurm" bosco_dir="bosco"/>
  <entry name="Cloud" gatekeeper="https://ec2.example.org" gridtype="ec2" enabled="False"/>
 </entries>
</glidein>
"""


def by_name(imported: Imported) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in imported.entries}


def test_cric_gives_an_entry_for_each_computing_element_in_use() -> None:
    imported = entries_from_cric(CRIC)
    found = by_name(imported)
    elements = ["EXAMPLE_LONG-arc.example.org", "EXAMPLE_LONG-ce1.example.org", "EXAMPLE_OFF-ce2.example.org"]
    assert sorted(found) == elements
    assert found["EXAMPLE_LONG-ce1.example.org"] == {
        "name": "EXAMPLE_LONG-ce1.example.org", "site": "Example_T2", "payload": "sh",
        "type": "condor", "contact": "ce1.example.org:9619", "queue": "long", "cores": 8, "memory_mib": 16000,
        "walltime_seconds": 172800, "vos": ["atlas"], "pilot": {"site": {"containers": "preferred"}},
    }  # fmt: skip
    assert found["EXAMPLE_OFF-ce2.example.org"]["enabled"] is False
    notes = "\n".join(imported.notes)
    assert "CREAM-CE at old.example.org:8443/cream" in notes
    assert "EXAMPLE_LONG.catchall: has no counterpart: monkey=1" in notes
    assert "EXAMPLE_DEAD: left out: its state is INACTIVE" in notes
    assert judge(imported) == []


def test_osg_gives_the_pilot_entries_and_otherwise_the_largest_resource() -> None:
    imported = entries_from_osg(OSG)
    found = by_name(imported)
    assert sorted(found) == ["Campus_CE1-pilots", "ce.lab.example.org-whole"]
    pilots, whole = found["Campus_CE1-pilots"], found["ce.lab.example.org-whole"]
    assert (pilots["walltime_seconds"], pilots["gpus"], pilots["vos"]) == (84600, 1, ["osg", "icecube"])
    assert (whole["cores"], whole["memory_mib"], whole["contact"]) == ("auto", "auto", "ce.lab.example.org:9619")
    notes = "\n".join(imported.notes)
    assert "pilots.Requirements: has no counterpart: TARGET.x =?= 1" in notes
    assert "ce.empty.example.org: left out" in notes
    assert "[3]: is no ad with a Name" in notes
    assert judge(imported) == []


def test_glideinwms_gives_attributes_and_limits_and_names_all_the_rest() -> None:
    imported = entries_from_glideinwms(GLIDEINWMS)
    campus, hpc, cloud = imported.entries
    assert campus == {
        "name": "Campus_ce1", "site": "Campus", "payload": "sh", "type": "condor", "contact": "ce1.example.org:9619",
        "queue": "long", "cores": 8, "memory_mib": 20000, "gpus": 2, "walltime_seconds": 170000,
        "vos": ["OSG", "IceCube"], "limits": {"total": 500, "idle": 50, "held": 20},
        "proxies": ["http://squid.example.org:3128"], "start_directory": "/scratch",
        "pilot": {
            "plugins": {"load": ["gwms_scripts"], "options": {"gwms_scripts": {
                "scripts": [{"file": "/etc/vo/setup.sh", "id": "entry", "type": "exec"}],
                "attributes": [{"name": "GLIDEIN_Country", "value": "US"}],
            }}},
            "site": {"containers": "required"}, "startd": {"resource_slots": "GPUs,2,type=main"},
        },
        "submit": {"schedd": "schedd@ce1", "lines": {"+xcount": "8"}},
    }  # fmt: skip
    assert (hpc["contact"], hpc["submit"]) == ("pilot@login.example.org", {"glite": "~/bosco/glite"})
    assert cloud["enabled"] is False
    told = {note.partition(":")[0] for note in imported.notes}
    assert {
        "Campus_ce1.auth_method", "Campus_ce1.trust_domain", "Campus_ce1.rsl", "Cloud.gridtype", "condor_tarballs",
        "Campus_ce1.config.max_jobs.default_per_frontend.glideins", "Campus_ce1.config.submit.Log",
        "Campus_ce1.config.submit.+Owner", "Campus_ce1.allow_frontends.allow_frontend[vo", "factory_name",
    } == told - {"glidein_name"}  # fmt: skip
    assert imported.pilot == {}
    assert [problem.path for problem in judge(imported)] == []


WHOLE = GLIDEINWMS.replace(
    b" <condor_tarballs/>",
    b"""<condor_tarballs><condor_tarball arch="x86_64" os="default" version="23.0"/></condor_tarballs>
 <attrs><attr name="VO_EVERYWHERE" value="1" type="int" glidein_publish="True" const="True" publish="False"/></attrs>
 <files><file absfname="/etc/vo/all.sh" executable="True" comment="for all"/></files>""",
)


def attributes() -> list[tuple[int, str]]:
    """Every attribute of the document by the number of its element."""
    root = ET.fromstring(WHOLE)
    return [(number, name) for number, one in enumerate(root.iter()) for name in one.attrib]


@pytest.mark.parametrize(("number", "attribute"), attributes())
def test_a_change_of_any_attribute_of_a_glideinwms_factory_changes_what_is_made_or_told(
    number: int, attribute: str
) -> None:
    """Whatever is neither converted nor listed would stay without a trace."""
    before = entries_from_glideinwms(WHOLE)
    root = ET.fromstring(WHOLE)
    one = list(root.iter())[number]
    value = one.attrib[attribute]
    other = {"True": "False", "False": "True"}.get(value, str(int(value) + 1) if value.isdigit() else f"{value}x")
    one.set(attribute, other)
    after = entries_from_glideinwms(ET.tostring(root))
    assert (after.entries, after.notes, after.pilot) != (before.entries, before.notes, before.pilot)


def test_what_a_glideinwms_factory_tells_all_pilots_is_for_its_own_file() -> None:
    imported = entries_from_glideinwms(WHOLE)
    assert imported.pilot["plugins"]["options"]["gwms_scripts"] == {
        "scripts": [{"file": "/etc/vo/all.sh", "id": "main", "type": "exec"}],
        "attributes": [{"name": "VO_EVERYWHERE", "value": 1, "type": "int", "glidein_publish": True}],
    }
    assert list(validate(imported.pilot, "factory")) == []
    text = written(imported)
    assert text.startswith("# For every entry, in factory.yaml:\n#   pilot:\n#     plugins:\n")
    assert yaml.safe_load(text) == yaml.safe_load(written(Imported(entries=imported.entries)))


@pytest.mark.parametrize(
    "content",
    [
        b'<!DOCTYPE g [<!ENTITY a "b">]><glidein>&a;</glidein>',
        b'<!DOCTYPE g SYSTEM "file:///etc/passwd"><glidein/>',
        b"<glidein>",
        b"<a>" * 60 + b"</a>" * 60,
        b"",
    ],
)
def test_a_document_that_could_do_anything_but_tell_is_refused(content: bytes) -> None:
    with pytest.raises(PilotError, match="the document is not taken") as caught:
        entries_from_glideinwms(content)
    assert caught.value.failure.exit_code == 66


def test_corrections_count_instead_and_one_that_fits_nothing_is_named() -> None:
    overrides = {
        "defaults": {"tokens": "/etc/tokens", "cores": 1},
        "entries": {
            "EXAMPLE_LONG-ce1.example.org": {"memory_mib": 20000},
            "EXAMPLE_OFF-ce2.example.org": {"skip": True},
            "EXAMPLE_LONG-ce1.example.com": {"cores": 4},
        },
        "entires": {},
    }
    made = overridden(entries_from_cric(CRIC), overrides)
    found = by_name(made)
    first = found["EXAMPLE_LONG-ce1.example.org"]
    assert (first["memory_mib"], first["cores"], first["tokens"]) == (20000, 8, "/etc/tokens")
    assert "EXAMPLE_OFF-ce2.example.org" not in found
    assert "overrides.entires: neither defaults nor entries" in made.notes
    assert any(note.endswith("did you mean EXAMPLE_LONG-ce1.example.org?") for note in made.notes)


def test_changes_are_a_line_each() -> None:
    old: list[dict[str, Any]] = [{"name": "a", "site": "S", "cores": 1}, {"name": "b", "site": "S"}]
    new: list[dict[str, Any]] = [{"name": "a", "site": "S", "cores": 8, "vos": ["x"]}, {"name": "c", "site": "T"}]
    assert difference(old, new) == ["~ a: cores 1 -> 8", "~ a: vos nothing -> [x]", "- b", "+ c (T)"]


def test_the_same_entries_are_always_the_same_file() -> None:
    imported = entries_from_cric(CRIC)
    turned = Imported(list(reversed(imported.entries)))
    assert written(imported) == written(turned)
    assert len(yaml.safe_load(written(imported))["entries"]) == 3


def test_two_entries_never_have_one_name() -> None:
    imported = Imported()
    for _ in range(3):
        imported.add({"name": "x" * 63})
    assert [entry["name"] for entry in imported.entries] == ["x" * 63, "x" * 59 + "-2", "x" * 59 + "-3"]


KEYS = st.sampled_from(
    ["queues", "ce_endpoint", "ce_flavour", "corecount", "maxrss", "Name", "OSG_ResourceCatalog", "CPUs"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.lists(JSON, max_size=3))
def test_whatever_a_document_holds_there_is_an_answer(value: Any, ads: list[Any]) -> None:
    for imported in (entries_from_cric({"q": value}), entries_from_osg(ads), entries_from_cric(value)):
        assert all(NAME.fullmatch(entry["name"]) for entry in imported.entries)


@given(st.lists(st.text(), max_size=3))
def test_any_name_becomes_one_that_an_entry_may_have(parts: list[str]) -> None:
    assert NAME.fullmatch(name_of(*parts))


def test_the_command_prints_a_file_and_what_would_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, before = tmp_path / "queues.json", tmp_path / "before.yaml"
    source.write_text(json.dumps(CRIC))
    assert main(["entries", "import", "cric", str(source)]) == 0
    said = capsys.readouterr()
    assert "note: EXAMPLE_DEAD" in said.err
    before.write_text(said.out.replace("memory_mib: 16000", "memory_mib: 8000", 1))
    assert main(["entries", "import", "cric", str(source), "--against", str(before)]) == 0
    assert capsys.readouterr().out == "~ EXAMPLE_LONG-arc.example.org: memory_mib 8000 -> 16000\n"
    source.write_text("{")
    assert main(["entries", "import", "cric", str(source)]) == 66
    assert "is no JSON" in capsys.readouterr().err


def test_an_entry_that_a_factory_would_refuse_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "queues.json"
    queue = {"ce_endpoint": "ce1.example.org:9619", "ce_flavour": "HTCONDOR-CE", "ce_queue_name": "a b\n"}
    source.write_text(json.dumps({"q": {"queues": [queue]}}))
    assert main(["entries", "import", "cric", str(source), "--json"]) == 66
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["path"] == "q-ce1.example.org.queue"


@pytest.mark.parametrize(
    ("source", "content", "said"),
    [
        ("cric", {}, "holds no queues by name"),
        ("cric", {"error": "not authorised"}, "error: is no queue"),
        ("osg", {"ads": []}, "is no list of ads"),
    ],
)
def test_a_file_without_any_entry_never_takes_the_place_of_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, content: Any, said: str
) -> None:
    """An error page of the source, kept as `imported.yaml`, would end every entry."""
    file = tmp_path / "answer.json"
    file.write_text(json.dumps(content))
    assert main(["entries", "import", source, str(file)]) == 66
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{file} holds nothing that becomes an entry" in told.err
    assert said in told.err
    assert "the factory's operator must act" in told.err
