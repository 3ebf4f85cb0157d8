"""Log records without ids: each is a call of its own, and has the same id when its request comes again."""

from __future__ import annotations

import uuid

from otel_moesif.otlp.decode import decode_logs
from otel_moesif.processors.apim_event.processor import NAMESPACE
from tests.dialects.otlp import START, Record, apim_event, log_request

ENVOY = {"log_name": "otel_envoy_accesslog"}
ACCESS = {
    "method": "GET",
    "path": "/a/b",
    "response_code": "200",
    "response_flags": "-",
    "x-forwarded-for": "203.0.113.9",
}


def request(*records):
    return log_request(*(Record(None, ACCESS | more) for more in records), resource=ENVOY)


def ids(*requests):
    return apim_event().process(decode_logs(requests)).frame["transactionId"].to_list()


def test_a_record_that_is_alone_is_named_by_what_it_says():
    name = f"log:{START}:203.0.113.9:GET"
    assert ids(request({})) == [str(uuid.uuid5(uuid.UUID(NAMESPACE), name))]


def test_like_records_of_one_request_are_different_calls():
    found = ids(request({}, {}, {"method": "PUT"}, {}))
    assert len({*found}) == 4
    assert found[0] == ids(request({}))[0]


def test_a_request_that_comes_again_has_the_same_ids_whatever_comes_with_it():
    batch = request({}, {"method": "PUT"}, {})
    alone = ids(batch)
    together = ids(request({}, {}, {}, {}), batch, request({"method": "PUT"}), batch)
    assert together[4:7] == together[8:] == alone


def test_a_record_with_ids_is_named_by_them_however_often_it_comes():
    traced = log_request(*[Record(None, ACCESS, trace=1, span=2)] * 2, resource=ENVOY)
    assert len({*ids(traced)}) == 1
