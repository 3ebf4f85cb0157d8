"""The keys of an issuer: read again when they change, not for everybody, and not believed blindly."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from otel_moesif import Refused, StartError
from otel_moesif.extensions import issuer_keys
from tests.extensions.issuer import NO, RSA_KEYS, Issuer, Started, judged, made, public
from tests.receivers.doors import Authority

KEY, OTHER_KEY, _ = RSA_KEYS


def test_a_new_key_is_read_when_its_id_is_seen_but_not_for_every_made_up_one(monkeypatch):
    async def run():
        with Issuer(public(KEY)) as issuer:
            async with Started(made(issuer.url), now := [1000.0]) as own:
                assert await judged(own, issuer.token(KEY)) == "gateway-1"
                before = issuer.asked.count("/keys")
                now[0] += issuer_keys._PAUSE_SECONDS
                issuer.keys = [public(KEY), public(OTHER_KEY, "k2")]
                several = [judged(own, issuer.token(OTHER_KEY, key_id="k2", jti=str(n))) for n in range(5)]
                assert await asyncio.gather(*several) == ["gateway-1"] * 5
                assert issuer.asked.count("/keys") == before + 1
                for number in range(20):
                    assert await judged(own, issuer.token(KEY, key_id=f"made up {number}")) == NO
                assert issuer.asked.count("/keys") == before + 1
                now[0] += issuer_keys._PAUSE_SECONDS
                assert await judged(own, issuer.token(KEY, key_id="made up")) == NO
                assert issuer.asked.count("/keys") == before + 2

    asyncio.run(run())


def test_another_key_under_the_same_id_is_read_but_not_for_every_wrong_signature():
    async def run():
        with Issuer(public(KEY)) as issuer:
            async with Started(made(issuer.url), now := [1000.0]) as own:
                assert await judged(own, issuer.token(KEY)) == "gateway-1"
                before = issuer.asked.count("/keys")
                issuer.keys = [public(OTHER_KEY)]
                assert await judged(own, issuer.token(OTHER_KEY)) == NO  # they were read just now
                assert issuer.asked.count("/keys") == before
                now[0] += issuer_keys._PAUSE_SECONDS
                assert await judged(own, issuer.token(OTHER_KEY)) == "gateway-1"
                assert issuer.asked.count("/keys") == before + 1
                for number in range(20):
                    assert await judged(own, issuer.token(KEY, jti=str(number))) == NO
                assert issuer.asked.count("/keys") == before + 1
                now[0] += issuer_keys._PAUSE_SECONDS
                assert await judged(own, issuer.token(KEY, jti="again")) == NO
                assert issuer.asked.count("/keys") == before + 2
                # What is wrong with a token whose signature is right needs no other key.
                now[0] += issuer_keys._PAUSE_SECONDS
                assert await judged(own, issuer.token(OTHER_KEY, aud="other")) == NO
                assert issuer.asked.count("/keys") == before + 2
                # The known keys go on judging while the issuer is away.
                issuer.answers["/keys"] = 500
                assert await judged(own, issuer.token(KEY, jti="away")) == NO
                assert await judged(own, issuer.token(OTHER_KEY, jti="away")) == "gateway-1"

    asyncio.run(run())


def test_a_key_that_was_taken_back_is_forgotten():
    async def run():
        with Issuer(public(KEY), public(OTHER_KEY, "k2")) as issuer:
            async with Started(made(issuer.url), now := [1000.0]) as own:
                assert await judged(own, issuer.token(KEY)) == "gateway-1"
                issuer.keys = [public(OTHER_KEY, "k2")]
                now[0] += issuer_keys._FRESH_SECONDS + 1000
                await judged(own, issuer.token(OTHER_KEY, key_id="k2"))  # reads them, and waits for nothing
                await asyncio.wait_for(own._keys._reading, 30)
                assert await judged(own, issuer.token(KEY, jti="2")) == NO

    asyncio.run(run())


def test_while_the_issuer_is_away_senders_are_told_to_try_again(caplog):
    async def run():
        with Issuer(public(KEY)) as issuer:
            path = "/.well-known/openid-configuration"
            issuer.answers[path] = 503
            async with Started(made(issuer.url), now := [1000.0]) as own:
                for _ in range(3):
                    with pytest.raises(Refused, match="keys are not known") as caught:
                        await own.authenticate({"authorization": f"Bearer {issuer.token(KEY)}"})
                    assert caught.value.retry_after == issuer_keys._PAUSE_SECONDS
                    now[0] += issuer_keys._PAUSE_SECONDS
                assert caplog.text.count("cannot read the keys of") == 1
                assert "answers 503" in caplog.text
                del issuer.answers[path]
                assert await judged(own, issuer.token(KEY)) == "gateway-1"
                assert "can be read again (1)" in caplog.text
                # What is known goes on while the issuer is away again.
                issuer.answers[path] = 500
                now[0] += issuer_keys._FRESH_SECONDS
                assert await judged(own, issuer.token(KEY, jti="2")) == "gateway-1"
                await asyncio.wait_for(own._keys._reading, 30)
                with pytest.raises(Refused):  # it may have a new key by now
                    await own.authenticate(
                        {"authorization": f"Bearer {issuer.token(OTHER_KEY, key_id='k2')}"}
                    )

    with caplog.at_level(logging.INFO):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "answer", "reason"),
    [
        ("/.well-known/openid-configuration", 404, "answers 404"),
        ("/.well-known/openid-configuration", b"<html>", "answers no JSON"),
        ("/.well-known/openid-configuration", b"[]", "answers no JSON object"),
        ("/.well-known/openid-configuration", b"[" * 100_000, "answers no JSON"),
        ("/.well-known/openid-configuration", b'{"issuer": "https://evil.example"}', "another issuer's"),
        ("/keys", 302, "answers 302"),
        ("/keys", b" " * (2 << 20), "answers more than 1048576 bytes"),
        ("/keys", b'{"keys": []}', "holds no usable key"),
        ("/keys", b'{"keys": [1, {"kty": "RSA"}, {"kty": ["x"]}]}', "holds no usable key"),
    ],
)
def test_what_an_issuer_answers_is_not_believed_blindly(path, answer, reason):
    async def run():
        with Issuer(public(KEY)) as issuer:
            issuer.answers[path] = answer
            async with Started(made(issuer.url)) as own:
                checked = (await own.check())[0]
                assert not checked.ok
                assert reason in checked.verdict
                del issuer.answers[path]
                checked = (await own.check())[0]
                assert (checked.ok, checked.verdict) == (True, "1 can verify tokens")

    asyncio.run(run())


def test_keys_are_read_from_nowhere_that_is_not_safe():
    async def run():
        with Issuer(public(KEY)) as issuer:
            document = {"issuer": issuer.url, "jwks_uri": "http://192.0.2.1/keys"}
            issuer.answers["/.well-known/openid-configuration"] = json.dumps(document).encode()
            async with Started(made(issuer.url)) as own:
                assert "no jwks_uri of https" in (await own.check())[0].verdict

    asyncio.run(run())


def test_an_issuer_of_a_private_authority_is_trusted_by_its_file(tmp_path):
    authority = Authority(tmp_path)
    files = authority.write()
    ca = authority.file("ca.pem")

    async def run():
        with Issuer(public(KEY), tls=(files["cert_file"], files["key_file"])) as issuer:
            async with Started(made(issuer.url, issuer_ca_path=str(ca))) as own:
                assert await judged(own, issuer.token(KEY)) == "gateway-1"
            async with Started(made(issuer.url)) as own:
                checked = (await own.check())[0]
                assert not checked.ok
                assert "certificate" in checked.verdict.lower()

    asyncio.run(run())


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_file_of_authorities_that_is_unusable_ends_the_start(tmp_path, text):
    file = tmp_path / "ca.pem"
    if text:
        file.write_text(text)
    with pytest.raises(StartError, match=r"^extensions::oidc::issuer_ca_path: cannot use "):
        asyncio.run(made("https://issuer.example", issuer_ca_path=str(file)).start())
