"""Plugins that misbehave cost what they were to give, and nothing else."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.integration.conftest import StartPilot
from tests.integration.plugins import PREAMBLE
from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.user_jobs import Jobs, slot_ads

BAD_TASKS = {
    "raises": ("raise RuntimeError('no such luck')", "no such luck"),
    "hangs": ("time.sleep(600)", "1.0 s"),
    "exits": ("os._exit(3)", "3"),
    "exits quietly": ("os._exit(0)", ""),
    "kills itself": ("os.kill(os.getpid(), 9)", "9"),
    "ignores its deadline": ("import signal; signal.signal(15, signal.SIG_IGN); time.sleep(600)", "did not end within"),
    "prints megabytes": ("print('x' * 2**24); sys.stderr.write('y' * 2**24); raise ValueError('at last')", "exited 1"),
    "yields megabytes": ("yield Fact('bad.fact', 'x' * 2**28)", ""),
    "yields something else": ("yield 'a string'", ""),
    "yields what is no JSON": ("yield Fact('bad.fact', object())", ""),
    "eats memory": ("x = bytearray(2**50)", "MemoryError"),
    "closes everything": ("os.closerange(0, 100)", ""),
    "forks forever": ("import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)", ""),
}


def _bad_probes() -> str:
    functions, yields = [], []
    for number, (source, _) in enumerate(BAD_TASKS.values()):
        functions.append(f"def work_{number}(context):\n    {source}\n    yield from ()\n\n")
        # Only what never ends by itself is cut, however slow the machine is.
        seconds = 1 if "time.sleep(600)" in source else 60
        yields.append(
            f'    yield Probe(name="bad{number}", run=f"{{__name__}}:work_{number}", gives=("bad.fact{number}",),'
            f" timeout_seconds={seconds})\n"
        )
    return PREAMBLE + "".join(functions) + "@hookimpl\ndef pilot_probes():\n" + "".join(yields)


def stopped(run: PilotRun) -> None:
    """End a pilot that is well."""
    run.signal(signal.SIGTERM)
    assert run.wait() == 143, run.story()
    run.nothing_left()


def test_probes_that_misbehave_in_every_way_leave_facts_unknown_and_the_pilot_well(
    pilot: StartPilot, jobs: Jobs
) -> None:
    run = pilot(plugins={"bad": _bad_probes()}).start()
    jobs.shell("true", pilot=run).wait_done()
    stopped(run)
    facts = run.report()["node"]["bad"]
    lines = {line["what"]: line for line in run.report()["timeline"] if line["plugin"] == "bad"}
    for number, (name, (_, reason)) in enumerate(BAD_TASKS.items()):
        fact = facts[f"fact{number}"]
        assert fact["status"] == "unknown", name
        assert fact["detail"], name
        assert reason in fact["detail"], f"{name}: {fact['detail']}"
        assert lines[f"bad{number}"]["start"] >= 0
    assert lines["bad1"]["status"] == "timeout"
    assert (run.outer / "events.jsonl").stat().st_size < 2**20


BAD_IMPORTS = {
    "raises": ("raise RuntimeError('not today')", "not today"),
    "hangs": ("import time; time.sleep(600)", "2.0 s"),
    "exits": ("import os; os._exit(3)", "3"),
    "exits quietly": ("import os; os._exit(0)", "os._exit"),
    "is no Python": ("def broken(:", "SyntaxError"),
    "needs what is not there": ("import no_such_module_here", "no_such_module_here"),
    "prints megabytes and raises": ("print('x' * 2**24); raise RuntimeError('so much')", "so much"),
    "names an unknown hook": (
        PREAMBLE + "@hookimpl\ndef pilot_probez():\n    return []\n",
        "pilot_probez",
    ),
    "declares something else": (PREAMBLE + "@hookimpl\ndef pilot_probes():\n    yield 42\n", "bad"),
    "raises in its hook": (PREAMBLE + "@hookimpl\ndef pilot_probes():\n    raise KeyError('gone')\n", "gone"),
    "names no function": (
        PREAMBLE + "@hookimpl\ndef pilot_probes():\n    yield Probe(name='x', run='here')\n",
        "here",
    ),
}


@pytest.mark.parametrize("name", BAD_IMPORTS)
def test_a_plugin_that_does_not_load_ends_the_pilot(pilot: StartPilot, name: str) -> None:
    source, reason = BAD_IMPORTS[name]
    run = pilot({"plugins": {"timeout_seconds": 2}}, plugins={"bad": source})
    assert run.run() == 68, run.story()
    failure = run.failure()
    assert (failure["kind"], failure["code"], failure["plugin"]) == ("corruption", "plugin.load", "bad")
    assert reason in failure["message"], failure["message"]
    assert len(failure["message"]) < 5000
    run.nothing_left()


def test_a_plugin_that_is_not_there_ends_the_pilot(pilot: StartPilot) -> None:
    run = pilot({"plugins": {"load": ["no_such_plugin"]}})
    assert run.run() == 68, run.story()
    assert "no_such_plugin" in run.failure()["message"]
    run.nothing_left()


def test_a_plugin_that_prints_megabytes_while_it_loads_is_well(pilot: StartPilot) -> None:
    run = pilot(plugins={"loud": PREAMBLE + "print('x' * 2**24)\nsys.stderr.write('y' * 2**24)\n"}).start()
    run.joined()
    stopped(run)


FAILING = {
    "setup": (
        """
def work(context):
    raise RuntimeError("not set up")

@hookimpl
def pilot_setups():
    yield Setup(name="bad", run=f"{__name__}:work", required={required})
""",
        69,
        "plugin.crashed",
    ),
    "check": (
        """
def work(context):
    return CheckResult("bad", CheckStatus.FAIL, "17 found, 18 needed", "buy one more", code="bad.count")

@hookimpl
def pilot_checks():
    yield Check(name="bad", run=f"{__name__}:work", required={required})
""",
        64,
        "bad.count",
    ),
    "service": (
        """
@hookimpl
def pilot_services():
    yield Service(
        name="bad", command=("/bin/sh", "-c", "setsid sleep 600 & exit 9"), required={required},
        readiness=Readiness(file="never", timeout_seconds=2),
    )
""",
        69,
        "service.failed",
    ),
}


@pytest.mark.parametrize("what", FAILING)
def test_a_task_that_is_required_and_fails_ends_the_pilot(pilot: StartPilot, what: str) -> None:
    source, exit_code, code = FAILING[what]
    run = pilot(plugins={"bad": PREAMBLE + source.replace("{required}", "True")})
    assert run.run() == exit_code, run.story()
    assert run.failure()["code"] == code
    run.nothing_left()


@pytest.mark.parametrize("what", FAILING)
def test_a_task_that_is_not_required_and_fails_is_reported_only(pilot: StartPilot, what: str) -> None:
    run = pilot(plugins={"bad": PREAMBLE + FAILING[what][0].replace("{required}", "False")}).start()
    run.joined()
    stopped(run)


GOOD = '''
def cores(context):
    yield Fact("good.fact", 7, "things")

def early(context):
    return SetupResult(environment={"GOOD_SETUP": "early"}, attributes={"GoodSetup": True})

def check(context):
    return CheckResult("good", CheckStatus.PASS, str(context.value("good.fact")))

def load(context):
    return {"GoodPeriodic": 1.5}

@hookimpl
def pilot_probes():
    yield Probe(name="good", run=f"{__name__}:cores", gives=("good.fact",))

@hookimpl
def pilot_setups():
    yield Setup(name="good", run=f"{__name__}:early", stage="early")

@hookimpl
def pilot_checks():
    yield Check(name="good", run=f"{__name__}:check")

@hookimpl
def pilot_attributes():
    yield Attribute(name="GoodFact", fact="good.fact")

@hookimpl
def pilot_services():
    yield Service(
        name="good", command=("/bin/sh", "-c", "touch ready; exec sleep 600"), readiness=Readiness(file="ready"),
        attributes={"HasGood": "yes"},
    )

@hookimpl
def pilot_periodics():
    yield Periodic(name="good", run=f"{__name__}:load", period_seconds=5)
    yield Periodic(name="bad", command=("/bin/false",), period_seconds=5)

def score(context):
    return BenchmarkScore("beside", 4.0, "things", 0.0)

@hookimpl
def pilot_benchmarks():
    said = """echo '{"score": 3, "unit": "things"}'"""
    yield Benchmark(name="first", command=("/bin/sh", "-c", said), cache_days=0)
    yield Benchmark(name="beside", run=f"{__name__}:score", when="beside", cache_days=0, timeout_seconds=60)

@hookimpl
def pilot_startd():
    yield StartdFragment(name="good", text='STARTD_ATTRS = $(STARTD_ATTRS) GoodFragment\\nGoodFragment = 5')
'''


@pytest.mark.parametrize("host", ["wn1", "wn2"])
def test_what_a_plugin_gives_reaches_the_ad_the_jobs_and_the_report(
    pilot: StartPilot, jobs: Jobs, grid: Grid, host: str
) -> None:
    run = pilot(plugins={"good": PREAMBLE + GOOD}, host=host).start()
    job = jobs.shell("echo $GOOD_SETUP", pilot=run).wait_done()
    assert job.output().split() == ["early"]
    wanted = {"GoodFact": 7, "GoodSetup": True, "HasGood": "yes", "Good_Ready": True, "GoodPeriodic": 1.5,
              "BENCHMARK_FIRST": 3, "BENCHMARK_FIRST_UNIT": "things", "BENCHMARK_BESIDE": 4.0,
              "GoodFragment": 5, "GLIDEIN_PS_OK": False, "GLIDEIN_PS_FAILING_LIST": "bad",
              "GLIDEIN_PS_FAILED_LIST": "bad", "GLIDEIN_PS_FAILED_LAST": "bad"}  # fmt: skip

    def ad() -> dict[str, Any]:
        return {name: value for found in slot_ads(grid, run)[:1] for name, value in found.items() if name in wanted}

    run.wait_until(f"ad with {wanted}", lambda: ad() == wanted, 40)
    stopped(run)
    report = run.report()
    assert report["node"]["good"]["fact"]["value"] == 7
    assert {"name": "good", "status": "pass", "message": "7"}.items() <= next(
        check for check in report["checks"] if check["name"] == "good"
    ).items()
    assert [service["name"] for service in report["services"]] == ["good"]
    scores = {score["name"]: (score["score"], score["status"]) for score in report["benchmarks"]}
    assert (scores["first"], scores["beside"]) == ((3, "ok"), (4.0, "ok"))


def test_a_fragment_that_sets_a_security_knob_is_refused(pilot: StartPilot) -> None:
    source = """
@hookimpl
def pilot_startd():
    yield StartdFragment(name="bad", text="SEC_DEFAULT_ENCRYPTION = NEVER")
"""
    run = pilot(plugins={"bad": PREAMBLE + source})
    assert run.run() == 66, run.story()
    assert "SEC_DEFAULT_ENCRYPTION" in run.failure()["message"]
    run.nothing_left()
