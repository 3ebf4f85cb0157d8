"""While an issuer takes connections and answers nothing: few wait for it, and nobody else for them."""

from __future__ import annotations

import asyncio
import threading

import pytest

from otel_moesif import Refused
from otel_moesif.extensions import issuer_keys
from tests.extensions.issuer import NO, RSA_KEYS, Issuer, Started, judged, made, public
from tests.receivers.doors import Door, Recorder, spans

KEY, OTHER_KEY, _ = RSA_KEYS


class Hanging(Issuer):
    """Answers only while ``answering`` is set, in the beginning it is."""

    def __init__(self, *keys) -> None:
        super().__init__(*keys)
        self.answering = threading.Event()
        self.answering.set()

    def document(self, path: str) -> bytes | int:
        self.answering.wait(60)
        return super().document(path)


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def verdicts(own, tokens) -> list:
    """Names, why not, or the `Refused`."""
    return await asyncio.gather(*(judged(own, token) for token in tokens), return_exceptions=True)


@pytest.mark.parametrize("key_id", ["made up", "k1"])
def test_only_so_many_wait_for_an_issuer_that_hangs(key_id):
    async def run():
        with Hanging(public(KEY)) as issuer:
            async with Started(made(issuer.url), now := [1000.0]) as own:
                good = issuer.token(KEY)
                assert await judged(own, good) == "gateway-1"
                now[0] += issuer_keys._PAUSE_SECONDS
                issuer.answering.clear()
                strangers = [issuer.token(OTHER_KEY, key_id=key_id, jti=str(n)) for n in range(100)]
                waiting = asyncio.create_task(verdicts(own, strangers[: issuer_keys._WAITING]))
                await until(lambda: own._keys._waiting == issuer_keys._WAITING)
                refused = await asyncio.wait_for(verdicts(own, strangers[issuer_keys._WAITING :]), 5)
                assert {(type(x), x.retry_after) for x in refused} == {(Refused, issuer_keys._RETRY_AFTER)}
                # Whom the known keys can judge waits for nothing.
                assert await judged(own, good) == "gateway-1"
                assert await judged(own, issuer.token(KEY, jti="2")) == "gateway-1"
                assert not waiting.done()
                issuer.answering.set()
                assert await waiting == [NO] * issuer_keys._WAITING
                assert own._keys._waiting == 0

    asyncio.run(run())


def test_the_pause_begins_when_a_reading_ends():
    async def run():
        with Hanging(public(KEY)) as issuer:
            async with Started(made(issuer.url), now := [1000.0]) as own:
                assert await judged(own, issuer.token(KEY)) == "gateway-1"
                now[0] += issuer_keys._PAUSE_SECONDS
                issuer.answering.clear()
                waiting = asyncio.create_task(judged(own, issuer.token(OTHER_KEY, key_id="made up")))
                await until(lambda: own._keys._waiting == 1)
                now[0] += issuer_keys._PAUSE_SECONDS * 2  # so long it took
                issuer.answering.set()
                assert await waiting == NO
                asked = len(issuer.asked)
                assert await judged(own, issuer.token(OTHER_KEY, key_id="made up")) == NO
                now[0] += issuer_keys._PAUSE_SECONDS - 1
                assert await judged(own, issuer.token(OTHER_KEY, key_id="made up")) == NO
                assert len(issuer.asked) == asked
                now[0] += 1
                assert await judged(own, issuer.token(OTHER_KEY, key_id="made up")) == NO
                assert len(issuer.asked) == asked + 2

    asyncio.run(run())


def test_who_gives_up_waiting_gives_his_place_back():
    async def run():
        with Hanging(public(KEY)) as issuer:
            async with Started(made(issuer.url), now := [1000.0]) as own:
                assert await judged(own, issuer.token(KEY)) == "gateway-1"
                now[0] += issuer_keys._PAUSE_SECONDS
                issuer.answering.clear()
                waiting = asyncio.create_task(judged(own, issuer.token(OTHER_KEY, key_id="made up")))
                await until(lambda: own._keys._waiting == 1)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                assert own._keys._waiting == 0
                assert not own._keys._reading.done()  # others may wait for it
                issuer.answering.set()

    asyncio.run(run())


def test_grpc_serves_who_is_known_while_strangers_wait():
    """Each call that waits keeps one of gRPC's threads; here there are 24."""

    async def run():
        with Hanging(public(KEY)) as issuer:
            async with Started(made(issuer.url), now := [1000.0]) as own:
                options = {"auth": {"authenticator": "oidc"}, "max_requests_in_flight": 8}
                async with Door(recorder := Recorder(), {"oidc": own}, **options) as door:
                    honest, strange = door.channel(), door.channel()
                    good = (("authorization", f"Bearer {issuer.token(KEY)}"),)
                    assert await door.call(spans(), channel=honest, metadata=good) == b""
                    now[0] += issuer_keys._PAUSE_SECONDS
                    issuer.answering.clear()
                    bad = (("authorization", f"Bearer {issuer.token(OTHER_KEY, key_id='made up')}"),)
                    calls = [
                        asyncio.create_task(door.status(spans(), channel=strange, metadata=bad, timeout=60))
                        for _ in range(60)
                    ]
                    await asyncio.wait(calls, timeout=30, return_when=asyncio.FIRST_COMPLETED)
                    assert await door.call(spans(), channel=honest, metadata=good, timeout=30) == b""
                    assert not own._keys._reading.done()  # else it was served because that has ended
                    issuer.answering.set()
                    codes = [code for code, _ in await asyncio.gather(*calls)]
                    assert set(codes) == {"UNAUTHENTICATED", "UNAVAILABLE"}
                    assert len(recorder.requests) == 2
                    for channel in (honest, strange):
                        await channel.close()

    asyncio.run(run())
