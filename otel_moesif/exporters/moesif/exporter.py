"""The exporter itself: batches to ``/v1/events/batch``, and beside them sampling rates, profiles, actions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import httpx
import polars as pl

from otel_moesif import (
    Checked,
    ConfigError,
    Context,
    Events,
    ExporterFactory,
    PausedError,
    PermanentError,
    RetryableError,
)
from otel_moesif.exporters.moesif.actions import Actions
from otel_moesif.exporters.moesif.answer import excerpt, failure, masked
from otel_moesif.exporters.moesif.client import Answer, get, make_client, post
from otel_moesif.exporters.moesif.config_poll import ConfigPoll, PollSettings
from otel_moesif.exporters.moesif.connection_check import check_application
from otel_moesif.exporters.moesif.default_shape import uri
from otel_moesif.exporters.moesif.preparation import Preparation, Prepared
from otel_moesif.exporters.moesif.profile_file import ProfileFile
from otel_moesif.exporters.moesif.profiles import Profiles
from otel_moesif.exporters.moesif.proxy import is_loopback
from otel_moesif.exporters.moesif.settings import MoesifSettings
from otel_moesif.exporters.moesif.side_queue import Kind, SideQueue

_BATCH = "/v1/events/batch"
# The first batch waits so long for the sampling rates; then it goes out whole.
_FIRST_RATES_SECONDS = 5.0
# What a stop leaves to profiles and actions, of the second in which exporters close their connections.
_SIDE_SECONDS = 0.7
SAMPLED_OUT = "otelcol_exporter_sampled_out_events"
LATE = "otelcol_exporter_moesif_late_events"


class MoesifExporter:
    """Ships events to Moesif's collector API, for one application or several.

    Args:
        settings: Where to, as whom, and how.
        context: Logger and meter.

    Raises:
        ConfigError: Options do not go together, or name columns that there are not.
    """

    def __init__(self, settings: MoesifSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._preparation = Preparation(settings)
        self._users = Profiles("user", settings.users, endpoint=settings.endpoint)
        self._companies = Profiles("company", settings.companies, endpoint=settings.endpoint)
        self._actions = Actions(settings.actions, uri)
        parts = (self._preparation, self._users, self._companies, self._actions)
        if problems := [problem for part in parts for problem in part.problems()]:
            raise ConfigError(problems)
        self._has_side = settings.users.enabled or settings.companies.enabled or bool(settings.actions)
        self._attributes = {"exporter": str(context.id)}
        meter = context.meter
        self._sampled_out = meter.create_counter(
            SAMPLED_OUT, description="Events that the backend's sampling rates leave out"
        )
        self._late = meter.create_counter(
            LATE, description="Events that left over five minutes after the call"
        )
        self._client: httpx.AsyncClient | None = None
        self._polls: dict[str, ConfigPoll] = {}
        self._side: SideQueue | None = None
        self._files: list[ProfileFile] = []

    async def start(self) -> None:
        """Open the client; says where it ships to, and connects when there is something to send or to ask."""
        self._client = make_client(self._settings)
        self._side = side = SideQueue(
            self._post_aside,
            {"user": self._users.forget, "company": self._companies.forget},
            self._settings.retry_on_failure,
            self._context,
        )
        self._say_where()
        self._files = self._profile_files(side)
        for file in self._files:
            await file.start()
        if self._settings.sampling.enabled:
            for application_id in self._application_ids:
                poll = self._polls[application_id] = self._poll(self._client, application_id)
                await poll.start()

    async def export(self, events: Events) -> int:
        """Send one batch.

        Returns:
            How many events Moesif has now; the others it does not want, by its sampling rates.

        Raises:
            PausedError: Moesif does not accept the application id.
            RetryableError: Moesif cannot be reached, or is busy.
            PermanentError: Moesif refuses these events.
        """
        if self._client is None:
            raise RetryableError("the exporter is not started")
        if not len(events):
            return 0
        await asyncio.gather(*(poll.asked(_FIRST_RATES_SECONDS) for poll in self._polls.values()))
        configs = {application_id: poll.config for application_id, poll in self._polls.items()}
        # encoding takes milliseconds, and polars and isal work outside the GIL
        prepared = await asyncio.to_thread(self._preparation.prepare, events, configs)
        posts = [self._post(_BATCH, body, part.application_id) for part in prepared for body in part.bodies]
        _raise_gravest(await asyncio.gather(*posts, return_exceptions=True))
        self._sampled_out.add(sum(part.frame.height - part.sent for part in prepared), self._attributes)
        self._late.add(sum(part.late for part in prepared), self._attributes)
        await self._tell_of_users(prepared)
        return sum(part.sent for part in prepared)

    async def check(self) -> Sequence[Checked]:
        """Ask with each application id whether events would be taken."""
        if self._client is None:
            raise RetryableError("the exporter is not started")
        asked = [check_application(self._client, self._settings, id_) for id_ in self._application_ids]
        return await asyncio.gather(*asked)

    async def shutdown(self) -> None:
        """Send what profiles and actions are left, close the connections, and note what was sent."""
        side, self._side = self._side, None
        if side is not None:
            await side.shutdown(_SIDE_SECONDS)
        client, self._client = self._client, None
        for poll in self._polls.values():
            await poll.shutdown()
        self._polls.clear()
        if client is not None:
            await client.aclose()
        files, self._files = self._files, []
        for file in files:  # behind the queue, which knows now what was sent
            await file.shutdown()

    # -- routing --------------------------------------------------------------------------------------

    @property
    def routes(self) -> Sequence[str]:
        """See `otel_moesif.RoutingExporter`."""
        return self._preparation.tenants.routes

    def route(self, events: Events) -> pl.Series:
        """See `otel_moesif.RoutingExporter`."""
        return self._preparation.tenants.route(events)

    # -- inside ---------------------------------------------------------------------------------------

    @property
    def _application_ids(self) -> list[str]:
        return list(dict.fromkeys(self._preparation.tenants.application_ids.values()))

    def _say_where(self) -> None:
        endpoint, ids = self._settings.endpoint, ", ".join(map(masked, self._application_ids))
        whom = "a local Moesif (sandbox or proxy)" if is_loopback(endpoint) else "Moesif"
        self._context.logger.info("moesif: shipping to %s at %s, application id %s", whom, endpoint, ids)

    def _profile_files(self, side: SideQueue) -> list[ProfileFile]:
        directory, logger = self._context.directory, self._context.logger
        if directory is None:
            return []
        return [
            ProfileFile(directory / name, profiles, partial(side.waiting, profiles.kind), logger)
            for name, profiles in (("users.sent", self._users), ("companies.sent", self._companies))
            if profiles.enabled
        ]

    def _poll(self, client: httpx.AsyncClient, application_id: str) -> ConfigPoll:
        name = masked(application_id)
        settings = PollSettings(
            self._settings.sampling.refresh_interval, name, self._attributes | {"application": name}
        )

        async def ask(etag: str | None) -> Answer:
            return await get(client, "/v1/config", application_id, self._settings, etag=etag)

        return ConfigPoll(ask, settings, self._context.meter, self._context.logger)

    async def _post(self, path: str, body: bytes, application_id: str) -> None:
        if self._client is None:
            raise RetryableError("the exporter is stopped")
        answer = await post(self._client, path, body, application_id, self._settings)
        if poll := self._polls.get(application_id):
            poll.seen(answer.config_etag)
        refusal = failure(answer.status, excerpt(answer.body, application_id), answer.retry_after)
        if refusal is not None:
            raise refusal

    async def _post_aside(self, path: str, content: bytes, application_id: str) -> None:
        await self._post(path, self._preparation.compressed(content), application_id)

    async def _tell_of_users(self, prepared: Sequence[Prepared]) -> None:
        """Make profiles and actions, also of calls that are sampled out: Moesif samples calls alone."""
        if not self._has_side:
            return
        for part in prepared:
            try:
                beside = await asyncio.to_thread(self._beside, part)
            except (Exception, pl.exceptions.PanicException):
                # the events are delivered: they must not be sent again for whatever it is
                self._context.logger.exception("moesif: cannot make profiles or actions of a batch")
                continue
            for kind, texts in beside.items():
                if self._side is not None:
                    self._side.put(kind, part.application_id, texts)

    def _beside(self, part: Prepared) -> dict[Kind, list[str]]:
        return {
            "user": self._users.seen(part.frame, part.application_id),
            "company": self._companies.seen(part.frame, part.application_id),
            "action": self._actions.made(part.frame),
        }


def _raise_gravest(results: Sequence[BaseException | None]) -> None:
    """Raise what stops most: while one request of a batch may succeed later, no event is given up."""
    failures = [result for result in results if result is not None]
    for kind in (PausedError, RetryableError, PermanentError, BaseException):
        for error in failures:
            if isinstance(error, kind):
                raise error


FACTORY = ExporterFactory(
    type="moesif",
    config=MoesifSettings,
    build=MoesifExporter,
    description="Ships events to Moesif",
)
