"""The exporter as a whole, against the sandbox: tenants, rates, limits, profiles, and what a stop leaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from otel_moesif_sandbox import Sandbox

from otel_moesif import Checkable, ComponentId, Context, PausedError, PermanentError, RoutingExporter
from otel_moesif.exporters.moesif import FACTORY
from otel_moesif.exporters.moesif.config_poll import CURRENT

ID = "eyJhcHAiOiJ0ZXN0In0.secret-part-wxyz"
ACME = "eyJhcHAiOiJhY21lIn0.secret-part-acme"


class Meters:
    """A context whose counters can be read."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        meter = MeterProvider([self.reader], shutdown_on_exit=False).get_meter("test")
        self.context = Context(ComponentId("moesif"), logging.getLogger("test.moesif"), meter)

    def points(self, name: str) -> list:
        data = self.reader.get_metrics_data()
        metrics = (
            [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        )
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]

    def total(self, name: str) -> int:
        return sum(point.value for point in self.points(name))


@pytest.fixture
def meters():
    return Meters()


@pytest.fixture
def calls(events):
    """Events of just now, each with an id of its own."""

    def make(count=1, age=timedelta(0), **changes):
        time = datetime.now(UTC) - age
        row = {"requestTimestamp": time, "responseTimestamp": time, **changes}
        return events(*({**row, "transactionId": str(uuid.uuid4())} for _ in range(count)))

    return make


@contextlib.asynccontextmanager
async def running(sandbox, meters, **options):
    settings = FACTORY.config(**{"endpoint": sandbox.url, "application_id": ID, **options})
    exporter = FACTORY.build(settings, meters.context)
    await exporter.start()
    try:
        yield exporter
    finally:
        await exporter.shutdown()


def with_sandbox(test):
    """Run an async test body with a sandbox."""

    async def run():
        async with Sandbox("127.0.0.1:0") as sandbox:
            await test(sandbox)

    asyncio.run(run())


ROUTING = {"from": "companyId", "table": {"acme": ACME}}


def test_events_go_to_their_tenants_application(meters, events, calls):
    async def body(sandbox):
        async with running(sandbox, meters, routing=ROUTING) as exporter:
            assert isinstance(exporter, RoutingExporter)
            assert list(exporter.routes) == ["acme"]
            assert await exporter.export(calls(3, companyId="acme")) == 3
            assert await exporter.export(calls(2, companyId="other")) == 2
        assert len(sandbox.events_of(ACME)) == 3
        assert len(sandbox.events_of(ID)) == 2

    with_sandbox(body)


def test_a_tenant_whose_key_is_wrong_pauses_and_the_message_has_the_remedy_and_no_key(meters, calls):
    async def body(sandbox):
        sandbox.accept_only([ID])
        async with running(sandbox, meters, routing=ROUTING) as exporter:
            with pytest.raises(PausedError, match="application_id") as raised:
                await exporter.export(calls(companyId="acme"))
            assert "secret-part" not in str(raised.value)
            await exporter.export(calls(companyId="other"))
            sandbox.accept_only(None)
            await exporter.export(calls(companyId="acme"))

    with_sandbox(body)


def test_rates_of_moesif_are_applied_with_weights_and_what_is_left_out_is_counted(meters, calls):
    async def body(sandbox):
        sandbox.set_config({"sample_rate": 25})
        batch = calls(4000)
        async with running(sandbox, meters) as exporter:
            sent = await exporter.export(batch)
            again = await exporter.export(batch)
        assert sent == again == len({e["transaction_id"] for e in sandbox.events})  # decided alike
        assert 850 < sent < 1150
        assert {event["weight"] for event in sandbox.events} == {4}
        assert meters.total("otelcol_exporter_sampled_out_events") == 2 * (4000 - sent)

    with_sandbox(body)


@pytest.mark.parametrize(("compatibility", "user"), [("wso2", "admin"), ("none", "admin@carbon.super")])
def test_rates_and_profiles_are_those_of_the_user_that_the_events_name(meters, calls, compatibility, user):
    async def body(sandbox):
        options = {"compatibility": compatibility, "users": {"enabled": True}}
        async with running(sandbox, meters, **options) as exporter:
            assert await exporter.export(calls(3, userName="admin@carbon.super")) == 3
        assert {event["user_id"] for event in sandbox.events} == {user}
        assert list(sandbox.users) == [user]
        sandbox.set_config({"user_sample_rate": {user: 0}})
        async with running(sandbox, meters, **options) as exporter:
            assert await exporter.export(calls(3, userName="admin@carbon.super")) == 0

    with_sandbox(body)


def test_rates_change_as_soon_as_an_answer_names_another_config(meters, calls):
    async def body(sandbox):
        async with running(sandbox, meters) as exporter:
            assert await exporter.export(calls(10)) == 10
            sandbox.set_config({"sample_rate": 0})
            await exporter.export(calls(1))  # its answer names the new config
            async with asyncio.timeout(60):
                while await exporter.export(calls(10)):
                    await asyncio.sleep(0.1)

    with_sandbox(body)


def test_each_tenant_has_rates_of_its_own_and_sampling_can_be_switched_off(meters, calls):
    async def body(sandbox):
        sandbox.set_config({"sample_rate": 0}, ACME)
        async with running(sandbox, meters, routing=ROUTING) as exporter:
            assert await exporter.export(calls(5, companyId="acme")) == 0
            assert await exporter.export(calls(5)) == 5
            current = meters.points(CURRENT)
            told = {(point.attributes["exporter"], point.attributes["application"]) for point in current}
            assert told == {("moesif", "…wxyz"), ("moesif", "…acme")}
        async with running(sandbox, meters, routing=ROUTING, sampling={"enabled": False}) as exporter:
            assert await exporter.export(calls(5, companyId="acme")) == 5

    with_sandbox(body)


def test_what_moesif_never_takes_is_named_before_anything_is_sent(meters, events, calls):
    async def body(sandbox):
        async with running(sandbox, meters, routing=ROUTING) as exporter:
            old = {"requestTimestamp": datetime.now(UTC) - timedelta(days=31)}
            new = {"requestTimestamp": datetime.now(UTC)}
            with pytest.raises(PermanentError, match="older than 30 days") as raised:
                await exporter.export(events(new, {**old, "companyId": "acme"}, new, old))
            assert raised.value.rows in ([1], [3])  # one tenant's at a time
            huge = {**new, "transactionId": str(uuid.uuid4()), "apiName": "x" * 1_100_000}
            with pytest.raises(PermanentError, match="larger than 1,000,000 bytes") as raised:
                await exporter.export(events(new, new, huge))
            assert raised.value.rows == [2]
        assert sandbox.events == []

    with_sandbox(body)


def test_late_events_are_sent_and_counted(meters, calls):
    async def body(sandbox):
        async with running(sandbox, meters) as exporter:
            assert await exporter.export(calls(3, age=timedelta(minutes=6))) == 3
            await exporter.export(calls(2, age=timedelta(minutes=4)))
        assert meters.total("otelcol_exporter_moesif_late_events") == 3

    with_sandbox(body)


def test_a_batch_of_large_events_goes_out_in_requests_below_5_mb(meters, calls):
    async def body(sandbox):
        text = '{"a": "' + "x" * 400_000 + '"}'
        async with running(sandbox, meters, compression="none") as exporter:
            assert await exporter.export(calls(20, responseBody=text)) == 20
        requests = sandbox.stats["requests"]["total"]
        assert requests >= 2
        assert sandbox.stats["bytes"]["inflated"] / requests < 5_000_000
        assert len(sandbox.events) == 20

    with_sandbox(body)


def test_profiles_and_actions_follow_the_events_once(meters, calls):
    async def body(sandbox):
        options = {
            "users": {"enabled": True, "metadata": {"application": "applicationName"}},
            "companies": {"enabled": True},
            "actions": [{"name": "Quota exceeded", "where": "errorType = 'THROTTLED'"}],
        }
        async with running(sandbox, meters, **options) as exporter:
            await exporter.export(calls(50, applicationName="Shop", companyId="acme"))
            await exporter.export(calls(50, companyId="acme"))
            await exporter.export(calls(2, eventType="fault", errorType="THROTTLED", proxyResponseCode=429))
        assert list(sandbox.users) == ["alice"]
        assert sandbox.users["alice"]["metadata"] == {"application": "Shop"}
        assert list(sandbox.companies) == ["acme"]
        assert [action["action_name"] for action in sandbox.actions] == ["Quota exceeded"] * 2

    with_sandbox(body)


def test_a_failing_profile_endpoint_delays_no_event(meters, calls):
    async def body(sandbox):
        sandbox.behave(kind="users", status=503)
        async with running(sandbox, meters, users={"enabled": True}) as exporter:
            for _ in range(5):
                async with asyncio.timeout(2):
                    assert await exporter.export(calls(10)) == 10
        assert sandbox.users == {}

    with_sandbox(body)


def test_check_says_for_each_application_whether_it_is_accepted(meters):
    async def body(sandbox):
        sandbox.accept_only([ID])
        async with running(sandbox, meters, routing=ROUTING) as exporter:
            assert isinstance(exporter, Checkable)
            good, bad = await exporter.check()
        assert good.ok
        assert "…wxyz" in good.subject
        assert not bad.ok
        assert "…acme" in bad.subject
        assert "application" in bad.remedy
        assert "secret-part" not in f"{good}{bad}"

    with_sandbox(body)


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"application_id": None}, ["application_id"]),
        ({"identity": {"user_id": ["userNam"]}}, ["identity::user_id::0"]),
        (
            {"routing": {"from": "tenant", "table": {"a": "b"}}, "users": {"metadata": {"x": "nope"}}},
            ["routing::from", "users::metadata::x"],
        ),
        ({"actions": [{"name": "n", "where": "nope > 1"}]}, ["actions[0]::where"]),
    ],
)
def test_options_that_do_not_fit_are_refused_with_their_places_all_at_once(meters, options, paths):
    from otel_moesif import ConfigError  # noqa: PLC0415

    with pytest.raises(ConfigError) as raised:
        FACTORY.build(FACTORY.config(**{"application_id": ID, **options}), meters.context)
    assert [problem.path for problem in raised.value.problems] == paths
