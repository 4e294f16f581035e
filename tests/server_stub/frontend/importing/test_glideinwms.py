"""A frontend of GlideinWMS becomes one that this project's own reader takes, and nothing in it is passed over."""

from __future__ import annotations

import copy
import importlib
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from pilot_agent.config_check import validate
from pilot_agent.model import PilotError
from server_stub.frontend.configuration import parse_frontend
from server_stub.frontend.importing.glideinwms import ImportedFrontend, frontend_from_glideinwms
from tests.contributed import install

# Composed from the elements, attributes and defaults that GlideinWMS documents.
FRONTEND = """<?xml version="1.0"?>
<frontend frontend_name="Example-fe" loop_delay="90" advertise_delay="5" restart_attempts="3">
 <config ignore_down_entries="False">
  <running_glideins_total max="50000" curb="40000"/><running_glideins_total_global max="90000" curb="80000"/>
  <idle_vms_total max="900" curb="150"/>
 </config>
 <high_availability enabled="False" check_interval="60"><ha_frontends/></high_availability>
 <log_retention><process_logs><process_log extension="info" max_days="7"/></process_logs></log_retention>
 <match match_expr="True" start_expr="True" policy_file="">
  <factory query_expr="(GLIDEIN_Supported_VOs =!= undefined)">
   <match_attrs><match_attr name="GLIDEIN_Site" type="string"/></match_attrs>
   <collectors>
    <collector node="factory.example.org:9618" DN="/CN=f" factory_identity="g@f" my_identity="v@f" comment="ours"/>
   </collectors>
  </factory>
  <job query_expr="(JobUniverse==5)">
   <match_attrs><match_attr name="DESIRED_Sites" type="string"/></match_attrs>
   <schedds><schedd fullname="ap1.example.org" DN="/CN=ap1"/>
    <schedd fullname="s2@ap2.example.org" DN="/CN=ap2"/></schedds>
  </job>
 </match>
 <monitor base_dir="/var/www" web_base_url="http://fe.example.org"/>
 <security proxy_selection_plugin="ProxyAll" security_name="example" idtoken_lifetime="24" sym_key="aes_256_cbc">
  <credentials>
   <credential absfname="/etc/grid/pilot.proxy" security_class="frontend" trust_domain="grid" type="grid_proxy"/>
  </credentials>
 </security>
 <stage base_dir="/var/stage" use_symlink="True"/><work base_dir="/var/work"/>
 <attrs>
  <attr name="GLIDEIN_Singularity_Use" value="PREFERRED" type="string" glidein_publish="True" job_publish="True"
        parameter="True" const="False" comment="as the VO wants"/>
  <attr name="MIN_CORES" value="2" type="int" glidein_publish="False" job_publish="False" parameter="True"/>
 </attrs>
 <collectors>
  <collector node="cm.example.org:9618" DN="/CN=cm" group="default" secondary="False"/>
  <collector node="cm.example.org:9620-9630" DN="/CN=cm" group="default" secondary="True"/>
 </collectors>
 <ccbs><ccb node="ccb.example.org:9618" DN="/CN=ccb" group="default"/></ccbs>
 <files>
  <file absfname="/opt/vo/check.sh" executable="True" after_entry="False" period="300" prefix="VO_" const="True"/>
 </files>
 <groups>
  <group name="main" enabled="True">
   <config ramp_up_attenuation="2.5">
    <running_glideins_per_entry max="5000" min="1" relative_to_queue="1.25"/>
    <running_glideins_total max="60000" curb="55000"/>
    <idle_glideins_per_entry max="80" reserve="4"/><idle_glideins_lifetime max="3600"/>
    <idle_vms_per_entry max="90" curb="6"/><idle_vms_total max="1000" curb="200"/>
    <glideins_removal type="IDLE" wait="7" margin="3" requests_tracking="True"/>
    <partitionable_glidein min_memory="2500"/><processing_workers matchmakers="3"/>
   </config>
   <match match_expr='glidein["attrs"]["GLIDEIN_Site"] in job["DESIRED_Sites"].split(",")
                      and job["Cores"] &gt;= attr_dict["MIN_CORES"]'
          start_expr="(Owner =!= undefined)" policy_file="/etc/policy.py">
    <factory query_expr="True"><match_attrs/></factory>
    <job query_expr="(Interesting =?= true)"><match_attrs><match_attr name="Cores" type="int"/></match_attrs></job>
   </match>
   <security><credentials>
    <credential absfname="/etc/grid/site.scitoken" type="scitoken" purpose="request"/>
    <credential absfname="/etc/grid/key.pub" keyabsfname="/etc/grid/key" type="key_pair+project_id"/>
    <credential absfname="/etc/grid/user.txt" type="username_password"/>
   </credentials></security>
   <attrs><attr name="GLIDECLIENT_Rank" value="1" type="int" glidein_publish="True"/></attrs>
   <files>
    <file absfname="/opt/vo/data.tgz" relfname="data" untar="True" after_group="True">
     <untar_options cond_attr="TRUE" dir="data" absdir_outattr="DATA"/>
    </file>
    <file absfname="/opt/vo/wrap.sh" wrapper="True" executable="True"/>
   </files>
  </group>
  <group name="old" enabled="False"><config/></group>
 </groups>
</frontend>
"""


def imported(text: str = FRONTEND) -> ImportedFrontend:
    return frontend_from_glideinwms(text.encode(), "example")


def test_a_group_becomes_a_frontend_that_is_one() -> None:
    (group,) = imported().groups
    frontend = parse_frontend(group.frontend, "/etc/pilot-frontend")
    assert (frontend.name, frontend.cycle_seconds) == ("Example_fe-main", 90)
    assert frontend.pool.collectors == ("cm.example.org:9618, cm.example.org:9620-9630",)
    assert frontend.access_points.names == ("ap1.example.org", "s2@ap2.example.org")
    assert frontend.access_points.jobs == "((JobUniverse==5)) && ((Interesting =?= true))"
    assert [(one.name, one.url) for one in frontend.factories] == [
        ("factory.example.org", "https://factory.example.org:8443")
    ]
    assert (frontend.settings.vo.name, frontend.settings.vo.containers) == ("example", "PREFERRED")


def test_its_match_expression_becomes_a_policy() -> None:
    (group,) = imported().groups
    assert group.frontend["policy"] == {
        "match": "((GLIDEIN_Supported_VOs =!= undefined)) && ((isString(MY.GLIDEIN_Site) && "
        'stringListMember(MY.GLIDEIN_Site, TARGET.DESIRED_Sites, ",")) && (TARGET.Cores >= 2))',
        "attributes": ["Cores", "DESIRED_Sites"],
    }


def test_its_limits_keep_their_meaning() -> None:
    (group,) = imported().groups
    settings = parse_frontend(group.frontend, "/").settings
    limits, totals, tuning, patience = settings.default_limits, settings.totals, settings.tuning, settings.patience
    assert (limits.least_pilots, limits.most_pilots, limits.most_queued, limits.reserve) == (1, 5000, 80, 4)
    assert (limits.idle_slots.most, limits.idle_slots.curb) == (90, 6)
    assert (totals.pilots.most, totals.pilots.curb) == (50000, 40000)
    assert (totals.idle_slots.most, totals.idle_slots.curb) == (900, 150)
    assert (tuning.attenuation, tuning.relative_to_queue) == (2.5, 1.25)
    assert (patience.wait_cycles, patience.remove_cycles, patience.margin) == (7, 10, 3)


def test_what_its_pilots_are_told_is_a_configuration_of_pilots() -> None:
    (group,) = imported().groups
    assert list(validate(group.pilot, "vo")) == []
    assert group.pilot["startd"] == {"start": "(Owner =!= undefined)"}
    assert group.pilot["vo"] == {"name": "example", "group": "main", "containers": "preferred"}
    assert group.pilot["pool"]["ccb_brokers"] == ["ccb.example.org:9618"]
    options = group.pilot["plugins"]["options"]["gwms_scripts"]
    assert options["scripts"] == [
        {"file": "/opt/vo/check.sh", "id": "client", "type": "exec", "prefix": "VO_", "period": 300,
         "after_entry": False},
        {"file": "/opt/vo/data.tgz", "id": "client_group", "type": "untar", "name": "data", "after_group": True,
         "cond_attr": "TRUE", "dir": "data", "config_out": "DATA"},
    ]  # fmt: skip
    assert [one["name"] for one in options["attributes"]] == [
        "GLIDEIN_Singularity_Use",
        "MIN_CORES",
        "GLIDECLIENT_Rank",
    ]
    assert options["attributes"][1] == {"name": "MIN_CORES", "value": 2, "type": "int"}


def test_scripts_and_attributes_are_ones_that_the_plugin_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(install("gwms_scripts", tmp_path)))
    module = importlib.import_module("pilot_gwms_scripts.settings")
    (group,) = imported().groups
    usual = {"directory": "", "package": "", "cleanup_seconds": 5}
    options = usual | group.pilot["plugins"]["options"]["gwms_scripts"]
    settings = module.settings_of({"plugins": {"options": {"gwms_scripts": options}}})
    assert [script.file for script in settings.scripts] == ["/opt/vo/check.sh", "/opt/vo/data.tgz"]
    for name in [name for name in sys.modules if name.startswith("pilot_gwms_scripts")]:
        monkeypatch.delitem(sys.modules, name)


def test_credentials_are_named_by_kind_and_path_and_never_read() -> None:
    found = imported()
    frontend = parse_frontend(found.groups[0].frontend, "/")
    assert [(one.name, one.kind.value, one.file) for one in frontend.credentials.sites] == [
        ("pilot.proxy", "x509", "/etc/grid/pilot.proxy"),
        ("site.scitoken", "scitoken", "/etc/grid/site.scitoken"),
        ("key", "ssh_key", "/etc/grid/key"),
    ]
    notes = "\n".join(found.notes)
    place = "security.credentials.credential[/etc/grid/pilot.proxy]"
    assert f"{place}.trust_domain: of a credential: see credentials; its content was not looked at: grid" in notes
    assert "credential[/etc/grid/user.txt].type: of a credential" in notes


def test_what_has_no_counterpart_is_told_with_its_reason() -> None:
    notes = imported().notes
    assert "stage.base_dir: is about GlideinWMS's own files and web pages: /var/stage" in notes
    assert any(note.startswith("groups.group[main].match.policy_file: is Python that would be run") for note in notes)
    assert any(note.startswith("groups.group[old]: left out") for note in notes)
    assert any(note.startswith("groups.group[main].files.file[/opt/vo/wrap.sh]: a wrapper") for note in notes)
    assert any(note.startswith("factories.factory.example.org.url: a guess") for note in notes)


def told(text: str) -> Any:
    found = imported(text)
    return [(group.name, group.frontend, group.pilot) for group in found.groups], found.notes


def changed(value: str) -> str:
    if value.isdigit():
        return str(int(value) - 1) if int(value) > 1 else "0"
    return {"True": "False", "False": "True"}.get(value, f"{value}x")


def attributes() -> list[tuple[str, str]]:
    """Every attribute of the document by the number of its element, those of what is not enabled left aside."""
    root = ET.fromstring(FRONTEND)
    off = {id(one) for group in root.iterfind("groups/group[@enabled='False']") for one in group.iter()}
    found = [
        (f"{number}:{one.tag}", name)
        for number, one in enumerate(root.iter())
        if id(one) not in off
        for name in one.attrib
    ]
    assert len(found) > 100
    return found


@pytest.mark.parametrize(("element", "attribute"), attributes())
def test_a_change_of_any_attribute_changes_what_is_made_or_told(element: str, attribute: str) -> None:
    """Whatever is neither converted nor listed would stay without a trace."""
    root = ET.fromstring(FRONTEND)
    one = list(root.iter())[int(element.partition(":")[0])]
    # Of two totals the stricter holds.
    total = element.partition(":")[2] in ("running_glideins_total", "idle_vms_total")
    one.set(attribute, "1" if total else changed(one.attrib[attribute]))
    assert told(ET.tostring(root, encoding="unicode")) != told(FRONTEND)


def test_an_element_that_nobody_knows_is_told() -> None:
    text = FRONTEND.replace("<attrs>", "<novelty/><other>words</other><attrs>", 1)
    notes = imported(text).notes
    assert "novelty: has no counterpart" in notes
    assert "other: has no counterpart: words" in notes


@pytest.mark.parametrize("expression", ["job['Cores'] % 2 == 0", "open('/etc/passwd')", "("])
def test_an_expression_that_cannot_be_converted_asks_for_nothing(expression: str) -> None:
    text = re.sub("match_expr='[^']*'", lambda _: f'match_expr="{expression}"', FRONTEND)
    found = imported(text)
    assert str(found.groups[0].frontend["policy"]["match"]).endswith("&& (false)")
    assert any("groups.group[main].match.match_expr: became false" in note for note in found.notes)
    parse_frontend(found.groups[0].frontend, "/")


def test_a_query_that_htcondor_does_not_take_asks_for_nothing() -> None:
    found = imported(FRONTEND.replace("(Interesting =?= true)", "(Interesting"))
    assert found.groups[0].frontend["access_points"]["jobs"] == "((JobUniverse==5)) && (false)"


def test_no_document_type_is_taken() -> None:
    with pytest.raises(PilotError, match="declares a document type"):
        imported('<!DOCTYPE f [<!ENTITY a "b">]><frontend>&a;</frontend>')


@pytest.mark.parametrize(
    ("kind", "wait", "patience"),
    [("DISABLE", "0", 1_000_000_000), ("NO", "9", None), ("ALL", "20", 20)],
)
def test_removal_keeps_its_meaning(kind: str, wait: str, patience: int | None) -> None:
    text = FRONTEND.replace('type="IDLE" wait="7"', f'type="{kind}" wait="{wait}"')
    made = imported(text).groups[0].frontend
    assert made["patience"].get("wait_cycles") == patience
    parse_frontend(copy.deepcopy(made), "/")
