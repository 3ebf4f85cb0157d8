"""Who is let in, what is noted about them, and what is said when a door stands open."""

from __future__ import annotations

import asyncio
import logging

import pytest
from pydantic import ValidationError

from otel_moesif import ConfigError, Refused, Unauthenticated
from otel_moesif.receivers.otlp.access import Access, AccessSettings, client_address
from otel_moesif.receivers.otlp.receiver import OtlpReceiver
from otel_moesif.receivers.otlp.settings import OtlpSettings
from tests.receivers.doors import Authority, Counters, Password, Recorder, context


class Health:
    """An extension that judges nobody."""

    async def start(self) -> None: ...

    async def shutdown(self) -> None: ...


def access(extensions=None, meter=None, **options) -> Access:
    settings = AccessSettings.model_validate(options)
    return Access.of(settings, context(extensions, meter), "protocols::grpc")


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:50000", "192.0.2.1"),
        ("ipv6:[2001:db8::1]:50000", "2001:db8::1"),
        ("ipv6:%5B2001:db8::1%5D:50000", "2001:db8::1"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:50000", "192.0.2.1"),
        ("192.0.2.1:50000", "192.0.2.1"),
        ("[2001:db8::1]:50000", "2001:db8::1"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unix:/run/otlp.sock", "unix"),
        ("", ""),
    ],
)
def test_an_address_is_the_same_from_every_transport(peer, address):
    assert client_address(peer) == address


def test_without_an_authenticator_everybody_is_let_in_and_nothing_is_noted():
    assert asyncio.run(access().admit({"authorization": "x"}, "ipv4:192.0.2.1:1")) == {}
    assert not access().authenticates


def test_who_it_was_is_noted_even_if_nobody_was_asked():
    """Else a client could say itself who it is, where another would have been named."""
    noted = asyncio.run(access(include_metadata=True).admit({}, "192.0.2.1:1"))
    assert noted == {"otel_moesif.client.address": "192.0.2.1", "otel_moesif.auth.subject": ""}


def test_an_authenticator_decides_and_refusals_are_counted():
    counters = Counters()
    door = access({"word": Password()}, counters.meter, auth={"authenticator": "word"})
    assert door.authenticates
    assert asyncio.run(door.admit({"authorization": "sesame"}, "192.0.2.1:1")) == {}
    for headers in ({}, {"authorization": "wrong"}):
        with pytest.raises(Unauthenticated):
            asyncio.run(door.admit(headers, "192.0.2.1:1"))
    assert counters.denied() == {"unauthenticated": 2}


def test_what_an_authenticator_cannot_judge_is_to_be_tried_again():
    class Unsure(Password):
        async def authenticate(self, headers):
            raise Refused("the issuer is away", 10)

    counters = Counters()
    door = access({"word": Unsure()}, counters.meter, auth={"authenticator": "word"})
    with pytest.raises(Refused, match="the issuer is away"):
        asyncio.run(door.admit({}, "192.0.2.1:1"))
    assert counters.denied() == {"authenticator": 1}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("oidc", 'extension "oidc" is not in service::extensions (authenticators there: word, word/b)'),
        ("health", 'extension "health" does not authenticate (authenticators there: word, word/b)'),
        ("?", '"?" is not a component id (type or type/name, for example moesif/eu)'),
    ],
)
def test_an_authenticator_must_be_in_service_and_able(name, problem):
    extensions = {"word": Password(), "health": Health(), "word/b": Password()}
    with pytest.raises(ConfigError) as caught:
        access(extensions, auth={"authenticator": name})
    assert [str(x) for x in caught.value.problems] == [f"protocols::grpc::auth::authenticator: {problem}"]


def test_without_any_authenticator_that_is_said():
    with pytest.raises(ConfigError, match=r"\(authenticators there: none\)"):
        access(auth={"authenticator": "oidc"})


def test_an_extension_whose_own_options_are_wrong_is_reported_once():
    """It stands as None among the extensions; nobody gets in should anything start all the same."""
    door = access({"oidc": None}, auth={"authenticator": "oidc"})
    with pytest.raises(Refused):
        asyncio.run(door.admit({}, "192.0.2.1:1"))


def test_an_authenticator_must_be_named():
    with pytest.raises(ValidationError, match="authenticator"):
        AccessSettings.model_validate({"auth": {}})


# -- both protocols -----------------------------------------------------------------------------------------


def receiver(protocols: dict, extensions=None) -> OtlpReceiver:
    return OtlpReceiver(OtlpSettings.model_validate({"protocols": protocols}), context(extensions))


def test_problems_of_both_protocols_are_told_at_once():
    auth = {"auth": {"authenticator": "oidc"}}
    with pytest.raises(ConfigError) as caught:
        receiver({"grpc": auth, "http": auth})
    assert [x.path for x in caught.value.problems] == [
        "protocols::grpc::auth::authenticator",
        "protocols::http::auth::authenticator",
    ]


def test_both_protocols_listen_and_stop():
    async def run():
        both = receiver({"grpc": {"endpoint": "127.0.0.1:0"}, "http": {"endpoint": "127.0.0.1:0"}})
        await both.shutdown()  # safe unstarted
        await both.start(Recorder())
        assert both.port
        assert both.http_port
        assert both.port != both.http_port
        for port in (both.port, both.http_port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
        await both.shutdown()
        await both.shutdown()
        for port in (both.port, both.http_port):
            with pytest.raises(OSError, match="Connect call failed"):
                await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(run())


def test_one_protocol_that_cannot_listen_ends_the_other():
    async def run():
        first = receiver({"http": {"endpoint": "127.0.0.1:0"}})
        await first.start(Recorder())
        assert first.port == 0
        taken = f"127.0.0.1:{first.http_port}"
        second = receiver({"grpc": {"endpoint": "127.0.0.1:0"}, "http": {"endpoint": taken}})
        with pytest.raises(Exception, match="cannot listen on"):
            await second.start(Recorder())
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", second.port)
        await first.shutdown()

    asyncio.run(run())


READ = "what is sent can be read and changed on the way"
SEND = "whoever reaches it may send"


@pytest.mark.parametrize(
    ("endpoint", "options", "said"),
    [
        ("localhost:0", [], None),
        ("127.0.0.1:0", [], None),
        ("[::1]:0", [], None),
        ("0.0.0.0:0", [], f"{READ} and {SEND} (set protocols::http::tls and protocols::http::auth, or"),
        ("0.0.0.0:0", ["auth"], f"{READ} (set protocols::http::tls, or"),
        ("0.0.0.0:0", ["tls"], f"{SEND} (set protocols::http::auth, or"),
        ("0.0.0.0:0", ["tls", "client_ca_file"], None),
        ("0.0.0.0:0", ["tls", "auth"], None),
    ],
)
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_door_that_stands_open_is_said(protocol, endpoint, options, said, caplog, tmp_path):
    authority = Authority(tmp_path)
    settings: dict = {"endpoint": endpoint}
    if "tls" in options:
        settings["tls"] = authority.write()
    if "client_ca_file" in options:
        settings["tls"]["client_ca_file"] = str(authority.file("clients.pem"))
    if "auth" in options:
        settings["auth"] = {"authenticator": "word"}

    async def run():
        one = receiver({protocol: settings}, {"word": Password()})
        try:
            await one.start(Recorder())
        except Exception as error:  # noqa: BLE001 - a machine without IPv6
            assert "cannot listen" in str(error)  # noqa: PT017
        await one.shutdown()

    asyncio.run(run())
    warnings = [x.getMessage() for x in caplog.records if x.levelno == logging.WARNING]
    if said is None:
        assert warnings == []
    else:
        assert len(warnings) == 1
        expected = said.replace("http", protocol)
        assert warnings[0].startswith(
            f"protocols::{protocol}::endpoint {endpoint} is open to other machines:"
        )
        assert expected in warnings[0]
