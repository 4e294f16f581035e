"""A check finds what would keep a factory from its work, says who must act, and changes nothing."""

from __future__ import annotations

import datetime as dt
import ipaddress
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from server_stub.entries import Factory
from server_stub.factory import checking
from server_stub.factory.checking_https import check_certificate
from server_stub.factory.entry import Downtime
from server_stub.factory.frontends import Frontend
from server_stub.factory.store import Store
from server_stub.findings import Finding, Verdict, exit_code
from tests.server_stub.conftest import ScriptedBatch


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {one.name: one for one in findings}


def found(factory: Factory, batch: ScriptedBatch, now: float = 0.0) -> dict[str, Finding]:
    return by_name(list(checking.check_factory(factory, batch, now=now)))


@pytest.fixture
def whole(factory: Factory) -> Factory:
    """One whose payloads are all there."""
    shutil.copy(Path(factory.payloads, "pilot.pyz"), Path(factory.payloads, "pilot.sh"))
    for name in map(str, range(20)):
        Path(factory.entries[0].tokens or "", name).write_text("token")
    return factory


def test_a_factory_that_lacks_nothing_has_no_failure(whole: Factory, batch: ScriptedBatch) -> None:
    findings = found(whole, batch)
    assert [one for one in findings.values() if one.verdict is Verdict.FAIL] == []
    assert exit_code(findings.values()) == 0
    assert findings["access point"].message == "schedd@factory.example.org answers, 0 pilots are in its queue"
    assert findings["descriptions"].message == "HTCondor takes those of 2 entries"


def test_nothing_is_made(whole: Factory, batch: ScriptedBatch, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    found(whole, batch)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_payload_that_is_missing_and_one_that_is_none_are_told(factory: Factory, batch: ScriptedBatch) -> None:
    Path(factory.payloads, "pilot.pyz").write_bytes(b"<html>not found")
    first, second = list(checking.check_payloads(factory))
    assert "is no program" in first.message
    assert "pilot.sh cannot be read: No such file" in second.message
    assert exit_code([first, second]) == 68
    assert exit_code([second]) == 66


def test_an_access_point_that_does_not_answer_is_a_matter_of_the_network(whole: Factory, batch: ScriptedBatch) -> None:
    batch.broken = True
    findings = found(whole, batch)
    assert findings["access point"].message == "the access point does not answer"
    assert exit_code(findings.values()) == 65


def test_an_entry_without_tokens_is_the_vos_to_mend(whole: Factory, batch: ScriptedBatch) -> None:
    shutil.rmtree(whole.entries[0].tokens or "")
    findings = found(whole, batch)
    assert findings["entry site-a"].verdict is Verdict.FAIL
    assert exit_code(findings.values()) == 67


def test_tokens_that_others_can_read_are_told(whole: Factory, batch: ScriptedBatch) -> None:
    tokens = Path(whole.entries[0].tokens or "")
    for one in tokens.iterdir():
        one.chmod(0o600)
    (tokens / "7").chmod(0o644)
    tokens.chmod(0o700)
    assert "entry site-a" not in found(whole, batch)
    tokens.chmod(0o755)
    told = found(whole, batch)["entry site-a"]
    assert (told.verdict, told.message) == (Verdict.WARN, f"others on this host can read 7 in {tokens}")


def test_a_downtime_is_told_and_is_no_failure(whole: Factory, batch: ScriptedBatch) -> None:
    entry = replace(whole.entries[1], downtimes=(Downtime(0.0, 100.0, "new disks"),))
    findings = found(replace(whole, entries=(entry,)), batch, now=50.0)
    assert findings["entry site-b"].message == "takes no pilots: downtime: new disks"
    assert exit_code(findings.values()) == 0


def test_a_frontend_that_no_entry_serves_is_told(whole: Factory) -> None:
    entries = tuple(replace(entry, vos=("cms",)) for entry in whole.entries)
    frontends = (Frontend("one", "", ("cms", "atlas"), ("site-a",)), Frontend("two", "", ("atlas",)))
    first, second = checking.check_frontends(replace(whole, entries=entries, frontends=frontends))
    assert (first.verdict, first.message) == (Verdict.OK, "may ask for cms, atlas at 1 of 2 entries")
    assert (second.verdict, second.message) == (Verdict.WARN, "may ask for atlas, and no entry takes that")


def test_a_description_that_htcondor_does_not_take_is_named(
    whole: Factory, batch: ScriptedBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def description(factory: Factory, entry: object, pilot: object) -> str:
        return "universe = vanilla\nthis is no line of a submit description\n"

    monkeypatch.setattr(checking, "_description", lambda factory, entry: description(factory, entry, None))
    findings = found(whole, batch)
    assert "HTCondor does not take its description" in findings["entry site-a"].message
    assert exit_code(findings.values()) == 66


@pytest.mark.parametrize(
    ("revision", "verdict", "said"),
    [("0001", Verdict.WARN, "has revision 0001"), ("9999", Verdict.FAIL, "this factory knows up to")],
)
def test_a_store_of_another_version_is_told(
    whole: Factory, store: Store, revision: str, verdict: Verdict, said: str
) -> None:
    from sqlalchemy import text

    with store.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": revision})
    finding = checking.check_store(whole)
    assert finding.verdict is verdict
    assert said in finding.message


def test_a_store_that_does_not_answer_is_told_without_its_password(whole: Factory) -> None:
    broken = replace(whole, database="sqlite:////proc/self/mem")
    assert checking.check_store(broken).verdict is Verdict.FAIL
    away = replace(whole, database="postgresql+psycopg://who:secret@127.0.0.1:1/none")
    finding = checking.check_store(away)
    assert finding.verdict is Verdict.FAIL
    assert "secret" not in finding.message


def test_a_directory_that_others_may_enter_is_told(whole: Factory, store: Store) -> None:
    Path(whole.state).chmod(0o755)
    first = next(checking.check_state(whole))
    assert first.verdict is Verdict.WARN
    assert "mode 755" in first.message


NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)


def with_certificate(factory: Factory, directory: Path, *names: str, days: int = 90) -> Factory:
    """A factory with a certificate for these names from two days before ``NOW`` on."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example")])
    kinds = [x509.IPAddress(ipaddress.ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
    begins = NOW - dt.timedelta(days=2)
    made = (
        x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key())
        .serial_number(1).not_valid_before(begins).not_valid_after(begins + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(kinds), critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem, secret = directory / "factory.pem", directory / "factory.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return replace(factory, certificate=str(pem), key=str(secret), url="https://factory.example.org:8080")


@pytest.mark.parametrize(
    ("names", "days", "verdict", "said"),
    [
        (("factory.example.org",), 90, Verdict.OK, "is for factory.example.org until 2026-08-28"),
        (("*.example.org", "10.0.0.1"), 90, Verdict.OK, "is for factory.example.org"),
        (("other.example.org",), 90, Verdict.FAIL, "is not for factory.example.org"),
        (("*.org",), 90, Verdict.FAIL, "is not for"),
        (("factory.example.org",), 10, Verdict.WARN, "ends in 8 days"),
        (("factory.example.org",), 1, Verdict.FAIL, "is valid from 2026-05-30 to 2026-05-31"),
    ],
)
def test_a_certificate_is_judged_by_its_names_and_dates(
    factory: Factory, tmp_path: Path, names: tuple[str, ...], days: int, verdict: Verdict, said: str
) -> None:
    (finding,) = check_certificate(with_certificate(factory, tmp_path, *names, days=days), NOW.timestamp())
    assert finding.verdict is verdict
    assert said in finding.message


def test_a_key_that_does_not_belong_to_it_is_told(factory: Factory, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    chosen = with_certificate(factory, tmp_path, "factory.example.org")
    mixed = replace(chosen, key=with_certificate(factory, other, "factory.example.org").key)
    (finding,) = check_certificate(mixed, NOW.timestamp())
    assert finding.verdict is Verdict.FAIL
    assert "cannot be used for HTTPS" in finding.message
