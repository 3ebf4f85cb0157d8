"""Routing by tenant: values, application ids, and what belongs to none."""

from __future__ import annotations

import polars as pl
import pytest

from otel_moesif import Events, PermanentError
from otel_moesif.exporters.moesif.settings import MoesifSettings
from otel_moesif.exporters.moesif.tenants import Tenants

TABLE = {"acme": "id-acme", "acme-test": "id-acme", "zeta": "id-zeta", "a,b": "id-comma"}


def tenants(
    unknown="default", column="companyId", application_id: str | None = "id-default", **table
) -> Tenants:
    routing = {"from": column, "table": table or TABLE, "unknown": unknown}
    return Tenants(MoesifSettings(application_id=application_id, routing=routing))


def events(*companies: str | None, **columns) -> Events:
    numbers = list(map(str, range(len(companies))))
    frame = pl.DataFrame({"companyId": pl.Series(companies, dtype=pl.String), "correlationId": numbers})
    return Events(frame.with_columns(pl.Series(name, values) for name, values in columns.items()))


def shares(found) -> dict[str, list[str]]:
    return {share.application_id: share.frame["correlationId"].to_list() for share in found}


def test_a_batch_is_split_by_application_id_and_two_values_may_share_one():
    batch = events("acme", "zeta", "unheard", "acme-test", None, "a,b")
    assert shares(tenants().shares(batch)) == {
        "id-acme": ["0", "3"],
        "id-zeta": ["1"],
        "id-default": ["2", "4"],
        "id-comma": ["5"],
    }


def test_routes_are_named_after_values_and_can_stand_in_a_lanes_name():
    found = tenants()
    digest = "route-1eb7c54d52831bbf"
    assert found.routes == ["acme", "zeta", digest]
    routes = found.route(events("acme-test", "zeta", "unheard", "a,b")).to_list()
    assert routes == ["acme", "zeta", None, digest]


def test_no_tenant_gets_the_route_of_another_whatever_stands_before_it_in_the_table():
    comma = tenants(**{"a,b": "id-comma"}).routes
    assert tenants(new="id-new", **{"a,b": "id-comma"}).routes == ["new", *comma]
    for number in range(4):
        found = tenants(**{f"route-{number}": "id-literal", "a,b": "id-comma"})
        batch = events(f"route-{number}", "a,b")
        assert shares(found.shares(batch)) == {"id-literal": ["0"], "id-comma": ["1"]}


def test_a_value_that_leads_to_the_default_id_takes_the_default_route():
    found = tenants(acme="id-default", zeta="id-zeta")
    assert found.routes == ["zeta"]
    assert shares(found.shares(events("acme", "other"))) == {"id-default": ["0", "1"]}


def test_values_may_come_from_a_custom_property_or_a_number():
    batch = events("x", "x", customProperties=['{"tenant": "zeta"}', '{"tenant": 7}'])
    found = tenants(column="property.tenant", **{"7": "id-seven", "zeta": "id-zeta"})
    assert shares(found.shares(batch)) == {"id-zeta": ["0"], "id-seven": ["1"]}
    by_status = tenants(column="proxyResponseCode", **{"404": "id-missing"})
    batch = events("x", "x", proxyResponseCode=[200, 404])
    assert shares(by_status.shares(batch)) == {"id-default": ["0"], "id-missing": ["1"]}


def test_unknown_values_go_to_the_dead_letters_if_that_is_wanted_and_the_message_names_no_value():
    found = tenants("dead_letter", application_id=None)
    with pytest.raises(PermanentError, match="no application id for its companyId") as raised:
        found.shares(events("acme", "secret-tenant", None))
    assert list(raised.value.rows) == [1, 2]
    assert "secret-tenant" not in str(raised.value)
    assert shares(found.shares(events("acme"))) == {"id-acme": ["0"]}


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ({"column": "company"}, "routing::from", "did you mean companyId"),
        ({"column": "requestHeaders"}, "routing::from", "is a list"),
        ({"application_id": None}, "application_id", "unknown: dead_letter"),
    ],
)
def test_what_is_wrong_with_the_table_is_said_with_its_place(options, path, words):
    (problem,) = tenants(**options).problems()
    assert problem.path == path
    assert words in problem.message


def test_without_routing_there_is_one_share_and_an_application_id_is_needed():
    plain = Tenants(MoesifSettings(application_id="id-default"))
    assert shares(plain.shares(events("acme", None))) == {"id-default": ["0", "1"]}
    assert plain.routes == []
    (problem,) = Tenants(MoesifSettings()).problems()
    assert "is required" in problem.message
