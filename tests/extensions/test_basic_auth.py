"""basicauth: passwords against bcrypt, off the loop, once, and without telling which users there are."""

from __future__ import annotations

import asyncio
import base64
import logging
import sys
import threading

import bcrypt
import pytest
from pydantic import ValidationError

from otel_moesif import Authenticator, ComponentId, ConfigError, Context, Refused, StartError, Unauthenticated
from otel_moesif.extensions import basic_auth
from otel_moesif.extensions.basic_auth import FACTORY, BasicAuth, BasicAuthSettings

COST = 4


def hashed(password: str, cost: int = COST) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


ALI = f"ali:{hashed('sesame')}"


def made(**htpasswd) -> BasicAuth:
    context = Context(ComponentId("basicauth"), logging.getLogger("otel_moesif.extensions"), None)
    return FACTORY.build(BasicAuthSettings.model_validate({"htpasswd": htpasswd}), context)


def header(user: str, password: str) -> dict[str, str]:
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"authorization": f"Basic {text}"}


async def judged(extension: BasicAuth, *headers: dict[str, str]) -> list[str]:
    """For each the subject's name, or nothing if it is not let in."""
    names = []
    for one in headers:
        try:
            names.append((await extension.authenticate(one)).name)
        except Unauthenticated:
            names.append("")
    return names


class Started:
    def __init__(self, extension: BasicAuth) -> None:
        self.extension = extension

    async def __aenter__(self) -> BasicAuth:
        await self.extension.start()
        return self.extension

    async def __aexit__(self, *_: object) -> None:
        await self.extension.shutdown()
        await self.extension.shutdown()


@pytest.fixture
def checks(monkeypatch):
    """Every run of bcrypt: thread and hash."""
    found = []
    check = bcrypt.checkpw

    def noting(password, hash_):
        found.append((threading.current_thread().name, hash_))
        return check(password, hash_)

    monkeypatch.setattr(bcrypt, "checkpw", noting)
    return found


def test_it_is_an_authenticator():
    assert isinstance(made(inline=ALI), Authenticator)


def test_only_the_right_password_of_a_user_is_let_in():
    async def run():
        async with Started(made(inline=f"{ALI}\n# nobody else\nzoë:{hashed('a:b')}")) as own:
            assert await judged(own, header("ali", "sesame"), header("zoë", "a:b")) == ["ali", "zoë"]
            wrong = [
                header("ali", "Sesame"),
                header("ali", ""),
                header("ali", "sesame\0"),
                header("zoë", "a"),
                header("bob", "sesame"),
                header("", "sesame"),
                header("ali", "x" * 100),
                {},
                {"authorization": ""},
                {"authorization": "Basic"},
                {"authorization": "Basic !!!"},
                {"authorization": "Basic /w=="},
                {"authorization": "Bearer " + header("ali", "sesame")["authorization"][6:]},
                {"authorization": "Basic " + base64.b64encode(b"ali").decode()},
            ]
            assert await judged(own, *wrong) == [""] * len(wrong)

    asyncio.run(run())


def test_clients_are_told_what_to_show():
    with pytest.raises(Unauthenticated) as caught:
        asyncio.run(made(inline=ALI).authenticate({}))
    assert caught.value.challenge == 'Basic realm="otel-moesif", charset="UTF-8"'


def test_of_a_long_password_72_bytes_count_as_bcrypt_has_it():
    async def run():
        async with Started(made(inline=f"ali:{hashed('x' * 72)}")) as own:
            assert await judged(own, header("ali", "x" * 72), header("ali", "x" * 71)) == ["ali", ""]

    asyncio.run(run())


def test_bcrypt_runs_once_for_the_same_credentials_and_never_on_the_loop(checks):
    async def run():
        async with Started(made(inline=ALI)) as own:
            at_once = await asyncio.gather(*(own.authenticate(header("ali", "sesame")) for _ in range(20)))
            assert {x.name for x in at_once} == {"ali"}
            assert await judged(own, *[header("ali", "sesame")] * 5, *[header("ali", "no")] * 5)
            assert len(checks) == 2
            assert all(thread.startswith("basicauth") for thread, _ in checks)

    asyncio.run(run())


def test_verdicts_are_forgotten_in_time(checks, monkeypatch):
    monkeypatch.setattr(basic_auth, "_REMEMBER_SECONDS", 0)

    async def run():
        async with Started(made(inline=ALI)) as own:
            assert await judged(own, *[header("ali", "sesame")] * 3) == ["ali"] * 3
            assert len(checks) == 3

    asyncio.run(run())


def test_whoever_comes_again_and_again_is_known_for_good(checks):
    async def run():
        async with Started(made(inline=ALI)) as own:
            now = [0.0]
            own._good._clock = lambda: now[0]
            for _ in range(5):
                assert await judged(own, header("ali", "sesame")) == ["ali"]
                now[0] += basic_auth._REMEMBER_SECONDS - 1
            assert len(checks) == 1

    asyncio.run(run())


def test_users_who_do_not_exist_cost_as_much_as_those_who_do(checks):
    async def run():
        async with Started(made(inline=f"ali:{hashed('sesame', 5)}")) as own:
            assert await judged(own, header("ali", "wrong"), header("bob", "wrong")) == ["", ""]
            assert [hash_[4:6] for _, hash_ in checks] == [b"05", b"05"]

    asyncio.run(run())


def test_hashes_of_different_cost_are_a_warning(caplog):
    async def run():
        async with Started(made(inline=f"{ALI}\nbob:{hashed('b', 5)}")):
            pass

    asyncio.run(run())
    assert "differ in cost (4, 5)" in caplog.text


def test_a_flood_of_guesses_is_told_to_try_again_and_holds_up_nobody_who_is_known(monkeypatch):
    go = threading.Event()
    check = bcrypt.checkpw

    async def run():
        async with Started(made(inline=ALI)) as own:
            assert await judged(own, header("ali", "sesame")) == ["ali"]
            monkeypatch.setattr(bcrypt, "checkpw", lambda *x: go.wait(10) and check(*x))
            guesses = [
                asyncio.create_task(own.authenticate(header("ali", str(number)))) for number in range(80)
            ]
            await asyncio.sleep(0)
            assert await judged(own, header("ali", "sesame")) == ["ali"]
            go.set()
            answers = await asyncio.gather(*guesses, return_exceptions=True)
            assert sum(isinstance(x, Refused) for x in answers) == 80 - basic_auth._WAITING
            assert sum(isinstance(x, Unauthenticated) for x in answers) == basic_auth._WAITING

    asyncio.run(run())


def test_guesses_do_not_push_out_who_is_known(monkeypatch, checks):
    monkeypatch.setattr(basic_auth, "_REMEMBER", 3)

    async def run():
        async with Started(made(inline=ALI)) as own:
            await judged(own, header("ali", "sesame"), *(header("ali", str(x)) for x in range(10)))
            before = len(checks)
            assert await judged(own, header("ali", "sesame")) == ["ali"]
            assert len(checks) == before

    asyncio.run(run())


def test_a_file_is_read_again_and_old_verdicts_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr("otel_moesif.extensions.followed_file._LOOK_SECONDS", 0)
    file = tmp_path / "htpasswd"
    file.write_text(ALI)

    async def run():
        async with Started(made(file=str(file), inline=f"eve:{hashed('e')}")) as own:
            all_of_them = [header("ali", "sesame"), header("ali", "new"), header("eve", "e")]
            assert await judged(own, *all_of_them) == ["ali", "", "eve"]
            file.write_text(f"ali:{hashed('new')}")
            assert await judged(own, *all_of_them) == ["", "ali", "eve"]
            file.write_text("nonsense")
            assert await judged(own, *all_of_them) == ["", "ali", "eve"]

    asyncio.run(run())


def test_a_verdict_by_the_old_file_is_none_by_the_new_one(tmp_path, monkeypatch):
    monkeypatch.setattr("otel_moesif.extensions.followed_file._LOOK_SECONDS", 0)
    go = threading.Event()
    check = bcrypt.checkpw
    file = tmp_path / "htpasswd"
    file.write_text(ALI)

    async def run():
        async with Started(made(file=str(file))) as own:
            monkeypatch.setattr(bcrypt, "checkpw", lambda *x: go.wait(10) and check(*x))
            before = asyncio.create_task(own.authenticate(header("ali", "sesame")))
            await asyncio.sleep(0)
            file.write_text(f"ali:{hashed('other')}")
            after = asyncio.create_task(own.authenticate(header("ali", "sesame")))
            await asyncio.sleep(0)
            go.set()
            first, second = await asyncio.gather(before, after, return_exceptions=True)
            assert first.name == "ali"
            assert isinstance(second, Unauthenticated)
            assert await judged(own, header("ali", "sesame"), header("ali", "other")) == ["", "ali"]

    asyncio.run(run())


def test_a_file_of_another_editor_is_read(tmp_path):
    file = tmp_path / "htpasswd"
    file.write_bytes(f"{ALI}\r\n\r\n# nobody else\r\n".encode("utf-8-sig"))

    async def run():
        async with Started(made(file=str(file))) as own:
            assert await judged(own, header("ali", "sesame"), header("\ufeffali", "sesame")) == ["ali", ""]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no user"),
        ("# only this", "holds no user"),
        ("ali", r"line 1 is none"),
        (f"{ALI}\nbob:$apr1$s3cret$s3cret", r"bcrypt hashes, as of htpasswd -B \(line 2 has none\)"),
        ("ali:{SHA}s3cret", r"bcrypt hashes"),
        ("ali:s3cret", r"bcrypt hashes"),
        (ALI.replace("$04$", "$31$"), r"a cost of 4 to 17, as of htpasswd \(not so line 1\)"),
        (ALI.replace("$04$", "$03$"), r"a cost of 4 to 17"),
    ],
    ids=["nothing", "a remark", "no hash", "MD5", "SHA-1", "plain", "days", "no cost"],
)
def test_what_is_no_htpasswd_is_refused_and_not_shown(tmp_path, text, problem):
    with pytest.raises(ValidationError, match=problem) as caught:
        made(inline=text)
    assert "s3cret" not in str(caught.value)
    file = tmp_path / "htpasswd"
    file.write_text(text)
    with pytest.raises(StartError, match=rf"^extensions::basicauth::htpasswd::file: .*{problem}") as caught:
        asyncio.run(made(file=str(file)).start())
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"htpasswd": {}}, {"htpasswd": {"inline": ALI, "x": 1}}])
def test_options_are_checked(options):
    with pytest.raises(ValidationError):
        BasicAuthSettings.model_validate(options)


def test_without_bcrypt_the_configuration_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(ConfigError, match=r'install "otel-moesif\[auth\]"'):
        made(inline=ALI)


def test_hashes_and_passwords_are_in_no_representation():
    async def run():
        async with Started(made(inline=ALI)) as own:
            await judged(own, header("ali", "sesame"), header("ali", "s3cret"))
            for thing in (own, own._users, own._good, own._bad, vars(own._good), BasicAuthSettings):
                assert "sesame" not in repr(thing)
                assert "s3cret" not in repr(thing)
                assert "$2b$" not in repr(thing)

    asyncio.run(run())
