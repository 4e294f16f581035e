"""What attempts mean: reached or not, and if not why, and who must change what."""

from __future__ import annotations

from pilot_agent.probes.network.attempts import TIMEOUT, Attempt

# X509_verify_cert_error_string(3).
_NOT_YET_VALID, _EXPIRED, _SELF_SIGNED, _SELF_SIGNED_CHAIN, _NO_ISSUER, _REVOKED = 9, 10, 18, 19, 20, 23
_HOST_MISMATCH, _ADDRESS_MISMATCH = 62, 64
CLOCK_CODES = (_NOT_YET_VALID, _EXPIRED)
"""The certificate errors that a wrong clock causes as well."""

_GATEWAY_ERRORS = (502, 503, 504)

_LOOK_UP = {
    "EAI_NONAME": "the name servers do not know {host}: correct the name, or the site its name servers",
    "EAI_NODATA": "{host} has no address",
    "EAI_AGAIN": "no name server answered for {host}: the site corrects /etc/resolv.conf or opens the way to port 53",
    TIMEOUT: "the look-up of {host} did not end: the site corrects /etc/resolv.conf or opens the way to port 53",
}
_CONNECT = {
    "ECONNREFUSED": "{to} refuses connections: nothing listens there, or a firewall rejects them",
    "ECONNRESET": "{to} resets connections: a firewall does that, or its program fails",
    "ENETUNREACH": "the node has no route to {to}: the site gives it one, or a proxy",
    "EHOSTUNREACH": "{to} cannot be reached: it is down, or a firewall on the way says so",
    "EADDRNOTAVAIL": "the node has no address from which {to} can be reached",
    "EACCES": "the node's own firewall forbids connections to {to}",
    "EPERM": "the node's own firewall forbids connections to {to}",
    "EAI_NODATA": "{to} has no address",
    TIMEOUT: "{to} did not answer in time: it is down, or a firewall drops the packets; the site opens the way there",
}
_CERTIFICATE = {
    _NOT_YET_VALID: "its certificate is not yet valid by this node's clock: if that is wrong, the site corrects it",
    _EXPIRED: "its certificate has expired by this node's clock: the server needs a new one, or the clock is wrong",
    _SELF_SIGNED: "its certificate is signed by itself",
    _SELF_SIGNED_CHAIN: "its certificate comes from an authority that this node does not trust",
    _NO_ISSUER: "its certificate comes from an authority that this node does not trust",
    _REVOKED: "its certificate was revoked",
    _HOST_MISMATCH: "its certificate is for another host name than {host}",
    _ADDRESS_MISMATCH: "its certificate is not for the address {host}",
}
_TLS = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port",
    "UNSUPPORTED_PROTOCOL": "it speaks only versions of TLS that this node refuses",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it refuses the versions of TLS that this node speaks",
    "NO_PROTOCOLS_AVAILABLE": "the node's settings of OpenSSL allow no version of TLS",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "no cipher is common to it and this node",
    "no authorities": "the node has no certificate authorities: the site installs the package ca-certificates",
    TIMEOUT: "the TLS handshake did not end in time: a middlebox may hold back large packets (see network.mtu)",
}


def reached(attempt: Attempt) -> bool:
    """True when the address itself answered, and not only a proxy that could not get there.

    A server that wants a certificate of the client is there as well.
    """
    if "CERTIFICATE_REQUIRED" in attempt.problem:
        return True
    return attempt.answered and not refused_by_proxy(attempt)


def refused_by_proxy(attempt: Attempt) -> str:
    """Why a proxy did not fetch the address; empty when it did, or when there is none."""
    if not attempt.via or not attempt.status:
        return ""
    if attempt.status == 407:
        return "it demands a user and a password (407)"
    if attempt.status in _GATEWAY_ERRORS:
        return f"it could not reach the address ({attempt.status}): that, or its way out, is at fault"
    if attempt.refused_by or attempt.step == "proxy":
        why = "".join(f", {word}" for word in attempt.refused_by.split()[:1])
        return f"it refuses to fetch the address ({attempt.status}{why}): the site allows it in the proxy's rules"
    return ""


def explain(attempt: Attempt, host: str, port: int) -> str:
    """Why the address was not reached; a remark, or nothing, when it was. ``host`` and ``port`` are where the
    connection went: the proxy's for an attempt through one."""
    if refused_by_proxy(attempt):
        return refused_by_proxy(attempt)
    if attempt.answered:
        return _remark(attempt)
    problem = attempt.problem
    if attempt.step == "look-up":
        text = _LOOK_UP.get(problem, f"the look-up of {{host}} failed ({problem})")
    elif attempt.step == "connect":
        text = _CONNECT.get(problem, f"no connection to {{to}} ({problem})")
    elif problem == "certificate":
        text = _CERTIFICATE.get(attempt.certificate_code, f"its certificate is refused: {attempt.certificate_problem}")
        host = attempt.host or host
    elif attempt.step == "tls":
        text = _TLS.get(problem, _ended(problem, "the TLS handshake"))
    elif attempt.step == "proxy":
        text = _ended(problem, "the request to the proxy")
    else:
        text = _ended(problem, "the request")
    shown = f"[{host}]" if ":" in host else host
    return text.replace("{host}", host).replace("{to}", f"{shown} port {port}")


def _ended(problem: str, what: str) -> str:
    if "CERTIFICATE_REQUIRED" in problem:
        return "it answers only to clients with a certificate"
    if problem == TIMEOUT:
        return f"it accepted the connection, but {what} was not answered in time"
    if problem == "closed":
        return f"it closed the connection instead of answering {what}"
    if problem in ("ECONNRESET", "EPIPE"):
        return f"it reset the connection instead of answering {what}: a firewall does that, or its program fails"
    if problem.startswith("garbage: "):
        return f"{what} was answered with garbage: {problem.removeprefix('garbage: ')}"
    return f"{what} failed ({problem})"


def _remark(attempt: Attempt) -> str:
    """What a person should know although the address was reached."""
    said = [f"{address} failed first ({problem})" for address, problem in attempt.failed.items()]
    if attempt.status >= 400:
        said.append(f"it answered {attempt.status}")
    return "; ".join(said)
