"""Whether Moesif would take events under an application id, for ``otel-moesif check``."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic_core import from_json

from otel_moesif import Checked
from otel_moesif.exporters.moesif.answer import excerpt, masked, remedy
from otel_moesif.exporters.moesif.client import Answer, get
from otel_moesif.exporters.moesif.proxy import find_proxy, place, proxy_option
from otel_moesif.exporters.moesif.settings import MOESIF, MoesifSettings
from otel_moesif.exporters.moesif.unreachable import UnreachableError

_EXCERPT = 200
# The read API, which knows nothing of application ids, and Moesif's pages.
_OTHER_HOSTS = {"api.moesif.com", "www.moesif.com", "moesif.com"}
# One of them is in every app config (apidocs, config response; moesifapi-java's fixtures).
_IN_EVERY_CONFIG = ("sample_rate", "app_id", "org_id")


async def check_application(
    client: httpx.AsyncClient, settings: MoesifSettings, application_id: str
) -> Checked:
    """Ask for the app config, which needs what events need and changes nothing.

    Args:
        client: See `make_client`.
        settings: Of the exporter.
        application_id: Of one tenant.

    Returns:
        The verdict; nothing is raised because of the connection.
    """
    subject = f"{settings.endpoint}, application id {masked(application_id)}"
    if proxy := find_proxy(settings):
        subject += f", through the proxy {place(proxy)}"
    began = time.perf_counter()
    try:
        answer = await get(client, "/v1/config", application_id, settings)
    except UnreachableError as error:
        return Checked(
            ok=False, subject=subject, verdict=error.what, remedy=error.remedy or _silent(settings)
        )
    milliseconds = (time.perf_counter() - began) * 1000
    if answer.status in {200, 304}:
        rates = _rates(answer)
        if rates is not None:
            verdict = f"accepted in {milliseconds:.0f} ms over {answer.http_version}"
            return Checked(ok=True, subject=subject, verdict=f"{verdict}; {_said(settings, rates)}")
        verdict = f"HTTP {answer.status}, but what came is not Moesif's: {_quoted(answer, application_id)}"
        advice = f"check endpoint: is it the collector API, {MOESIF}?"
    else:
        verdict = f"HTTP {answer.status}: {_quoted(answer, application_id)}".rstrip(": ")
        advice = remedy(answer.status) or _waiting(answer.status)
    return Checked(
        ok=False, subject=subject, verdict=verdict, remedy=_wrong_endpoint(settings, answer) or advice
    )


def _silent(settings: MoesifSettings) -> str:
    """What to do about one who hangs, or closes the connection instead of an answer."""
    options = " and ".join(filter(None, ["endpoint", proxy_option(settings)]))
    return (
        f"check {options}: is it a collector API that listens there? If it is only slow, set a longer timeout"
    )


def _rates(answer: Answer) -> str | None:
    """The rates in an app config; None if it is none."""
    if answer.status == 304:
        return "rates unchanged"
    try:
        config = from_json(answer.body)
    except ValueError:
        return None
    if not isinstance(config, dict) or not any(key in config for key in _IN_EVERY_CONFIG):
        return None
    rate = config.get("sample_rate", 100)
    everybody = f"{rate:g} %" if isinstance(rate, int | float) else "an unknown part"
    counts = (
        _counted(config.get("user_sample_rate"), "user", "users"),
        _counted(config.get("company_sample_rate"), "company", "companies"),
        _counted(config.get("regex_config"), "regex rule", "regex rules"),
    )
    others = ", ".join(filter(None, counts))
    return f"rates: {everybody} of all calls" + (f"; others for {others}" if others else "")


def _counted(rates: Any, one: str, many: str) -> str:
    count = len(rates) if isinstance(rates, dict | list) else 0
    return f"{count} {one if count == 1 else many}" if count else ""


def _said(settings: MoesifSettings, rates: str) -> str:
    return rates if settings.sampling.enabled else f"{rates} (not applied: sampling::enabled is false)"


def _quoted(answer: Answer, application_id: str) -> str:
    if answer.location and 300 <= answer.status < 400:
        return f"it points to {excerpt(answer.location.encode(), application_id)[:_EXCERPT]}"
    return excerpt(answer.body, application_id)[:_EXCERPT]


def _waiting(status: int) -> str:
    if status == 429 or status >= 500:
        return "nothing to set right here; events are kept until it answers"
    return f"check endpoint: the collector API is {MOESIF}"


def _wrong_endpoint(settings: MoesifSettings, answer: Answer) -> str:
    """What is known to be wrong about an endpoint that answers, but not well."""
    url = urlsplit(settings.endpoint)
    if url.hostname in _OTHER_HOSTS:
        return f"set endpoint to {MOESIF}: {url.hostname} is not the collector API"
    if "/v1" in url.path and answer.status not in {401, 402, 403}:
        return f"take {url.path} out of endpoint: /v1/config and the like are added to it"
    return ""
