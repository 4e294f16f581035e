"""The time that a server tells with its answer."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from http.client import HTTPMessage


def offset_of(headers: HTTPMessage, received: float) -> float | None:
    """The node's clock at ``received`` (seconds since 1970) minus the server's; None without a Date, and with one that
    a cache kept."""
    if headers.get("Age", "0").strip() not in ("", "0"):
        return None
    try:
        moment = parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return received - moment
