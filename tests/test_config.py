"""Layers become one validated document, and whatever is wrong with them is said at once and with its place."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.codec import to_json
from pilot_agent.config import Config, Layer, load_config
from pilot_agent.config_check import validate
from pilot_agent.config_images import DEFAULT, LINE, flattened, line_problems, parse_line, weights
from pilot_agent.config_keys import KEYS, LAYERS
from pilot_agent.config_kinds import IMAGE_FIELDS, SERVICE_FIELDS, Key, Kind
from pilot_agent.config_programs import CHECK_KINDS, PROGRAM_FIELDS, PROGRAM_NEEDS
from pilot_agent.config_read import command_line_layer, environment_layer, parse_document, read_layer
from pilot_agent.config_schema import json_schema
from pilot_agent.dispatch import reference_page
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.requirement_text import LEVELS

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "configuration.md"
PAGE_HEADER = "# Configuration keys"
GOOD_COLLECTORS = (
    "cm",
    "cm.example.org:9618",
    "192.0.2.7:9618",
    "[2001:db8::1]:9618",
    "[::1]",
    "cm1.example.org:9620-9639,cm2.example.org:9620-9639",
    "cm:9618?sock=collector1-20",
    "a:1,b:1;c:65535 ; d ;",
    "cm.example.org.:9618?alias=cm&noUDP&sock=collector",
)


def refused(*layers: Layer) -> Failure:
    """The failure that these layers end in."""
    with pytest.raises(PilotError) as caught:
        load_config(layers)
    assert caught.value.failure.kind is FailureKind.CONFIG
    assert caught.value.failure.exit_code == 66
    return caught.value.failure


def problems(document: Mapping[str, Json]) -> list[str]:
    """What is wrong with a document, as text."""
    return [str(problem) for problem in validate(document, "vo")]


# ---- any document ------------------------------------------------------------------------------------------------

words = st.text(st.characters(codec="utf-8"), max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=10,
)
anything = st.recursive(
    plain | st.dates() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.integers() | st.none(), inner, max_size=3),
    max_leaves=10,
)
section_names = st.sampled_from(sorted({key.path.split(".")[0] for key in KEYS}))
key_names = st.sampled_from(sorted({key.path.split(".")[-1] for key in KEYS}))
almost = st.dictionaries(
    section_names | words | st.integers(), st.dictionaries(key_names | words | st.integers(), anything) | anything
)
layer_names = st.sampled_from(LAYERS[1:])


@given(st.lists(st.builds(Layer, name=layer_names, document=almost), max_size=3))
def test_a_document_of_any_content_is_taken_or_refused_with_its_problems(layers: list[Layer]) -> None:
    assert code_of(lambda: load_config(layers)) in {None, "config.invalid"}


def code_of(load: Callable[[], Config]) -> str | None:
    """The code of the failure that loading ends in; None for a configuration that JSON can carry."""
    try:
        json.dumps(to_json(load()), allow_nan=False)
    except PilotError as error:
        return error.failure.code
    return None


finite = st.floats(min_value=1, max_value=1e9, allow_nan=False).filter(lambda number: not number.is_integer())


def value_of(key: Key) -> st.SearchStrategy[Any]:
    """Valid values of one key."""
    if key.choices:
        word = st.sampled_from(key.choices).flatmap(lambda word: st.sampled_from([word, word.upper(), word.title()]))
        if key.kind is Kind.STRING_MAPPING:
            return st.dictionaries(words, word, max_size=3)
        return st.lists(word, max_size=3) if key.kind is Kind.STRINGS else word
    if key.maximum is not None:
        return st.floats(key.minimum, key.maximum).filter(lambda number: not number.is_integer())
    return of_kind(key.kind)


def of_kind(kind: Kind) -> st.SearchStrategy[Any]:
    """Valid values of one type."""
    names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
    tree = st.recursive(
        st.none() | st.booleans() | st.integers() | finite | words,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
        max_leaves=6,
    )
    texts = st.sampled_from(["cpu.usable >= 4", "os.id in [debian, rocky]", "not fuse.usable"])
    levels = {"level": st.sampled_from(LEVELS)}
    inside = st.fixed_dictionaries(
        {"require": texts, "where": st.just("image")}, optional={**levels, "platform": words}
    )
    requirement = st.fixed_dictionaries({"require": texts}, optional={**levels, "where": st.just("host")}) | inside
    images = dictionaries(names) if kind is Kind.IMAGES else st.nothing()
    places = {"destination": st.just("/b")}
    bind = st.fixed_dictionaries(
        {"source": st.just("/a")}, optional={**places, "read_only": st.booleans(), "required": st.booleans()}
    )
    services = service() if kind is Kind.SERVICES else st.nothing()
    return {
        Kind.STRING: words,
        Kind.INTEGER: st.integers(1, 10**9),
        Kind.NUMBER: st.integers(1, 10**9) | finite,
        Kind.BOOLEAN: st.booleans(),
        Kind.STRINGS: st.lists(words, max_size=3),
        Kind.MAPPING: st.dictionaries(words, tree, max_size=3),
        Kind.STRING_MAPPING: st.dictionaries(words, words, max_size=3),
        Kind.REQUIREMENTS: st.lists(texts | requirement, max_size=3),
        Kind.IMAGES: images,
        Kind.PLATFORM: platforms | weighted,
        Kind.PREFIXES: st.lists(st.sampled_from(["/", "/images/a b", "docker://example.org/", "https://a:1/"])),
        Kind.SCRATCH: st.sampled_from(["/srv", "/pilot/job-1", "/tmpx"]),
        Kind.COLLECTORS: st.lists(st.sampled_from(GOOD_COLLECTORS), max_size=3),
        Kind.DOMAIN: st.sampled_from(["", "pilot.local", "a-b.example.org", "d"]),
        Kind.REPOSITORIES: st.lists(st.sampled_from(["sft.cern.ch", "cms-ib.cern.ch", "a_b.org"]), max_size=3),
        Kind.PLAIN_DIRECTORY: st.sampled_from(["/", "/var/cache/pilots", "/a+b/c@d_e-1.x"]),
        Kind.CVMFS_PROXIES: st.lists(st.sampled_from(GOOD_PROXIES), max_size=3),
        Kind.CVMFS_PARAMETERS: cvmfs_parameters,
        Kind.CVMFS_REPOSITORY_PARAMETERS: st.dictionaries(st.just("a.example.org"), cvmfs_parameters, max_size=1),
        Kind.CONDOR_VERSION: st.sampled_from(["any", "latest", "23", "23.9.6"]),
        Kind.CONDOR_PLACES: st.lists(st.sampled_from(["/cvmfs/a.org/condor", "/cvmfs/b.org/el9/23.9.6"]), max_size=2),
        Kind.TARBALLS: st.sampled_from(["/srv/condor", "https://a:1/index.json", "http://a/b/index.json"]),
        Kind.SHA256: st.sampled_from(["0" * 64, "9f" * 32]),
        Kind.DIRECTORIES: st.lists(st.sampled_from(["/", "/data", "/a/b+c"]), max_size=2),
        Kind.BINDS: st.lists(st.sampled_from(["/a", "/a:/b", "/a::ro", "/a:/b:rw"]) | bind, max_size=2),
        Kind.OPTIONS: st.lists(st.sampled_from(["--nv", "--network=none"]), max_size=2),
        Kind.VARIABLES: st.lists(st.sampled_from(["http_proxy", "OSG_*", "*"]), max_size=2),
        Kind.PORTS: ports_of_people,
        Kind.PORT: st.integers(1, 65535),
        Kind.DEVICES: st.integers(0, 8) | st.just("all"),
        Kind.SERVICES: st.dictionaries(services_of_people, services, max_size=2),
        Kind.WEIGHTED: st.booleans() | words,
        Kind.EXPRESSION: st.sampled_from(["True", 'TARGET.Owner == "x"', "{1, 2}[0] > 0"]),
        Kind.RESOURCE_SLOTS: st.sampled_from(["GPUs", "ioslot,2,disk=10%;GPUs,type=main", ""]),
        Kind.PROBES: programs(Kind.PROBES) if kind is Kind.PROBES else st.nothing(),
        Kind.SETUPS: programs(Kind.SETUPS) if kind is Kind.SETUPS else st.nothing(),
        Kind.CHECKS: programs(Kind.CHECKS) if kind is Kind.CHECKS else st.nothing(),
        Kind.PERIODICS: programs(Kind.PERIODICS) if kind is Kind.PERIODICS else st.nothing(),
        Kind.BENCHMARKS: programs(Kind.BENCHMARKS) if kind is Kind.BENCHMARKS else st.nothing(),
    }[kind]


GOOD_PROXIES = ["auto", "http://squid:3128", "http://a.example.org:80|http://u:p@[2001:db8::1]:3128/"]
cvmfs_parameters = st.dictionaries(
    st.sampled_from(["CVMFS_TIMEOUT", "CVMFS_SERVER_URL", "CVMFS_X_1"]),
    st.sampled_from(["", "5", "http://a/cvmfs/@fqrn@;http://b/@fqrn@", "//var/x", "/etc/cvmfs/keys/a.pub", "a b"]),
    max_size=2,
)
platforms = st.sampled_from(["el9", "debian-13", "75% el9, 25% el8", "0.5 %a,0.5%b"])
weighted = st.dictionaries(st.sampled_from(["el9", "el8"]), st.integers(1, 99) | finite, min_size=1)
architectures = st.sampled_from(["x86_64", "AMD64", "arm64", "aarch64"])
versions = st.integers(0, 99) | st.sampled_from(["12.4", "5.14.0-362.el9.x86_64"])


def dictionaries(names: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Valid image dictionaries in all their forms."""
    needs = st.fixed_dictionaries(
        {},
        optional={
            "cpu_level": st.sampled_from(["x86_64", "x86-64-v3"]),
            "gpu": st.booleans() | st.integers(0, 8),
            "cuda": versions,
            "kernel": versions,
        },
    )
    some = {"requires": needs, "digest": st.sampled_from([f"sha256:{'0a' * 32}"])}
    candidate = record(IMAGE_FIELDS, "path", arch=architectures, **some)
    of_one = record({name: kind for name, kind in IMAGE_FIELDS.items() if name != "arch"}, "path", **some)
    under = st.dictionaries(architectures | st.just("any"), st.lists(words | of_one, max_size=2), max_size=2)
    line = st.sampled_from(["", " ,", "el9:/a", " el9 : docker://a:1 ,, el8:/b c,el9:/d,"])
    return line | st.dictionaries(names, st.lists(words | candidate, max_size=2) | under, max_size=2)


services_of_people = st.sampled_from(["triton", "s3.cache", "x_1-b"])
ways_to_be_ready = ("port", "ready_http", "ready_log", "ready_file", "ready_command")
ways_to_live = ("live_port", "live_http", "live_command")
ports_of_people = st.dictionaries(st.sampled_from(["http", "grpc-2"]), st.just(0), max_size=2)


def service() -> st.SearchStrategy[dict[str, Any]]:
    """Valid records of a service."""
    port, http = st.integers(1, 65535), st.sampled_from(["80/", "8000/v2/health"])
    seconds = st.integers(1, 10**9) | st.floats(0.1, 1e9)
    some: dict[str, st.SearchStrategy[Any]] = {name: seconds for name in SERVICE_FIELDS if name.endswith("_seconds")}
    some |= dict.fromkeys(("ready_http", "live_http", "metrics_http"), http)
    return record(
        SERVICE_FIELDS,
        "command",
        command=st.lists(words, min_size=1, max_size=3),
        script=st.just("/a/b"),
        port=port,
        live_port=port,
        ports=ports_of_people,
        files=st.dictionaries(
            st.sampled_from(["models", "b-2"]), st.sampled_from(["files/m.zip", "files/atlas/m-3.1.zip"]), max_size=2
        ),
        metrics_names=st.lists(st.sampled_from(["up", "nv_inference:sum"]), min_size=1, max_size=2),
        binds=st.lists(st.sampled_from(["/a", "/a:/b:ro"]), max_size=2),
        exports=st.dictionaries(st.sampled_from(["A", "b_1"]), words, max_size=2),
        restart=st.sampled_from(["on_failure", "always", "never"]),
        per=st.sampled_from(["pilot", "node"]),
        cvmfs_proxy=st.just("http"),
        gpus=st.integers(0, 8) | st.just("all"),
        cores=st.integers(0, 64) | st.floats(0, 64),
        stop_signal=st.sampled_from(["SIGTERM", "int", "Usr1"]),
        where=st.sampled_from(["host", "image"]),
        **some,
    ).map(with_one_way)


def with_one_way(entry: dict[str, Any]) -> dict[str, Any]:
    """The record without what cannot stand together."""
    for ways in (ways_to_be_ready, ways_to_live):
        for way in [way for way in ways if entry.get(way)][1:]:
            del entry[way]
    if not {"metrics_http", "metrics_names"} <= set(entry):
        for name in ("metrics_http", "metrics_names"):
            entry.pop(name, None)
    if entry.get("where") != "image":
        for name in ("platform", "binds"):
            entry.pop(name, None)
    if entry.get("cvmfs_proxy") not in entry.get("ports", ()):
        entry.pop("cvmfs_proxy", None)
    return entry


def programs(kind: Kind) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Valid lists of setups, checks, periodic tests or benchmarks."""
    lists, seconds = st.lists(words, min_size=1, max_size=3), st.integers(1, 10**9) | st.floats(1, 1e9)
    narrower = {
        "name": services_of_people,
        "command": lists,
        "teardown": lists,
        "script": st.sampled_from(["/a/b", "#!/bin/sh\necho x\n"]),
        "where": st.sampled_from(["host", "image"]),
        "stage": st.sampled_from(["early", "late"]),
        "kind": st.sampled_from(CHECK_KINDS),
        "on_failure": st.sampled_from(["report", "stop_accepting", "drain"]),
        "cores": st.sampled_from(["one", "all", "slot"]),
        "when": st.sampled_from(["before", "beside", "periodic"]),
        "protocol": st.sampled_from(["pilot", "json", "nagios"]),
        **dict.fromkeys(("timeout_seconds", "teardown_seconds", "period_seconds"), seconds),
    }
    fields = {name: of_kind(field) for name, field in PROGRAM_FIELDS[kind].items()}
    fields |= {name: values for name, values in narrower.items() if name in fields}
    needed = {name: fields.pop(name) for name in PROGRAM_NEEDS[kind]}
    entry = st.fixed_dictionaries(needed, optional=fields).filter(
        lambda entry: (
            ("command" in entry or "script" in entry)
            and ("platform" not in entry or entry.get("where") == "image")
            and not (entry.get("stage") == "early" and entry.get("where") == "image")
        )
    )
    return st.lists(entry, max_size=2)


def record(
    fields: dict[str, Kind], needed: str, **narrower: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    """Valid records with these fields."""
    given_fields = {name: of_kind(kind) for name, kind in fields.items()} | narrower
    return st.fixed_dictionaries({needed: given_fields.pop(needed)}, optional=given_fields)


def nested(flat: Mapping[str, Json]) -> dict[str, Json]:
    """``{"site.name": x}`` as ``{"site": {"name": x}}``."""
    document: dict[str, Json] = {}
    for path, value in flat.items():
        section, _, name = path.partition(".")
        if name:
            document.setdefault(section, {})[name] = value
        else:
            document[section] = value
    return document


def as_kept(path: str, value: Json) -> Json:
    """A value as the configuration keeps what one layer gave."""
    if path == "images":
        return flattened(value)
    key = next(key for key in KEYS if key.path == path)
    return [{"layer": "entry", "value": value}] if key.combine == "all" else value


# What two layers say of it may not fit together, though each is valid: it has tests of its own.
valid_documents = st.fixed_dictionaries(
    {}, optional={key.path: value_of(key) for key in KEYS if key.path != "time.vacate_seconds"}
)


@given(valid_documents)
def test_a_valid_document_comes_back_value_by_value_in_either_syntax(flat: dict[str, Json]) -> None:
    document = nested(flat)
    texts = [json.dumps(document), yaml.safe_dump(document, sort_keys=False)]
    for text in texts:
        config = load_config([Layer("entry", parse_document(text.encode(), "test"))])
        assert {path: config.get(path) for path in flat} == {path: as_kept(path, flat[path]) for path in flat}
        assert all(config.origins[path] == ("entry",) for path in flat)
        untouched = [key for key in KEYS if key.path not in flat]
        assert all(config.get(key.path) == key.default for key in untouched)
        assert all(config.origins[key.path] == ("defaults",) for key in untouched)


@given(valid_documents)
def test_the_schema_takes_every_document_that_is_valid(flat: dict[str, Json]) -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(nested(flat))


def test_what_only_some_layers_may_say_is_refused_from_the_others() -> None:
    own = {"config": ["config/base.yaml"], "proxies": ["direct"]}
    document = {"artifacts": {"bundle": "./trust.json", "mirrors": ["http://mirror.example.org"], **own}}
    for layer in ("factory", "entry", "site", "command line"):
        assert load_config([Layer(layer, document)]).get("artifacts.bundle") == "./trust.json"
    for layer in ("vo", "environment"):
        with pytest.raises(PilotError) as caught:
            load_config([Layer(layer, document)])
        message = caught.value.failure.message
        assert f"artifacts.bundle ({layer}): only factory, entry, site, command line may say it" in message
        for key in ("mirrors", "bundle", "config", "proxies"):
            assert f"artifacts.{key} ({layer})" in message


odd_services = st.dictionaries(
    services_of_people | words,
    st.none()
    | st.dictionaries(words, plain, max_size=2)
    | st.fixed_dictionaries(
        {"command": st.lists(words, max_size=1)},
        optional={
            "port": st.sampled_from([-1, 0, 1, 65535, 65536]),
            "ready_file": words,
            "ready_command": st.lists(words, max_size=1),
            "ready_http": st.sampled_from(["80/x", "http", "/x", "80/a b", "65535/"]),
            "live_port": st.sampled_from([0, 1]),
            "live_command": st.lists(words, max_size=1),
            "live_failures": st.sampled_from([0, 1]),
            "metrics_http": st.just("80/metrics"),
            "metrics_names": st.lists(st.sampled_from(["up", "a b", ""]), max_size=2),
            "ports": st.dictionaries(st.sampled_from(["http", "1", ""]), st.sampled_from([-1, 0, 65536]), max_size=2),
            "exports": st.dictionaries(st.sampled_from(["A", "1", ""]), st.just(""), max_size=1),
            "binds": st.lists(st.sampled_from(["/a", "a", "{files:m}/x"]), max_size=1),
            "files": st.dictionaries(
                st.sampled_from(["m", "1"]), st.sampled_from(["files/m.zip", "files/a/b/m.zip"]), max_size=1
            ),
            "gpus": st.sampled_from([-1, 0, "all", "All"]),
            "cores": st.sampled_from([-0.5, 0]),
            "backoff_seconds": st.sampled_from([0, 0.1]),
            "restart": st.sampled_from(["always", "Always"]),
            "per": st.sampled_from(["node", ""]),
            "where": st.sampled_from(["host", "image", "Image"]),
            "platform": words,
            "stop_signal": st.sampled_from(["", "SIG", "SIGTERM", "sigint", "hup", "TERMINATE", "SIGTERM "]) | words,
        },
    ),
    max_size=2,
)
odd_programs = st.lists(
    st.fixed_dictionaries(
        {"name": services_of_people | words},
        optional={
            "command": st.lists(words, max_size=1),
            "script": words,
            "teardown": st.lists(words, max_size=1),
            "where": st.sampled_from(["host", "image", "node"]),
            "platform": words,
            "stage": st.sampled_from(["early", "late", "Late"]),
            "kind": st.sampled_from(["network", "usage", ""]),
            "on_failure": st.sampled_from(["drain", "stop"]),
            "timeout_seconds": st.sampled_from([-1, 0, 0.5, 1]),
            "period_seconds": st.sampled_from([0, 0.5, 1, 60]),
        },
    ),
    max_size=2,
)
json_documents = (
    st.dictionaries(section_names | words, st.dictionaries(key_names | words, plain, max_size=3) | plain)
    | st.fixed_dictionaries({"services": odd_services})
    | st.fixed_dictionaries(
        {"vo": st.dictionaries(st.sampled_from(["setups", "checks", "periodics"]), odd_programs, max_size=1)}
    )
)


GRAMMARS = ("start", "rank", "preempt", "resource_slots")
"""Keys of startd whose texts only validation reads: no pattern counts parentheses."""


@given(json_documents)
def test_schema_and_validation_agree_on_any_document(document: dict[str, Json]) -> None:
    if has_odd_number(document):  # the schema takes 4.0 for an integer, and JSON knows no infinity
        return
    startd = document.get("startd")
    if isinstance(startd, dict) and any(isinstance(startd.get(name), str) for name in GRAMMARS):
        return
    by_schema = jsonschema.Draft202012Validator(json_schema()).is_valid(document)
    assert by_schema == (not problems(document))


def has_odd_number(value: Json) -> bool:
    """Whether there is a whole or an infinite floating-point number somewhere."""
    if isinstance(value, dict):
        return any(has_odd_number(inner) for inner in value.values())
    if isinstance(value, list):
        return any(has_odd_number(inner) for inner in value)
    return isinstance(value, float) and (value.is_integer() or value - value != 0)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_a_file_of_any_content_is_parsed_or_refused_with_its_name(text: str) -> None:
    content = text.encode("utf-8", "surrogatepass")
    assert code_of(lambda: load_config([Layer("vo", parse_document(content, "vo.yaml"))])) in {
        None,
        "config.syntax",
        "config.invalid",
    }


# ---- problems ----------------------------------------------------------------------------------------------------


def test_every_problem_of_every_layer_is_reported_together() -> None:
    failure = refused(
        Layer("factory", {"pool": {"colectors": ["cm.example.org"]}, "startd": {"idle_shutdown_seconds": 0}}),
        Layer("vo", {"vo": {"containers": "requird"}, "sight": {}}),
        Layer("command line", {"site": {"cpus": "four"}}),
    )
    assert failure.code == "config.invalid"
    assert failure.message == (
        "the configuration has 5 problems: "
        "pool.colectors (factory): unknown key; did you mean pool.collectors?; "
        "startd.idle_shutdown_seconds (factory): 0 is less than 1; "
        "vo.containers (vo): 'requird' is none of disable_gwms, never, optional, preferred, required, required_gwms; "
        "did you mean required?; "
        "sight (vo): unknown key; did you mean site?; "
        "site.cpus (command line): 'four' is none of slot, auto, node, and no integer"
    )
    assert "config reference" in failure.hint


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"requirments": []}, "requirments (vo): unknown key; did you mean requirements?"),
        ({"zzz": 1}, "zzz (vo): unknown key"),
        (
            {"services": {"s": {"command": ["x"], "ready_port": 1}}},
            "services.s.ready_port (vo): unknown key; did you mean port?",
        ),
        ({"site": []}, "site (vo): expected a mapping, found a list"),
        ({"site": {"cpus": True}}, "site.cpus (vo): expected an integer or string, found a boolean"),
        ({"site": {"cpus": 1.5}}, "site.cpus (vo): expected an integer or string, found a number"),
        (
            {"site": {"cpus": "nodes"}},
            "site.cpus (vo): 'nodes' is none of slot, auto, node, and no integer; did you mean node?",
        ),
        (
            {"site": {"cpus": 0}},
            "site.cpus (vo): 0 is less than 1; give a number of cores, or one of slot, auto, node",
        ),
        ({"site": {"memory_mib": 1.5}}, "site.memory_mib (vo): expected an integer, found a number"),
        ({"site": {"scratch": "/tmp"}}, "site.scratch (vo): expected a list, found a string"),
        ({"site": {"scratch": ["/tmp", 3]}}, "site.scratch[1] (vo): expected a string, found an integer"),
        ({"pool": {"ccb": "yes"}}, "pool.ccb (vo): expected a boolean, found a string"),
        ({"time": {"vacate_seconds": float("nan")}}, "time.vacate_seconds (vo): expected a number, found nan"),
        ({"startd": {"black_hole_share": 90}}, "startd.black_hole_share (vo): 90 is more than 1"),
        ({"time": {"vacate_seconds": -1}}, "time.vacate_seconds (vo): -1 is less than 0"),
        (
            {"time": {"job_length": {"MaxWallTimeMins": "minute"}}},
            "time.job_length.MaxWallTimeMins (vo): 'minute' is none of seconds, minutes, hours; did you mean minutes?",
        ),
        ({"requirements": [{"level": "preferred"}]}, "requirements[0].require (vo): missing"),
        ({"images": {"el9": "/x"}}, "images.el9 (vo): expected a list or a mapping of architectures, found a string"),
        ({"images": ["/x"]}, "images (vo): expected a mapping or one line of platform:path, found a list"),
        ({"images": "el9:/a,el8"}, "images (vo): 'el8' is no entry of the form platform:path"),
        (
            {"images": {"el9": {"x86_46": []}}},
            "images.el9.x86_46 (vo): 'x86_46' is no architecture; did you mean x86_64?",
        ),
        (
            {"images": {"el9": {"path": "/x"}}},
            "images.el9.path (vo): 'path' is no architecture; known: x86_64, aarch64, ",
        ),
        ({"images": {"el9": {"any": "/x"}}}, "images.el9.any (vo): expected a list, found a string"),
        (
            {"images": {"el9": {"arm64": ["/x", {"path": "/y", "arch": "aarch64"}]}}},
            "images.el9.arm64[1].arch (vo): the candidate stands under arm64 already",
        ),
        (
            {"images": {"el9": [{"path": "/x", "arch": "arm46"}]}},
            "images.el9[0].arch (vo): 'arm46' is no architecture; did you mean arm64?",
        ),
        (
            {"images": {"el9": [{"path": "/x", "digest": "sha256:ABC"}]}},
            "images.el9[0].digest (vo): 'sha256:ABC' is no digest: sha256: and 64 hexadecimal digits",
        ),
        (
            {"images": {"el9": [{"path": "/x", "requires": {"cpulevel": 3}}]}},
            "images.el9[0].requires.cpulevel (vo): unknown key; did you mean cpu_level?",
        ),
        (
            {"images": {"el9": {"x86_64": [{"path": "/x", "requires": {"kernel": 5.10}}]}}},
            "images.el9.x86_64[0].requires.kernel (vo): 5.1 is read as a number; quote it",
        ),
        (
            {"images": {"el9": [{"path": "/x", "requires": {"gpu": "yes"}}]}},
            "images.el9[0].requires.gpu (vo): 'yes' is neither true or false nor a number of GPUs",
        ),
        ({"containers": {"sources": ["cvfms"]}}, "containers.sources[0] (vo): 'cvfms' is none of cvmfs, "),
        (
            {"site": {"cvmfs": False}},
            "site.cvmfs (vo): expected a string, found a boolean; give one of never, optional, preferred, required",
        ),
        (
            {"cvmfs": {"rungs": ["native", 3]}},
            "cvmfs.rungs[1] (vo): expected a string, found an integer; give one of native, namespace, ",
        ),
        ({"cvmfs": {"rungs": ["native", "nativ"]}}, "cvmfs.rungs[1] (vo): 'nativ' is none of native, namespace, "),
        (
            {"containers": {"prefixes": ["/a", "images"]}},
            "containers.prefixes[1] (vo): 'images' begins neither with / nor with one of docker://, oras://, https://",
        ),
        ({"containers": {"default": "75% el9 25% el8"}}, "containers.default (vo): '75% el9 25% el8' is neither"),
        ({"containers": {"default": {}}}, "containers.default (vo): is empty"),
        (
            {"containers": {"default": {"el9": 0}}},
            "containers.default.el9 (vo): 0 is no weight: it must be more than 0",
        ),
        ({"containers": {"default": {"el 9": 1}}}, "containers.default.el 9 (vo): 'el 9' is no name of a platform"),
        ({"images": {"el9": [{"pat": "/x"}]}}, "images.el9[0].path (vo): missing"),
        ({"images": {9: []}}, "images.9 (vo): a name must be a string, found an integer; quote it"),
        (
            {"services": {"s": {"command": ["x"], "stop_sinal": "TERM"}}},
            "services.s.stop_sinal (vo): unknown key; did you mean stop_signal?",
        ),
        (
            {"services": {"s": {"command": ["x"], 5: 1}}},
            "services.s.5 (vo): unknown key",
        ),
        ({"services": {"s": {"command": []}}}, "services.s.command (vo): is empty; the first word is the program"),
        (
            {"services": {"s": {"command": ["x"], "port": 65536}}},
            "services.s.port (vo): 65536 is no TCP port; it is 1 to 65535",
        ),
        ({"services": {"s": {"command": ["x"], "port": 0}}}, "services.s.port (vo): 0 is no TCP port"),
        (
            {"services": {"s": {"command": ["x"], "stop_signal": "SIGTREM"}}},
            "services.s.stop_signal (vo): 'SIGTREM' is no signal; did you mean SIGTERM?",
        ),
        (
            {"services": {"s": {"command": ["x"], "port": 80, "ready_file": "up"}}},
            "services.s (vo): has port and ready_file; give one way to know that it is ready",
        ),
        (
            {"services": {"s": {"command": ["x", "{port:htp}"], "ports": {"http": 0}}}},
            "services.s.command[1] (vo): {port:htp} is none of its ports; did you mean http?",
        ),
        (
            {"services": {"s": {"command": ["x", "{port}"], "ports": {"http": 0, "grpc": 0}}}},
            "services.s.command[1] (vo): {port} could be any of 2: give one of {port:http}, {port:grpc}",
        ),
        (
            {"services": {"s": {"command": ["x"], "ready_http": "htp/health", "ports": {"http": 0}}}},
            "services.s.ready_http (vo): 'htp' is none of its ports; did you mean http?",
        ),
        (
            {"services": {"s": {"command": ["x"], "live_http": "http/health"}}},
            "services.s.live_http (vo): 'http' is none of its ports; it has none: name them in ports",
        ),
        (
            {"services": {"s": {"command": ["x"], "cvmfs_proxy": "htp", "ports": {"http": 3129}}}},
            "services.s.cvmfs_proxy (vo): 'htp' is none of its ports; did you mean http?",
        ),
        (
            {"services": {"s": {"command": ["x", "{files:model}"], "files": {"models": "files/atlas/m.zip"}}}},
            "services.s.command[1] (vo): {files:model} is none of its files; did you mean models?",
        ),
        (
            {"services": {"s": {"command": ["x"], "files": {"models": "/srv/m.zip"}}}},
            "services.s.files.models (vo): '/srv/m.zip' is no signed archive of files: files/NAME.zip or",
        ),
        (
            {"services": {"s": {"command": ["x"], "ready_http": "health"}}},
            "services.s.ready_http (vo): 'health' is not of the form PORT/path, such as http/health",
        ),
        (
            {"services": {"s": {"command": ["x"], "live_port": 1, "live_command": ["y"]}}},
            "services.s (vo): has live_port and live_command; give one way to know that it still works",
        ),
        (
            {"services": {"s": {"command": ["x"], "restart": "allways"}}},
            "services.s.restart (vo): 'allways' is none of on_failure, always, never; did you mean always?",
        ),
        (
            {"services": {"s": {"command": ["x"], "gpus": "one"}}},
            "services.s.gpus (vo): 'one' is neither a number of devices nor the word all",
        ),
        (
            {"services": {"s": {"command": ["x"], "metrics_http": "80/metrics"}}},
            "services.s.metrics_names (vo): missing; the families that are to be kept are needed",
        ),
        (
            {"services": {"s": {"command": ["x"], "ports": {"a": 80, "b": 80}}}},
            "services.s.ports (vo): a and b have the same number 80",
        ),
        (
            {"services": {"s": {"command": ["x"], "exports": {"A-B": ""}}}},
            "services.s.exports.A-B (vo): 'A-B' is no name of a variable",
        ),
        (
            {"services": {"s": {"command": ["x"], "binds": ["/data"]}}},
            "services.s.binds (vo): only what has where: image has binds",
        ),
        (
            {"services": {"../b": {"command": ["x"]}}},
            "services.../b (vo): '../b' is no name of a service: letters, digits and . _ - only",
        ),
        (
            {"services": {"s": {"command": ["x"], "environment": {"A": 1}}}},
            "services.s.environment.A (vo): expected a string, found an integer",
        ),
        ({"startd": {"job_environment": {"A": None}}}, "startd.job_environment.A (vo): expected a string"),
    ],
)
def test_a_fault_is_named_with_its_path_and_layer(document: dict[str, Json], problem: str) -> None:
    assert any(found.startswith(problem) for found in problems(document)), problems(document)


def test_a_value_that_only_yaml_has_is_refused_at_its_place() -> None:
    document = parse_document(b"startd: {attributes: {Born: 2024-01-02, Deep: {list: [.inf]}, 3: x}}", "vo.yaml")
    assert sorted(problems(document)) == [
        "startd.attributes.3 (vo): a name must be a string, found an integer; quote it",
        "startd.attributes.Born (vo): expected a plain value, found a date; quote it",
        "startd.attributes.Deep.list[0] (vo): expected a finite number, found inf",
    ]


def test_a_section_with_nothing_in_it_is_no_problem() -> None:
    document = parse_document(b"site:\n  # name: not yet known\nvo: {name: example}\n", "site.yaml")
    config = load_config([Layer("site", document)])
    assert config.get("site.name") == "unknown"


def test_a_choice_is_taken_in_any_case() -> None:
    assert load_config([Layer("site", {"site": {"containers": "REQUIRED"}})]).get("site.containers") == "REQUIRED"


# ---- layers ------------------------------------------------------------------------------------------------------


def layered(path: str, *values: Json) -> Config:
    """One key given by factory, entry, vo and site in turn; handed over in the wrong order on purpose."""
    names = ("factory", "entry", "vo", "site")
    layers = [Layer(name, nested({path: value})) for name, value in zip(names, values, strict=False)]
    return load_config(reversed(layers))


def test_the_stronger_layer_wins_whatever_the_order_in_which_they_come() -> None:
    layers = [Layer(name, {"site": {"name": name}}) for name in LAYERS[1:]]
    for end in range(1, len(layers) + 1):
        config = load_config(layers[:end][::-1])
        assert config.get("site.name") == layers[end - 1].name
        assert config.origins["site.name"] == (layers[end - 1].name,)


@pytest.mark.parametrize("key", ["collectors", "ccb_brokers"])
@pytest.mark.parametrize("text", GOOD_COLLECTORS)
def test_addresses_of_collectors_are_taken_as_they_are(key: str, text: str) -> None:
    document = {"pool": {key: [text]}}
    assert problems(document) == []
    assert load_config([Layer("factory", document)]).get(f"pool.{key}") == [text]
    jsonschema.Draft202012Validator(json_schema()).validate(document)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "names no collector"),
        (" ; , ", "names no collector"),
        ("cm.example.org 9618", "is no address of a collector"),
        ("cm:9618 other", "is no address of a collector"),
        ("cm:port", "is no address of a collector"),
        ("cm:", "is no address of a collector"),
        ("https://cm.example.org", "is no address of a collector"),
        ("-cm:9618", "is no address of a collector"),
        ("cm..example.org", "is no address of a collector"),
        ("2001:db8::1", "is no address of a collector"),
        ("$(CONDOR_HOST)", "is no address of a collector"),
        ("cm\t:9618", "is no address of a collector"),
        ("cm:0", "it is 1 to 65535"),
        ("good:9618,cm:65536", "it is 1 to 65535"),
        ("cm:9620-70000", "it is 1 to 65535"),
        ("cm:9630-9620", "ends before it begins"),
    ],
)
def test_an_address_that_no_collector_can_have_is_refused_with_its_place(text: str, found: str) -> None:
    failure = refused(Layer("factory", {"pool": {"collectors": ["cm:9618", text]}}))
    assert failure.message.startswith("the configuration has 1 problem: pool.collectors[1] (factory): ")
    assert found in failure.message


def test_collectors_are_a_list() -> None:
    failure = refused(Layer("factory", {"pool": {"collectors": "cm:9618"}}))
    assert "pool.collectors (factory): expected a list, found a string" in failure.message


@pytest.mark.parametrize("text", ["a b", ".example.org", "example.org.", "a..b", "*.example.org", "é", "-a", "a" * 64])
def test_a_domain_that_no_host_can_have_is_refused(text: str) -> None:
    document = {"startd": {"domain": text}}
    assert f"startd.domain (vo): {text!r} is no domain" in problems(document)[0]
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(document)


@pytest.mark.parametrize("text", ["..", "", "a b.org", "/cvmfs/sft.cern.ch", "é.org", "-a.org", "a\n", "a" * 256])
def test_a_repository_that_cannot_lie_below_cvmfs_is_refused_with_its_place(text: str) -> None:
    document = {"cvmfs": {"repositories": ["sft.cern.ch", text]}}
    assert f"cvmfs.repositories[1] (vo): {text!r} is no repository of CVMFS" in problems(document)[0]
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(document)


def times(layer: str, **seconds: float) -> Layer:
    """A layer that gives times of these names."""
    return Layer(layer, {"time": {f"{name}_seconds": value for name, value in seconds.items()}})


def test_jobs_cannot_get_more_time_to_end_than_everything_has() -> None:
    failure = refused(times("factory", teardown=20), times("vo", vacate=40))
    assert "time.vacate_seconds (vo): 40 s for jobs to end is more than the 20 s" in failure.message
    assert "time.teardown_seconds (factory)" in failure.message
    assert "(defaults) gives to everything" in refused(times("vo", vacate=26)).message


def test_times_to_end_that_fit_or_that_nobody_asked_for_are_taken() -> None:
    assert load_config([times("vo", vacate=25)]).get("time.vacate_seconds") == 25
    assert load_config([times("site", teardown=5)]).get("time.vacate_seconds") == 10
    fitting = load_config([times("vo", vacate=60), times("site", vacate=15)])
    assert fitting.get("time.vacate_seconds") == 15


def test_of_a_limit_the_smallest_counts_however_weak_its_layer() -> None:
    config = layered("site.memory_mib", 4000, 16000, 8000)
    assert config.get("site.memory_mib") == 4000
    assert config.origins["site.memory_mib"] == ("factory",)


@pytest.mark.parametrize(
    ("given", "strictest", "origins"),
    [
        ((4, 16, 8), 4, ("factory",)),
        (("node", 8, "auto"), 8, ("entry",)),
        (("node", "Auto"), "Auto", ("entry",)),
        (("auto", "slot"), "slot", ("entry",)),
        (("NODE", "node"), "NODE", ("factory", "entry")),
        ((), "auto", ("defaults",)),
    ],
)
def test_of_several_layers_the_strictest_wish_for_cores_counts(
    given: tuple[Json, ...], strictest: Json, origins: tuple[str, ...]
) -> None:
    config = layered("site.cpus", *given)
    assert config.get("site.cpus") == strictest
    assert config.origins["site.cpus"] == origins


@pytest.mark.parametrize("value", [1, 64, "auto", "NODE", "Slot"])
def test_cores_are_a_number_or_a_word_in_any_case(value: Json) -> None:
    document = {"site": {"cpus": value}}
    assert problems(document) == []
    jsonschema.Draft202012Validator(json_schema()).validate(document)


@pytest.mark.parametrize("value", [0, -1, 1.5, "8", "nodes", True, []])
def test_the_schema_refuses_the_cores_that_validation_refuses(value: Json) -> None:
    document = {"site": {"cpus": value}}
    assert problems(document)
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(document)


def test_layers_that_agree_on_the_smallest_are_all_named() -> None:
    assert layered("time.walltime_seconds", 100, 200, 100).origins["time.walltime_seconds"] == ("factory", "vo")


def test_requirements_of_all_layers_add_up() -> None:
    config = layered("requirements", ["cpu.usable >= 4"], [], ["memory.usable_mib >= 8000"])
    assert config.get("requirements") == ["cpu.usable >= 4", "memory.usable_mib >= 8000"]
    assert config.origins["requirements"] == ("factory", "entry", "vo")


def test_dictionaries_are_joined_and_the_stronger_layer_wins_a_name() -> None:
    config = layered("images", {"el8": ["/8"], "el9": ["/9"]}, {"el9": ["/9b"], "el10": ["/10"]})
    assert config.get("images") == {"el8": ["/8"], "el9": ["/9b"], "el10": ["/10"]}


def test_a_dictionary_in_one_line_joins_one_in_yaml() -> None:
    config = layered(
        "images", "el8:/8,el9:docker://a:1", {"el9": {"amd64": ["/9b"], "any": [{"path": "/9c"}]}}, "el7:/7"
    )
    assert config.get("images") == {
        "el8": ["/8"],
        "el9": [{"path": "/9b", "arch": "amd64"}, {"path": "/9c"}],
        "el7": ["/7"],
    }


def test_restrictions_of_all_layers_are_kept_with_their_layer() -> None:
    config = layered("containers.sources", ["cvmfs", "file"], None, ["docker"])
    assert config.get("containers.sources") == [
        {"layer": "factory", "value": ["cvmfs", "file"]},
        {"layer": "vo", "value": ["docker"]},
    ]


@given(st.text("el9:/, \n.%", max_size=20) | words)
def test_a_line_is_taken_as_the_schema_takes_it(text: str) -> None:
    taken = not line_problems(text)
    assert taken == (re.fullmatch(LINE, text) is not None)
    if taken:
        for platform, (path,) in parse_line(text).items():
            assert platform == platform.strip() != ""
            assert path == path.strip() != ""
            assert f"{platform}:{path}" in "".join(text.split()) or platform in text


@given(st.lists(st.tuples(st.sampled_from(["el9", "el8", "default"]), st.sampled_from(["/a", "docker://h:1/x:2"]))))
def test_of_entries_with_one_name_the_last_counts_at_its_place(entries: list[tuple[str, str]]) -> None:
    found = parse_line(",".join(f"{platform}:{path}" for platform, path in entries))
    last = {platform: index for index, (platform, _) in enumerate(entries)}
    assert list(found) == sorted(last, key=lambda platform: last[platform])
    assert found == {platform: [entries[index][1]] for platform, index in last.items()}


@given(st.text("abel98% .,0", max_size=20) | words)
def test_weights_that_are_taken_are_positive(text: str) -> None:
    if re.fullmatch(DEFAULT, text):
        assert all(name and weight > 0 for name, weight in weights(text).items())


def test_weights_of_one_platform_add_up() -> None:
    assert weights("50% el9, 12.5 %el8,25% el9") == {"el9": 75, "el8": 12.5}
    assert weights("el9") == {"el9": 1}
    assert weights({"el9": 3}) == {"el9": 3}


def test_nothing_given_is_not_the_same_as_something_empty() -> None:
    assert layered("site.scratch", ["/scratch"], None).get("site.scratch") == ["/scratch"]
    assert layered("site.scratch", ["/scratch"], []).get("site.scratch") == []


def test_a_caller_that_changes_what_it_got_does_not_change_the_defaults() -> None:
    load_config([]).get("startd.attributes")["Changed"] = True
    load_config([]).get("requirements").append("cpu.usable >= 1000")
    assert load_config([]).get("startd.attributes") == {}
    assert load_config([]).get("requirements") == []


def test_the_layers_that_were_used_are_named_with_their_files() -> None:
    config = load_config([Layer("vo", {}, "/etc/vo.yaml"), Layer("factory", {}, "f.yaml"), Layer("environment", {})])
    assert config.layers == ("factory:f.yaml", "vo:/etc/vo.yaml", "environment")


# ---- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"site": {"name": "A", "name": "B"}}', "'name' stands twice"),
        ("site: {name: A}\nsite: {cpus: 4}\n", "'site' stands twice (line 1)"),
        ("vo: {name: x}\nsite:\n  name: A\n  name: B\n", "'name' stands twice (line 3)"),
    ],
)
def test_a_key_given_twice_is_refused(text: str, where: str) -> None:
    with pytest.raises(PilotError) as caught:
        parse_document(text.encode(), "site.yaml")
    assert caught.value.failure.code == "config.syntax"
    assert where in caught.value.failure.message


@pytest.mark.parametrize(
    "text",
    [
        "site: [",
        '{"site": ',
        "- a\n- b\n",
        "just text",
        "!!python/object/apply:os.getpid []",
        '!!int ""',
        "a: !!bool maybe",
        "a: !!timestamp never",
        "? [a, b]\n: c\n",
        "a: &x [*x]",
        "a: <<",
        "\x00",
        '{"a":' * 100_000,
        "[" * 5_000,
    ],
)
def test_text_that_is_no_mapping_is_refused_with_the_files_name(text: str) -> None:
    with pytest.raises(PilotError) as caught:
        parse_document(text.encode(), "vo.yaml")
    assert caught.value.failure.code == "config.syntax"
    assert "vo.yaml" in caught.value.failure.message


def test_a_fault_of_yaml_is_told_in_one_line_with_its_place() -> None:
    with pytest.raises(PilotError) as caught:
        parse_document(b"vo:\n  name: [a, b\nsite: {}\n", "/etc/vo.yaml")
    message = caught.value.failure.message
    assert message.startswith("/etc/vo.yaml is not valid: line 3, column ")
    assert "\n" not in message
    assert "<unicode string>" not in message
    assert "^" not in message


def test_aliases_that_multiply_are_refused_before_they_cost_anything() -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
    text = "startd:\n  attributes:\n" + "".join(f"    {line}\n" for line in lines)
    with pytest.raises(PilotError) as caught:
        parse_document(text.encode(), "vo.yaml")
    assert caught.value.failure.code == "config.syntax"
    assert "aliases" in caught.value.failure.message


def test_a_long_text_repeated_by_aliases_is_refused_too() -> None:
    text = f"a: &a {'x' * 10_000}\nb: [{', '.join(['*a'] * 1_000)}]\n"
    with pytest.raises(PilotError, match="aliases"):
        parse_document(text.encode(), "vo.yaml")


def test_an_alias_used_as_people_use_it_is_taken() -> None:
    text = b"images: {el9: &both [/a, /b], default: *both}\n"
    assert parse_document(text, "vo.yaml") == {"images": {"el9": ["/a", "/b"], "default": ["/a", "/b"]}}


def test_an_empty_file_configures_nothing() -> None:
    assert parse_document(b"", "vo.yaml") == {}
    assert parse_document(b"# only a comment\n", "vo.yaml") == {}


def test_a_file_that_is_missing_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PilotError) as caught:
        read_layer("vo", str(tmp_path / "vo.yaml"))
    assert caught.value.failure.code == "config.unreadable"
    assert str(tmp_path / "vo.yaml") in caught.value.failure.message
    assert "No such file" in caught.value.failure.message


def test_a_pipe_is_no_layer_because_it_may_look_empty(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    os.mkfifo(path)
    with pytest.raises(PilotError) as caught:
        read_layer("site", str(path))
    assert caught.value.failure.code == "config.unreadable"
    assert "no regular file" in caught.value.failure.message


def test_a_file_that_is_too_large_is_refused_and_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "vo.yaml"
    path.write_bytes(b'a: "' + b"\\u0041" * 175_000 + b'"')
    with pytest.raises(PilotError) as caught:
        read_layer("vo", str(path))
    assert caught.value.failure.code == "config.unreadable"
    assert f"{path} is larger than 1024 KiB" in caught.value.failure.message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vo.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PilotError) as caught:
        read_layer("vo", str(path))
    assert caught.value.failure.code == "config.syntax"


@pytest.mark.parametrize("name", ["wms", "defaults", "environment", "command line", ""])
def test_only_layers_that_come_from_files_can_be_given_as_files(name: str) -> None:
    with pytest.raises(PilotError) as caught:
        read_layer(name, "/etc/hostname")
    assert caught.value.failure.kind is FailureKind.USAGE
    assert "factory, entry, vo, site" in caught.value.failure.message


# ---- environment and command line --------------------------------------------------------------------------------


def test_the_environment_is_a_layer() -> None:
    layer = environment_layer(
        {
            "PILOT_AGENT_SITE__NAME": "Example_T2",
            "PILOT_AGENT_SITE__CPUS": "4",
            "PILOT_AGENT_STARTD__IDLE_SHUTDOWN_SECONDS": "60",
            "PILOT_AGENT_REQUIREMENTS": '["cpu.usable >= 2"]',
            "PILOT_AGENT_INTERPRETER": '["python3"]',
            "PILOT_AGENT_GUARDIAN_FD": "7",
            "HOME": "/",
        }
    )
    assert layer.document == {
        "site": {"name": "Example_T2", "cpus": 4},
        "startd": {"idle_shutdown_seconds": 60},
        "requirements": ["cpu.usable >= 2"],
    }


def test_a_wrong_variable_of_the_environment_is_a_problem_with_its_layer() -> None:
    failure = refused(environment_layer({"PILOT_AGENT_SITE__NAMEE": "x"}))
    assert "site.namee (environment): unknown key; did you mean site.name?" in failure.message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PILOT_AGENT_SITE_CVMFS", "PILOT_AGENT_SITE__CVMFS"),
        ("PILOT_AGENT_ON_FAILURE_HOLD_SECONDS", "PILOT_AGENT_ON_FAILURE__HOLD_SECONDS"),
    ],
)
def test_a_variable_with_one_underscore_before_its_key_is_not_passed_over(name: str, meant: str) -> None:
    with pytest.raises(PilotError) as caught:
        environment_layer({name: "x"})
    assert caught.value.failure.code == "config.invalid"
    assert f"{name} names no key; did you mean {meant}?" in caught.value.failure.message


variable_names = st.text("PILOTAGEN_SX", max_size=8).map(lambda tail: f"PILOT_AGENT_{tail}")


@given(st.dictionaries(variable_names | words, words, max_size=4))
def test_any_environment_is_taken_or_refused(environment: dict[str, str]) -> None:
    assert code_of(lambda: load_config([environment_layer(environment)])) in {None, "config.invalid"}


def test_values_on_the_command_line_need_no_quotes() -> None:
    layer = command_line_layer(["site.name=A=B", "site.cpus=4", 'site.scratch=["/x"]', "pool.ccb=false", "vo.name="])
    assert layer.document == {
        "site": {"name": "A=B", "cpus": 4, "scratch": ["/x"]},
        "pool": {"ccb": False},
        "vo": {"name": ""},
    }


def test_a_list_that_is_no_json_on_the_command_line_is_answered_with_its_form() -> None:
    message = refused(command_line_layer(["startd.condor_source=[tarball, path]", "startd.attributes=a"])).message
    assert 'startd.condor_source (command line): expected a list, found a string; write it as JSON: ["' in message
    assert 'startd.attributes (command line): expected a mapping, found a string; write it as JSON: {"' in message
    inside_a_file = refused(Layer("site", {"startd": {"condor_source": "path"}}))
    assert "JSON" not in inside_a_file.message


def test_a_number_in_place_of_a_text_is_answered_with_the_quotes_that_it_needs() -> None:
    in_a_file = refused(Layer("site", {"startd": {"condor_version": 23.9}, "site": {"name": False}})).message
    assert "startd.condor_version (site): expected a string, found a number; put it in quotes" in in_a_file
    assert in_a_file.endswith("site.name (site): expected a string, found a boolean")
    on_the_command_line = refused(command_line_layer(["startd.condor_version=23.9"])).message
    assert on_the_command_line.endswith("; put it in quotes, and these in single ones: '\"...\"'")


def test_an_argument_without_a_value_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(PilotError) as caught:
        command_line_layer(["site.name"])
    assert caught.value.failure.kind is FailureKind.USAGE


@pytest.mark.parametrize("assignments", [["site=3", "site.name=x"], ["requirements=[]", "requirements.x=1"]])
def test_a_key_given_whole_and_in_part_is_refused(assignments: list[str]) -> None:
    with pytest.raises(PilotError) as caught:
        command_line_layer(assignments)
    assert caught.value.failure.code == "config.invalid"


assignment = st.builds(
    "{}={}".format, st.sampled_from([key.path for key in KEYS]) | words, words | plain.map(json.dumps)
)


@given(st.lists(assignment, max_size=4))
def test_any_assignments_are_taken_or_refused(assignments: list[str]) -> None:
    code = code_of(lambda: load_config([command_line_layer(assignments)]))
    assert code in {None, "config.invalid", "usage"}


# ---- the table of keys -------------------------------------------------------------------------------------------


def test_every_key_is_declared_once_and_explained() -> None:
    paths = [key.path for key in KEYS]
    assert len(paths) == len(set(paths))
    for key in KEYS:
        assert len(key.help) > 10, key.path
        assert key.help == key.help.strip(), key.path
        assert not key.help.endswith("."), key.path
        assert key.path.count(".") <= 1, key.path


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_the_default_of_a_key_is_a_valid_value_of_it(key: Key) -> None:
    assert problems(nested({key.path: key.default})) == []
    jsonschema.Draft202012Validator(json_schema()).validate(nested({key.path: key.default}))


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_how_layers_combine_fits_the_type_of_the_key(key: Key) -> None:
    allowed = {
        "smallest": {Kind.INTEGER, Kind.NUMBER},
        "strictest": {Kind.CORES},
        "append": {Kind.STRINGS, Kind.REPOSITORIES, Kind.REQUIREMENTS},
        "join": {
            *(Kind.MAPPING, Kind.STRING_MAPPING, Kind.IMAGES),
            *(Kind.CVMFS_PARAMETERS, Kind.CVMFS_REPOSITORY_PARAMETERS),
        },
        "merge": {Kind.MAPPING, Kind.SERVICES},
        "all": {
            *(Kind.STRINGS, Kind.STRING, Kind.PREFIXES, Kind.DIRECTORIES, Kind.BINDS, Kind.OPTIONS, Kind.VARIABLES),
            *(Kind.STRING_MAPPING, Kind.PROBES, Kind.SETUPS, Kind.CHECKS, Kind.PERIODICS, Kind.BENCHMARKS),
            Kind.EXPRESSION,
        },
        "override": set(Kind),
    }
    assert key.kind in allowed[key.combine]


def test_a_path_in_seconds_or_mebibytes_says_so() -> None:
    numbers = [key for key in KEYS if key.kind in (Kind.INTEGER, Kind.NUMBER)]
    units = (
        *("seconds", "_mib", "cpus", "startd.gpus", "_slots", "cores_per_slot", "factory.cluster", "factory.process"),
        *("black_hole_jobs", "black_hole_clusters", "black_hole_share", "cvmfs.cache_share"),
    )
    assert [key.path for key in numbers if not key.path.endswith(units)] == []


def test_the_schema_is_a_schema_and_explains_every_key() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for key in KEYS:
        section, _, name = key.path.partition(".")
        entry = schema["properties"][section]
        assert (entry["properties"][name] if name else entry)["description"] == key.help


def test_a_requirement_that_cannot_be_read_is_named_with_its_place() -> None:
    document = {"requirements": ["cpu.usable >= 4", "cpu.usable >=", {"require": "fuse.usable", "level": "prefered"}]}
    first, second = validate(document, "vo")
    assert first.path == "requirements[1]"
    assert second.path == "requirements[2].level"
    assert "did you mean preferred" in second.message


def test_the_reference_page_shows_the_keys_of_today() -> None:
    print_page = ".venv/bin/python -m pilot_agent config reference"
    command = f"(echo '{PAGE_HEADER}'; echo; {print_page}) > docs/reference/configuration.md"
    assert PAGE.read_text() == f"{PAGE_HEADER}\n\n{reference_page()}", f"bring it up to date: {command}"


def test_the_reference_page_names_every_key_with_its_meaning() -> None:
    page = reference_page()
    for key in KEYS:
        assert f"| `{key.path}` | {key.kind.value} |" in page
        assert key.help in page
