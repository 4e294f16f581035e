"""Which proxy the environment names for an address, by curl's rules."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

DEFAULT_PORT = 3128
DIRECT = "direct"
"""In the place of a proxy: none."""


def proxy_for(parts: SplitResult, environment: Mapping[str, str]) -> SplitResult | None:
    """The proxy for an address of http:// or https://; None where it is reached directly."""
    # HTTP_PROXY is left out by custom: a web server sets it from a header of whoever asks.
    names = ("https_proxy", "HTTPS_PROXY") if parts.scheme == "https" else ("http_proxy",)
    address = next((environment[name] for name in names if environment.get(name)), "")
    if not address:
        return None
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # only missing in the stubs

    excepted = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if proxy_bypass_environment(parts.hostname or "", {"no": excepted}):
        return None
    return proxy_at(address)


def proxy_at(address: str) -> SplitResult:
    """The proxy at an address, with http:// or without."""
    return urlsplit(address if "://" in address else f"http://{address}")


def authorization(proxy: SplitResult) -> dict[str, str]:
    """The header by which a proxy is told the user that its address names; empty where it names none."""
    if proxy.username is None:
        return {}
    import base64
    from urllib.parse import unquote

    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(user.encode()).decode("ascii")}
