"""Existing GlideinWMS custom scripts in a pilot of the user pool: before its jobs, beside them, and at its end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import xml.etree.ElementTree as ET
from typing import Any

from tests.contributed import ROOT, install
from tests.integration.conftest import StartPilot
from tests.testbed.grid import Grid
from tests.testbed.pilots import PRODUCTS, PilotRun
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Jobs, slot_ads

Json = Any

SCRIPTS = ROOT / "plugins_contrib" / "gwms_scripts" / "tests" / "scripts"
OWN = ("gwms", "vo-scripts", "mark")


def with_scripts(pilot: StartPilot, *scripts: dict[str, Json], **changes: Json) -> PilotRun:
    """A pilot with the plugin and these scripts in its start directory."""
    options = {
        "directory": "{start}/vo-scripts",
        "scripts": list(scripts),
        "attributes": [{"name": "EXAMPLE_Mark", "value": "{start}/mark"}],
    }
    plugins = {
        "directories": ["{start}/gwms"],
        "load": ["gwms_scripts"],
        "options": {"gwms_scripts": options},
        "timeout_seconds": 30,
    }
    run = pilot({"plugins": plugins, **changes})
    install("gwms_scripts", run.outer / "gwms")
    shutil.copytree(SCRIPTS, run.outer / "vo-scripts")
    for place in ("gwms", "vo-scripts"):
        for path in (run.outer / place, *(run.outer / place).rglob("*")):
            os.chown(path, PILOT.uid, PILOT.uid)
    return run


def only_scripts_left(run: PilotRun) -> None:
    own = [path for name in OWN for path in (run.outer / name, *(run.outer / name).rglob("*"))]
    run.nothing_left(allowed=(*PRODUCTS, *(str(path.relative_to(run.outer)) for path in own)))


def test_what_scripts_set_reaches_the_slots_ad_and_the_jobs(pilot: StartPilot, grid: Grid, jobs: Jobs) -> None:
    run = with_scripts(
        pilot,
        {"file": "set_site_attributes.sh", "id": "main"},
        {"file": "check_node.sh"},
        {"file": "inside_image.sh", "type": "run:singularity"},
        {"file": "vandal.sh"},
        {"file": "load_report.sh", "period": 2, "prefix": "EXAMPLE_"},
        {"file": "fails.sh", "name": "fails_later.sh", "period": 2, "required": False},
        {"file": "clean_scratch.sh", "type": "cleanup"},
        factory={"output": "glideinwms", "name": "Example_Factory"},
    ).start()
    job = jobs.shell("echo $EXAMPLE_Region, $EXAMPLE_ImageSystem, $EXAMPLE_CACHE_DIR", pilot=run).wait_done()
    assert job.output().strip() == "Upper Lake & 'Hills', debian 13, /var/tmp/cache"

    def ad() -> dict[str, Json] | None:
        found = slot_ads(grid, run)
        return found[0] if found and "EXAMPLE_Load" in found[0] and "GLIDEIN_PS_FAILING_LIST" in found[0] else None

    seen = run.wait_until("attributes of the periodic scripts", ad)
    assert (seen["EXAMPLE_Region"], seen["GLIDEIN_HasFastScratch"]) == ("Upper Lake & 'Hills'", True)
    assert seen["EXAMPLE_Fits"] == '/Expr(ifThenElse(MY.Memory > 1,"yes $(MEMORY)","no"))/'
    assert (seen["EXAMPLE_ImageSystem"], seen["EXAMPLE_IsBusy"]) == ("debian 13", False)
    assert (seen["GLIDEIN_PS_OK"], seen["GLIDEIN_PS_FAILING_LIST"]) == (False, "fails_later.sh")
    run.signal(signal.SIGTERM)
    # Told to end by a signal: no fault for a factory that knows only 0 and 1.
    assert run.wait() == 0, run.story()
    assert re.search(r"^=== Last script starting .* after validating for \d+ ===$", run.stdout, re.MULTILINE)
    assert re.search(r"^=== Glidein ending .* with code 0 after \d+ ===$", run.stdout, re.MULTILINE)
    assert "=== validation OK in client/check_node.sh (" in run.stderr
    assert (run.outer / "mark").read_text() == "cleaned 000_clean_scratch.sh\n"
    checks = {check["name"]: check for check in run.report()["checks"]}
    assert checks["client/check_node.sh"]["metrics"].keys() == {"free_mib", "memory_mib"}
    inside = checks["client/inside_image.sh"]
    assert (inside["status"], inside["where"], inside["metrics"]) == ("pass", "image", {"place": "/srv"})
    assert "processes that it left were ended" in checks["client/vandal.sh"]["message"]
    assert checks["client/fails_later.sh"]["status"] == "warn"
    only_scripts_left(run)


def test_a_script_that_fails_ends_the_pilot_as_its_document_says(pilot: StartPilot) -> None:
    run = with_scripts(
        pilot,
        {"file": "fails.sh", "name": "fails_WN_Resource.sh", "id": "main"},
        {"file": "check_node.sh"},
        {"file": "clean_scratch.sh", "type": "cleanup", "after_entry": False},
        factory={"output": "glideinwms"},
    )
    assert run.run() == 1, run.story()
    failure = run.failure()
    assert (failure["kind"], failure["code"]) == ("node_resource", "script.wn_resource")
    assert failure["message"] == "main/fails_WN_Resource.sh: WN_Resource was found & <told>"
    assert f"node_resource: script.wn_resource: {failure['message']}" in run.stderr
    document = run.stdout.partition("=== XML description of glidein activity ===\n")[2].partition("=== End XML")[0]
    told = ET.fromstring(document)
    assert told.findtext("result/status") == "ERROR"
    assert {one.get("name"): one.text for one in told.findall("result/metric")} == {
        "failure": "WN_Resource",
        "TestID": "main/fails_WN_Resource.sh",
    }
    assert failure["message"] in (told.findtext("detail") or "")
    assert "=== Encoded XML description of glidein activity ===" in run.stderr
    only_scripts_left(run)


def test_a_pilot_that_is_told_to_end_while_a_script_hangs_leaves_nothing(pilot: StartPilot) -> None:
    run = with_scripts(
        pilot,
        {"file": "clean_scratch.sh", "type": "cleanup", "id": "main"},
        {"file": "hangs.sh", "id": "main"},
    ).start()
    hanging = f"{run.start_directory}/"
    run.wait_until(
        "the script",
        lambda: [one for one in run.processes() if any(w.startswith(hanging) and "hangs.sh" in w for w in one.argv)],
    )
    run.signal(signal.SIGTERM)
    assert run.wait() == 143, run.story()
    assert (run.outer / "mark").read_text() == "cleaned 000_clean_scratch.sh\n"
    only_scripts_left(run)
