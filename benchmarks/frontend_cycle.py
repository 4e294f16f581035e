"""One frontend, in a process of its own: decides over as many jobs, slots and entries as it is told.

`python -m benchmarks.frontend_cycle JOBS SLOTS ENTRIES ROUNDS` prints `{"rounds": [{"seconds": ...}], ...}`.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

from pilot_agent.model import Fact
from pilot_agent.requirement_text import parse
from server_stub.frontend.bindings import classad2
from server_stub.frontend.cycle import Memory, Settings, Snapshot, decide
from server_stub.frontend.jobs import JobReader, JobRecord, JobTableBuilder, job_lengths
from server_stub.frontend.matching import Vo, policy
from server_stub.frontend.offers import NodeSeen, Offer, Outcomes
from server_stub.frontend.pressure import Ceiling, EntryState, Limits, Totals
from server_stub.frontend.slots import read_slots

NOW = 1_800_000_000
ACCESS_POINTS = 10
DEMANDS = 5_000
"""Submissions whose jobs wait; each has sizes of its own."""
SITES = 120
POLICY = policy(
    "stringListMember(TARGET.AccountingGroup, MY.Groups) && (TARGET.RequestGPUs == 0 || MY.TotalGPUs > 0)",
    "MY.BENCHMARK_DB12 - 20 * MY.FailureRate",
    ["DESIRED_Sites"],
)
LIMITS = Limits(idle_slots=Ceiling(10**6, 10**6))
TOTALS = Totals(idle_slots=Ceiling(10**6, 10**6), new_per_cycle=10**6)
VO = Vo("example", "PREFERRED", (parse("cpu.usable >= 1"), parse("os.glibc >= 2.17")))


def entries(count: int, chance: random.Random) -> list[Offer]:
    """Entries of many sizes and sites; two nodes of each were seen."""
    return [
        Offer(
            f"entry-{number}",
            f"Site_{number % SITES}",
            cores=(cores := chance.choice((1, 4, 8, 8, 16, 32, 64))),
            memory_mib=cores * chance.choice((2000, 2500, 4000)),
            disk_mib=cores * 20000,
            gpus=chance.choice((0,) * 9 + (4,)),
            walltime_seconds=chance.choice((43200, 86400, 172800)),
            containers=chance.choice(("OPTIONAL", "PREFERRED", "REQUIRED", "NEVER")),
            attributes={"Groups": ",".join(chance.sample(("prod", "user", "test", "calib", "mc"), 3))},
            seen=tuple(_node(cores, chance) for _ in range(2)),
            outcomes=Outcomes(chance.randrange(1000), chance.randrange(100)),
            benchmarks={"db12": round(chance.uniform(8, 40), 2)},
        )
        for number in range(count)
    ]


def _node(cores: int, chance: random.Random) -> NodeSeen:
    glibc, arch = chance.choice(("2.12", "2.28", "2.34")), chance.choice(("x86_64", "x86_64", "aarch64"))
    facts = (Fact("cpu.usable", cores), Fact("os.glibc", glibc), Fact("os.arch", arch))
    return NodeSeen(NOW - 100, {fact.name: fact for fact in facts})


def demands(chance: random.Random) -> list[dict[str, Any]]:
    """What different submissions ask for; each has sizes of its own. What the policy reads is named as it names it."""
    wishes = [",".join(f"Site_{n}" for n in chance.sample(range(SITES), 20)) for _ in range(60)]
    return [
        {
            "RequestCpus": (cores := chance.choice((1, 1, 1, 2, 4, 8))),
            "RequestMemory": cores * chance.choice((1000, 2000, 3000)) + chance.randrange(200),
            "RequestDisk": chance.randrange(1, 20_000_000),
            "RequestGPUs": chance.choice((0,) * 19 + (1,)),
            "MaxWallTimeMins": chance.choice((60, 120, 480, 1400)) + chance.randrange(5),
            "accountinggroup": chance.choice(("prod", "user", "test", "calib", "mc")),
            "desired_sites": chance.choice(wishes),
            "REQUIRED_OS": chance.choice(("", "rhel9")),
            "Requirements": f'(TARGET.Arch == "{chance.choice(("X86_64", "X86_64", "AARCH64"))}") && '
            "stringListMember(TARGET.GLIDEIN_Site, MY.DESIRED_Sites) && "
            f"(TARGET.Disk >= RequestDisk) && (TARGET.Memory >= RequestMemory)",
        }
        for _ in range(DEMANDS)
    ]


def records(count: int, reader: JobReader, chance: random.Random) -> list[list[JobRecord]]:
    """The records that the queries of each access point return."""
    kinds = demands(chance)
    each = count // ACCESS_POINTS
    return [
        [reader.record({**chance.choice(kinds), "QDate": NOW - chance.randrange(100_000)}) for _ in range(each)]
        for _ in range(ACCESS_POINTS)
    ]


def slots(count: int, offers: list[Offer], chance: random.Random) -> Iterator[Any]:
    """HTCondor's own ads of the pool's slots, a tenth of them idle, with the attributes of the projection."""
    for number in range(count):
        offer = chance.choice(offers)
        idle = number % 10 == 0
        yield classad2().ClassAd(
            {
                "PilotId": f"pilot-{number // 8}",
                "GLIDEIN_Entry_Name": offer.name,
                "State": "Unclaimed" if idle else "Claimed",
                "SlotType": "Partitionable" if idle else "Dynamic",
                "Cpus": chance.randrange(offer.cores + 1),
                "Memory": chance.randrange(offer.memory_mib + 1),
                "Disk": chance.randrange(20_000_000),
                "GPUs": chance.randrange(offer.gpus + 1),
                "GLIDEIN_CPUS": offer.cores,
                "GLIDEIN_ToRetire": NOW + chance.randrange(offer.walltime_seconds),
                "Start": classad2().ExprTree('(time() < GLIDEIN_ToRetire) && (TARGET.AccountingGroup =!= "x")'),
            }
        )


def main(arguments: list[str]) -> None:
    """Prepare the answers, then time whole cycles over them; nothing is kept from one to the next."""
    jobs, machines, count, rounds = (int(argument) for argument in arguments)
    chance = random.Random(1)
    offers = entries(count, chance)
    reader = JobReader(POLICY.job_attributes, job_lengths())
    answers = records(jobs, reader, chance)
    ads = list(slots(machines, offers, chance))
    before_mib = _peak_mib()
    timed = [_cycle(answers, ads, offers) for _ in range(rounds)]
    told = {"rounds": timed, "answers_mib": before_mib, "peak_mib": _peak_mib(), "reading": _reading(reader, chance)}
    json.dump(told, sys.stdout)


def _cycle(answers: list[list[JobRecord]], ads: list[Any], offers: list[Offer]) -> dict[str, float]:
    cpu_began, began = time.process_time(), time.perf_counter()
    builder = JobTableBuilder()
    for number, answer in enumerate(answers):
        builder.add(f"ap{number}", answer)
    table = builder.table()
    jobs_read = time.perf_counter()
    pool = read_slots(ads)
    slots_read = time.perf_counter()
    states = {offer.name: EntryState(queued=3) for offer in offers}
    snapshot = Snapshot(NOW, table, pool, offers, states, job_seconds=7200.0)
    decision = decide(snapshot, Settings(POLICY, VO, LIMITS, totals=TOTALS), Memory())
    ended = time.perf_counter()
    asked = sum(request.queued for request in decision.requests)
    if not asked or not sum(decision.taken):
        raise RuntimeError("jobs, slots and entries do not match: a cycle without work would be measured")
    return {
        "seconds": ended - began,
        "CPU seconds": time.process_time() - cpu_began,
        "jobs to columns": jobs_read - began,
        "slot ads to columns": slots_read - jobs_read,
        "decision": ended - slots_read,
        "groups": len(decision.groups),
        "pilots asked for": asked,
        "jobs that the slots take": sum(decision.taken),
        "matching pairs of group and entry": int(decision.matches.allowed.sum()) if decision.matches else 0,
    }


def _reading(reader: JobReader, chance: random.Random) -> float:
    """Seconds for a million job ads of HTCondor to become records, from what 5,000 take."""
    ads = [classad2().ClassAd({**kind, "QDate": NOW}) for kind in demands(chance)]
    began = time.perf_counter()
    for ad in ads:
        reader.record(ad)
    return (time.perf_counter() - began) / len(ads) * 1_000_000


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(sys.argv[1:])
