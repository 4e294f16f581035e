"""What jobs find beside their image: binds, options and variables of all who ask, a home below /tmp, nested containers.

The pilot works in /tmp, which every container covers with a /tmp of its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from tests.integration.plugins import PREAMBLE
from tests.probes.doubles import nvml_double
from tests.testbed.grid import IMAGES_INSIDE, Grid
from tests.testbed.hosts import Host
from tests.testbed.pilots import INSTALLED, PilotRun
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Jobs, slot_ads

Json = Any
DATA = "/var/tmp/binds-data"
DEBIAN13, DEBIAN12 = f"{IMAGES_INSIDE}/debian13", f"{IMAGES_INSIDE}/debian12"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
# What the node's Apptainer consists of, for a job that runs it inside its container.
APPTAINER = [
    *("/usr/bin/apptainer::ro", f"{LIBRARIES}/apptainer::ro", f"{LIBRARIES}/libseccomp.so.2::ro", "/etc/apptainer::ro"),
    *("/var/lib/apptainer::ro", f"{IMAGES_INSIDE}::ro"),
]
PLUGIN = """
def early(context):
    return SetupResult(environment={"FROM_SETUP": "1", "LD_PRELOAD": "/x"}, binds=("@DATA@/setup:/setup:ro",))

@hookimpl
def pilot_setups():
    yield Setup(name="early", run=f"{__name__}:early", stage="early")
    yield Setup(name="home", where="image", script="home.sh")

@hookimpl
def pilot_checks():
    yield Check(name="home", where="image", script="home.sh")

@hookimpl
def pilot_services():
    yield Service(name="home", where="image", command=("/bin/sh", "-c", "echo $HOME > $HOME/seen; cd; pwd >> seen; "
                  "cp seen /setup-out/service; touch ready; sleep 600"), readiness=Readiness(file="ready"),
                  stop_seconds=1)

@hookimpl
def pilot_containers():
    yield ContainerRequest(name="wants", binds=("@DATA@/out:/setup-out", "@DATA@/gone:/gone", "/etc:/node-etc:ro"),
                           options=("--nv", "--writable", "--security=seccomp:/x"), environment={"FROM_PLUGIN": "1"})
"""
HOME = """\
#!/bin/sh
cd && touch here "$HOME/there" && [ "$(pwd)" = "$HOME" ] && echo '{}'
"""
LOOKS = (
    "pwd; echo $HOME; cd || exit 3; touch in-home /tmp/in-tmp || exit 4; pwd; ls /setup /node-etc /gone; "
    "echo x > /setup/x; cp in-home /setup-out/job; cat /etc/hosts; env | sort"
)
NESTS = (
    f"apptainer exec {DEBIAN12} cat /etc/debian_version && apptainer exec --containall {DEBIAN13} id -u || exit 3; "
    "n=0; while [ ! -e ~/visited ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n + 1)); done; [ -e ~/visited ]"
)
SITE_FILE = f"{PILOT.home}/site-binds.json"


@pytest.fixture(scope="module")
def data(grid: Grid) -> Iterator[Path]:
    """Directories of the node that are bound."""
    outer = grid.wn1.path(DATA)
    for name in ("setup", "out", "site"):
        (outer / name).mkdir(parents=True)
        (outer / name).chmod(0o777)
    yield outer
    shutil.rmtree(outer)
    grid.wn1.path(SITE_FILE).unlink(missing_ok=True)


@pytest.fixture
def busy(pilot: Any, data: Path) -> PilotRun:
    """A pilot in /tmp with wishes of everybody and a site that limits them."""
    run: PilotRun = pilot(
        {
            "site": {"scratch": ["/tmp"]},
            "containers": {"binds": APPTAINER, "options": ["--underlay"]},
            "plugins": {"directories": ["{start}/plugins"], "load": ["wishes"]},
        },
        arguments=["--config", f"site={SITE_FILE}"],
        environment={"SITE_SQUID": "squid:3128", "SITE_SECRET": "x"},
    )
    site = {
        "containers": {
            "binds": [{"source": f"{DATA}/site", "destination": "/site", "read_only": True, "required": True}],
            "allowed_binds": [DATA, "/usr", "/etc/apptainer", "/var/lib/apptainer", IMAGES_INSIDE],
        },
        "startd": {
            "pass_environment": ["SITE_SQUID"],
            "allowed_environment": ["SITE_*", "FROM_*"],
            "job_environment": {"FROM_SITE": "1", "OTHER": "1"},
        },
    }
    path = run.host.path(SITE_FILE)
    path.write_text(json.dumps(site))
    path.chmod(0o644)
    (run.outer / "plugins").mkdir()
    source = PREAMBLE.replace("Check, ", "Check, ContainerRequest, ", 1) + PLUGIN.replace("@DATA@", DATA)
    run.write("plugins/wishes.py", source)
    run.write("plugins/home.sh", HOME, mode=0o755)
    return run


def test_jobs_and_programs_find_what_was_allowed_and_the_report_names_who_asked(
    busy: PilotRun, jobs: Jobs, grid: Grid, data: Path
) -> None:
    busy.start()
    looks = jobs.shell(LOOKS, pilot=busy)
    nests = jobs.shell(NESTS, pilot=busy, extra="requirements = PilotNestedContainers")
    looks.wait_done()
    nests.wait_running()
    (slot,) = [ad for ad in slot_ads(grid, busy) if ad.get("SlotType") == "Partitionable"]
    assert slot["PilotNestedContainers"] is True
    login = "cd; pwd; echo $HOME; touch visited"
    visit = ["condor_ssh_to_job", "-auto-retry", f"{nests.cluster}.0", login]
    visited = grid.pool.run(visit, user="user", cwd="/home/user", timeout_seconds=60)
    nests.wait_done()
    busy.signal(SIGTERM)
    assert busy.wait() in (0, 143), busy.story()

    lines = looks.output().splitlines()
    assert looks.exit_codes() == [0], looks.output() + looks.error()
    assert lines[:3] == ["/srv", "/srv", "/srv"]
    assert "Read-only file system" in looks.error()
    assert "cannot access '/gone'" in looks.error()
    assert "cannot access '/node-etc'" in looks.error()
    assert any("localhost" in line for line in lines)
    variables = dict(line.split("=", 1) for line in lines if "=" in line)
    given = {"SITE_SQUID": "squid:3128", "FROM_SITE": "1", "FROM_SETUP": "1", "FROM_PLUGIN": "1"}
    assert given.items() <= variables.items()
    assert not {"SITE_SECRET", "OTHER", "LD_PRELOAD"} & set(variables)
    assert (data / "out" / "job").exists()
    assert (data / "out" / "service").read_text() == "/srv\n/srv\n"
    assert nests.exit_codes() == [0], nests.error()
    version, account = nests.output().split()
    assert version.startswith("12.")
    assert account == str(PILOT.uid)
    assert visited.stdout.split() == ["/srv", "/srv"], visited.stderr

    report = busy.report()
    assert {check["name"]: check["status"] for check in report["checks"]}["home"] == "pass"
    assert [entry["status"] for entry in report["timeline"] if entry["what"] == "home"] == ["ok"] * 2 + ["ready"]
    binds = {bind["source"]: bind for bind in report["container"]["binds"]}
    for source, who in (
        ("/etc/hosts", "the pilot"),
        (f"{DATA}/site", "configuration (site)"),
        ("/usr/bin/apptainer", "configuration (factory)"),
        (f"{DATA}/setup", "the setup early of wishes"),
        (f"{DATA}/out", "plugin wishes (wants)"),
    ):
        assert (binds[source]["given"], binds[source]["asked_by"], binds[source]["reason"]) == (True, who, "")
    assert binds[f"{DATA}/gone"]["reason"] == "the node has no such file or directory"
    assert binds["/etc"]["reason"].startswith(f"it is not under what containers.allowed_binds allows: {DATA}, /usr")
    options = {one["option"]: (one["given"], one["asked_by"]) for one in report["container"]["options"]}
    assert options == {
        "--underlay": (True, "configuration (factory)"),
        "--nv": (True, "plugin wishes (wants)"),
        "--writable": (False, "plugin wishes (wants)"),
        "--security=seccomp:/x": (False, "plugin wishes (wants)"),
    }
    named = {one["name"]: one["given"] for one in report["container"]["environment"]}
    assert named == {**dict.fromkeys(given, True), "OTHER": False, "LD_PRELOAD": False}
    assert "squid:3128" not in json.dumps(report["container"])
    # There is no GPU: the runtime warns of --nv, and images are proven all the same and say what they see.
    seen = {why["platform"]: (why["proven"], why["facts"]["gpu.visible"]) for why in report["container"]["why"]}
    assert seen == {"debian13": (True, False), "debian12": (True, False)}


ONE_GPU = """\
driver 535.183.06
cuda_driver 12020
count 1
0.uuid GPU-5
0.name NVIDIA A100
0.pci 00000000:01:00.0
"""
LIBRARY = f"{LIBRARIES}/libnvidia-ml.so.1"
OPENCL = "/etc/OpenCL/vendors"


@pytest.fixture
def gpu_node(grid: Grid) -> Iterator[Host]:
    """A node that shows one GPU: the driver's library is a double, the device a file. No GPU is at hand."""
    host = grid.wn1
    nvml_double(host.path("/var/tmp/double"), ONE_GPU)
    made = [LIBRARY, f"{LIBRARY}.txt", "/dev/nvidia0", "/dev/nvidiactl", f"{OPENCL}/nvidia.icd"]
    for source in ("libnvidia-ml.so.1", "libnvidia-ml.so.1.txt"):
        shutil.copyfile(host.path(f"/var/tmp/double/{source}"), host.path(f"{LIBRARIES}/{source}"))
    host.path(OPENCL).mkdir(parents=True)
    for device in made[2:]:
        host.path(device).touch()
        host.path(device).chmod(0o666)
    assert host.run(["ldconfig"]).returncode == 0
    yield host
    for path in made:
        host.path(path).unlink()
    for directory in ("/etc/OpenCL", "/var/tmp/double"):
        shutil.rmtree(host.path(directory))
    host.run(["ldconfig"])


def test_jobs_with_gpus_get_the_drivers_libraries_and_others_do_not(
    pilot: Any, jobs: Jobs, grid: Grid, gpu_node: Host
) -> None:
    run = pilot().start()
    look = "ls /.singularity.d/libs; echo $CUDA_VISIBLE_DEVICES; ls /dev/nvidia0; ls /etc/OpenCL/vendors"
    given = jobs.shell(look, pilot=run, extra="request_gpus = 1")
    none = jobs.shell(look, pilot=run)
    assert given.wait_done().output().split() == ["libnvidia-ml.so.1", "GPU-5", "/dev/nvidia0", "nvidia.icd"]
    assert "libnvidia-ml" not in none.wait_done().output()
    assert "nvidia.icd" in none.output()
    run.signal(SIGTERM)
    assert run.wait() in (0, 143), run.story()
    report = run.report()
    (option,) = report["container"]["options"]
    assert (option["option"], option["given"], option["with_gpus"], option["asked_by"]) == (
        "--nv", True, True, "the pilot"
    )  # fmt: skip
    (bound,) = [bind for bind in report["container"]["binds"] if bind["source"] == OPENCL]
    assert bound["given"]
    seen = {why["platform"]: why["facts"]["gpu.visible"] for why in report["container"]["why"]}
    assert seen == {"debian13": True, "debian12": True}


def test_a_site_can_keep_the_drivers_libraries_out(pilot: Any, jobs: Jobs, grid: Grid, gpu_node: Host) -> None:
    run = pilot({"containers": {"gpu_libraries": False, "bind_opencl": False}}).start()
    look = "ls /.singularity.d/libs; echo $CUDA_VISIBLE_DEVICES; ls /etc/OpenCL/vendors"
    job = jobs.shell(look, pilot=run, extra="request_gpus = 1").wait_done()
    assert job.output().split() == ["GPU-5"], job.error()


def command(host: Host, configuration: Json, *words: str) -> Any:
    """A command of the payload with this configuration of the site, started in /tmp, where it also works."""
    path = host.path("/tmp/binds.json")
    path.write_text(json.dumps({"images": {"debian13": [DEBIAN13]}, **configuration}))
    path.chmod(0o644)
    name, *rest = words
    line = ["python3", f"{INSTALLED}/pilot.pyz", name, "--config", "/tmp/binds.json", *rest]
    done = host.run(line, user=PILOT.name, cwd="/tmp", env={"COLUMNS": "200"}, timeout_seconds=120)
    path.unlink()
    return done


def test_a_command_has_a_home_wherever_the_scratch_directory_is(grid: Grid, payload: Path) -> None:
    script = "cd || exit 3; pwd; echo $HOME; touch x $HOME/y || exit 4; pwd"
    for scratch in ("/tmp", "/var/tmp"):
        keys: Json = {"site": {"scratch": [scratch]}}
        done = command(grid.wn1, keys, "exec", "--", "/bin/sh", "-c", script)
        assert (done.returncode, done.stdout) == (0, "/srv\n/srv\n/srv\n"), done.stderr
        keys["containers"] = {"scratch": "/mnt/job"}
        done = command(grid.wn1, keys, "exec", "--", "/bin/sh", "-c", script + "; echo $TMPDIR")
        assert (done.returncode, done.stdout) == (0, "/mnt/job\n" * 4), done.stderr


def test_a_jobs_home_appears_where_the_configuration_says(pilot: Any, jobs: Jobs) -> None:
    run = pilot({"containers": {"scratch": "/mnt/job"}}).start()
    script = "pwd; echo $HOME $TMPDIR $_CONDOR_SCRATCH_DIR; cd && touch x /tmp/y && ls x; ls /srv"
    job = jobs.shell(script, pilot=run)
    assert job.wait_done().output().split() == ["/mnt/job"] * 4 + ["x"], job.error()


def test_the_page_for_people_says_what_jobs_get_and_what_not(grid: Grid, payload: Path, data: Path) -> None:
    containers = {"binds": [f"{DATA}/site:/site:ro", f"{DATA}/gone:/gone"], "options": ["--keep-privs"]}
    done = command(grid.wn1, {"containers": containers}, "images")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert f"given {DATA}/site at /site (read-only) configuration (site)" in lines, done.stdout
    assert f"not {DATA}/gone at /gone configuration (site): the node has no such file or directory" in lines
    assert any(line.startswith("not --keep-privs configuration (site): containers.allowed_options") for line in lines)
    done = command(grid.wn1, {"containers": containers}, "check")
    assert "(read-only)" in done.stdout
    answer = json.loads(command(grid.wn1, {"containers": containers}, "images", "--json").stdout)
    assert [one["given"] for one in answer["options"]] == [False]


def test_a_site_can_require_a_bind_and_forbid_any(grid: Grid, payload: Path) -> None:
    required = {"containers": {"binds": [{"source": "/opt/gone", "required": True}]}}
    done = command(grid.wn1, required, "check", "--json")
    assert done.returncode == 64, done.stdout
    failure = json.loads(done.stdout)["outcome"]["failure"]
    assert failure["code"] == "container.bind"
    assert "/opt/gone that configuration (site) requires" in failure["message"]
    done = command(grid.wn1, {"containers": {"binds": ["/etc:/x"], "allowed_binds": []}}, "exec", "--", "/bin/ls", "/x")
    assert done.returncode == 2, done.stdout
