"""TLS and mTLS on both protocols, with certificates that change while clients send."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import asynccontextmanager

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_moesif.server_tls import Certificates, ServerTls
from tests.receivers.doors import Authority, Door, Recorder, spans

logger = logging.getLogger("otel_moesif.receivers.otlp")


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def certificates(tls: dict) -> Certificates:
    settings = ServerTls.model_validate(tls)
    return Certificates(settings, "protocols::http::tls", logger)


# -- gRPC -------------------------------------------------------------------------------------------------


def test_grpc_speaks_tls_and_nothing_else(authority):
    async def run():
        async with Door(recorder := Recorder(), tls=authority.write()) as door:
            channel = door.channel(authority.credentials())
            assert await door.call(spans(), channel=channel) == b""
            await channel.close()
            for credentials in (None, grpc.ssl_channel_credentials(Authority(authority.directory).pem)):
                channel = door.channel(credentials)
                assert (await door.failure(spans(), channel=channel)).code() is grpc.StatusCode.UNAVAILABLE
                await channel.close()
        assert len(recorder.requests) == 1

    asyncio.run(run())


def test_the_exporter_of_the_sdk_sends_over_tls(authority):
    async def run():
        async with Door(recorder := Recorder(), tls=authority.write()) as door:
            await asyncio.to_thread(export, f"localhost:{door.server.port}")
        assert len(recorder.requests) == 1

    def export(endpoint):
        tracer = TracerProvider()
        exporter = OTLPSpanExporter(endpoint=endpoint, credentials=authority.credentials())
        tracer.add_span_processor(SimpleSpanProcessor(exporter))
        tracer.get_tracer("test").start_span("call").end()
        tracer.shutdown()

    asyncio.run(run())


def test_grpc_lets_in_only_who_shows_a_certificate_of_the_authority(authority, tmp_path):
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")

    async def run():
        tls = {**authority.write(), "client_ca_file": str(authority.file("clients.pem"))}
        async with Door(recorder := Recorder(), tls=tls) as door:
            for client in (None, stranger.pair("gateway")):
                channel = door.channel(authority.credentials(client))
                assert (await door.failure(spans(), channel=channel)).code() is grpc.StatusCode.UNAVAILABLE
                await channel.close()
            channel = door.channel(authority.credentials(authority.pair("gateway")))
            assert await door.call(spans(), channel=channel) == b""
            await channel.close()
            assert len(recorder.requests) == 1

    asyncio.run(run())


def test_grpc_takes_a_new_certificate_and_new_authorities_while_clients_send(authority, tmp_path):
    (tmp_path / "other").mkdir()
    next_one = Authority(tmp_path / "other")

    async def run():
        clients = authority.file("clients.pem")
        tls = {**authority.write(), "client_ca_file": str(clients), "reload_interval": "0s"}
        async with Door(recorder := Recorder(), tls=tls) as door:
            old = authority.credentials(authority.pair("gateway"))
            lasting = door.channel(old)
            ended = asyncio.Event()

            async def send() -> int:
                count = 0
                while not ended.is_set():
                    await door.call(spans(), channel=lasting)
                    count += 1
                return count

            sending = asyncio.create_task(send())
            fresh = door.channel(old)
            await door.call(spans(), channel=fresh)
            await fresh.close()

            for file, text in zip(("server.pem", "server.key"), next_one.pair(), strict=True):
                (tmp_path / file).write_bytes(text)
            clients.write_bytes(next_one.pem)

            fresh = door.channel(next_one.credentials(next_one.pair("gateway")))
            assert await door.call(spans(), channel=fresh) == b""
            await fresh.close()
            for credentials in (old, next_one.credentials(authority.pair("gateway"))):
                fresh = door.channel(credentials)
                assert (await door.failure(spans(), channel=fresh)).code() is grpc.StatusCode.UNAVAILABLE
                await fresh.close()
            ended.set()
            sent = await sending  # the open connection went on all the time
            assert len(recorder.requests) == sent + 2
            await lasting.close()

    asyncio.run(run())


# -- asyncio, as HTTP uses it -------------------------------------------------------------------------------


@asynccontextmanager
async def serving(own: Certificates):
    """An echo server over TLS; gives its port."""

    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=own.ssl_context(["http/1.1"]))
    async with server:
        yield server.sockets[0].getsockname()[1]


async def say(port: int, authority: Authority, client: str = "", **limits) -> bytes:
    """What comes back from the echo server, empty if nobody is let in; the client trusts the authority."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.set_alpn_protocols(["h2", "http/1.1"])
    for name, value in limits.items():
        setattr(context, name, value)
    if client:
        context.load_cert_chain(client)
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="localhost"
        )
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.write(b"hello\n")
        answer = await reader.readline()
        writer.close()
    except (ssl.SSLError, ConnectionError):
        return b""
    return answer


def one_file(authority: Authority, name: str, path) -> str:
    """A client's chain and key in one file."""
    path.write_bytes(b"".join(authority.pair(name)))
    return str(path)


def test_asyncio_takes_a_new_certificate_and_new_authorities(authority, tmp_path):
    (tmp_path / "other").mkdir()
    next_one = Authority(tmp_path / "other")
    old, new = (one_file(x, "gateway", tmp_path / f"{i}.pem") for i, x in enumerate((authority, next_one)))

    async def run():
        clients = authority.file("clients.pem")
        tls = {**authority.write(), "client_ca_file": str(clients), "reload_interval": "0s"}
        async with serving(certificates(tls)) as port:
            assert await say(port, authority, old) == b"hello\n"
            for client in ("", new):
                assert await say(port, authority, client) == b""
            for file, text in zip(("server.pem", "server.key"), next_one.pair(), strict=True):
                (tmp_path / file).write_bytes(text)
            clients.write_bytes(next_one.pem)
            assert await say(port, next_one, new) == b"hello\n"
            for trusted, client in ((authority, old), (next_one, old), (next_one, "")):
                assert await say(port, trusted, client) == b""

    asyncio.run(run())


def test_an_older_tls_can_be_forbidden_for_http(authority):
    async def run():
        tls = {**authority.write(), "min_version": "1.3"}
        async with serving(certificates(tls)) as port:
            assert await say(port, authority) == b"hello\n"
            assert (await say(port, authority, maximum_version=ssl.TLSVersion.TLSv1_2)) == b""

    asyncio.run(run())
