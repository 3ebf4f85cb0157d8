"""Asks Moesif for its sampling rates, regularly and when an answer says that they changed."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http import HTTPStatus
from typing import TypeAlias

from opentelemetry.metrics import Meter

from otel_moesif.exporters.moesif.answer import remedy
from otel_moesif.exporters.moesif.app_config import AppConfig, normal_etag
from otel_moesif.exporters.moesif.client import CONFIG_CAP, Answer
from otel_moesif.exporters.moesif.unreachable import UnreachableError

Ask: TypeAlias = Callable[[str | None], Awaitable[Answer]]
"""Gets the app config, unless it is the one of this entity tag; raises `UnreachableError`."""

REQUESTS = "otelcol_exporter_moesif_config_requests"
CURRENT = "otelcol_exporter_moesif_config_current"

_LEAST_PAUSE = 2.0  # seconds between two requests, whatever happens
_JITTER = 0.1  # of the interval, so that many collectors do not ask at once
_LONGEST_ETAG = 256
_MOST_TRIED = 100
_MOST_DOUBLINGS = 20


@dataclass(frozen=True)
class PollSettings:
    """How to ask.

    Attributes:
        interval: How often, give or take a tenth.
        name: Of the application in messages, for example ``…1234``; never the id itself.
        attributes: Of the metrics: which exporter and application this is.
        least_pause: Seconds between two requests, whatever happens.
    """

    interval: timedelta
    name: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    least_pause: float = _LEAST_PAUSE


class _Failure(Exception):  # noqa: N818 - never leaves this module
    """No config came.

    Args:
        result: For the counter: one of few fixed texts.
        message: For people.
        wait: Seconds that the answer asks to wait.
    """

    def __init__(self, result: str, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.result, self.wait = result, wait or 0.0


class ConfigPoll:
    """The app config of one application id, kept up to date.

    Whatever goes wrong, the last good config stays; before the first one everything is kept, as in all of
    Moesif's integrations (moesif.md §2.4). All methods belong to one event loop.

    Args:
        ask: Asks for it, within a bound of time.
        settings: How often to ask.
        meter: For the counter of requests, and a gauge: 1 while the last answer was good, else 0.
        logger: Of the exporter.
        chance: Gives numbers from 0 to below 1.
    """

    def __init__(
        self,
        ask: Ask,
        settings: PollSettings,
        meter: Meter,
        logger: logging.Logger,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._get, self._settings, self._logger, self._chance = ask, settings, logger, chance
        self._requests = meter.create_counter(REQUESTS, description="Requests for sampling rates, by result")
        self._current = meter.create_gauge(CURRENT, description="1: the sampling rates are Moesif's latest")
        self._config: AppConfig | None = None
        self._etag = ""  # as it came, which is how it is sent
        self._digest = b""  # of the body that it was made of
        self._task: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()
        self._wanted = asyncio.Event()
        self._latest = ""  # of the etags that were wanted
        self._tried: set[str] = set()  # etags that were asked for since the last regular request
        self._failures = 0  # since the last good answer
        self._told: set[str] = set()  # of their results

    @property
    def config(self) -> AppConfig:
        """The last good one."""
        return self._config or AppConfig()

    async def start(self) -> None:
        """Begin to ask, in the background."""
        self._task = asyncio.create_task(self._run(), name=f"moesif-config-{self._settings.name}")

    async def asked(self, timeout: float) -> bool:  # noqa: ASYNC109 - the caller has nothing to add
        """Wait until the first request had its answer, good or not, but not longer than so many seconds."""
        try:
            await asyncio.wait_for(self._asked.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def shutdown(self) -> None:
        """Stop asking; safe unstarted and twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def seen(self, etag: str | None) -> None:
        """Hear which config an event's answer was given under, and ask at once if that is another.

        Once per etag between two regular requests: should answers for ever name one that ``/v1/config``
        does not have, or two in turn, this is not to become a flood.

        Args:
            etag: Value of ``X-Moesif-Config-ETag``, if there was one.
        """
        wanted = normal_etag(etag)
        if not wanted or wanted in self._tried or len(self._tried) >= _MOST_TRIED:
            return
        if self._config is None or wanted != self._config.etag:
            self._tried.add(wanted)
            self._latest = wanted
            self._wanted.set()

    async def _run(self) -> None:
        while True:
            self._wanted.clear()
            pause = await self._ask()
            self._asked.set()
            await asyncio.sleep(self._settings.least_pause)
            if self._config is not None and self._config.etag == self._latest:
                self._wanted.clear()  # what was wanted meanwhile came
            try:
                async with asyncio.timeout(max(0.0, pause - self._settings.least_pause)):
                    await self._wanted.wait()
            except TimeoutError:
                self._tried.clear()

    async def _ask(self) -> float:
        """Send one request, and give the seconds until the next regular one."""
        try:
            result = await self._fetch()
        except _Failure as failure:
            return self._failed(failure)
        except UnreachableError as error:
            return self._failed(_Failure("unreachable", str(error)))
        except Exception as error:  # noqa: BLE001 - counted; what is unforeseen must not end the polling
            return self._failed(_Failure("error", type(error).__name__))
        self._count(result, current=1)
        if self._failures:
            self._logger.info("%s: sampling rates can be had again", self._name)
        self._failures = 0
        self._told.clear()
        return self._settings.interval.total_seconds() * (1 + _JITTER * (2 * self._chance() - 1))

    def _failed(self, failure: _Failure) -> float:
        """Tell each way of failing once, and give the seconds until the next try: more and more."""
        self._count(failure.result, current=0)
        if failure.result not in self._told:
            meanwhile = "every call is kept" if self._config is None else "the last known ones count"
            self._logger.warning("%s: no sampling rates: %s; %s", self._name, failure, meanwhile)
        self._told.add(failure.result)
        self._failures = min(self._failures + 1, _MOST_DOUBLINGS)
        interval = self._settings.interval.total_seconds()
        backoff = self._settings.least_pause * 2.0**self._failures
        return max(min(interval, backoff * (0.5 + self._chance() / 2)), failure.wait)

    async def _fetch(self) -> str:
        answer = await self._get(self._etag or None)
        if answer.status == HTTPStatus.NOT_MODIFIED and self._config is not None:
            return "unchanged"
        if not 200 <= answer.status < 300:
            said = f"HTTP {answer.status} ({remedy(answer.status)})".removesuffix(" ()")
            result = "refused" if answer.status in {401, 402, 403} else "http_error"
            raise _Failure(result, said, answer.retry_after)
        if len(answer.body) >= CONFIG_CAP:
            raise _Failure("too_large", f"the answer is larger than {CONFIG_CAP >> 20} MiB")
        return await self._take(answer.body, _usable(answer.config_etag))

    async def _take(self, body: bytes, etag: str) -> str:
        digest = hashlib.sha256(body).digest()
        if self._config is not None and digest == self._digest:
            self._config, self._etag = replace(self._config, etag=normal_etag(etag)), etag
            return "unchanged"
        try:
            # megabytes of JSON and a hundred regular expressions take their time
            config = await asyncio.to_thread(AppConfig.parse, body, etag)
        except ValueError as error:
            raise _Failure("invalid", str(error)) from None
        known = self._config.problems if self._config else ()
        self._config, self._etag, self._digest = config, etag, digest
        for problem in config.problems:
            if problem not in known:
                self._logger.warning("%s: sampling: %s", self._name, problem)
        self._logger.info(
            "%s: sampling rates: %g %% of all calls, %d users, %d companies, %d regex rules",
            self._name,
            config.sample_rate,
            len(config.user_sample_rate),
            len(config.company_sample_rate),
            len(config.regex_config),
        )
        return "changed"

    def _count(self, result: str, *, current: int) -> None:
        self._requests.add(1, {**self._settings.attributes, "result": result})
        self._current.set(current, dict(self._settings.attributes))

    @property
    def _name(self) -> str:
        return f"moesif {self._settings.name}".rstrip()


def _usable(etag: str | None) -> str:
    """An entity tag that can be sent back."""
    etag = (etag or "").strip()
    return etag if len(etag) <= _LONGEST_ETAG and etag.isascii() and etag.isprintable() else ""
