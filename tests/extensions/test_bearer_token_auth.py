"""bearertokenauth: which tokens open the door, and that the time and the texts tell nothing of them."""

from __future__ import annotations

import asyncio
import hmac
import logging

import pytest
from pydantic import ValidationError

from otel_moesif import Authenticator, ComponentId, Context, StartError, Unauthenticated
from otel_moesif.extensions.bearer_token_auth import FACTORY, BearerTokenAuth, BearerTokenSettings
from otel_moesif.extensions.followed_file import FollowedFile


def context() -> Context:
    return Context(ComponentId("bearertokenauth"), logging.getLogger("otel_moesif.extensions"), None)


def made(**options) -> BearerTokenAuth:
    return FACTORY.build(BearerTokenSettings.model_validate(options), context())


def judged(extension: BearerTokenAuth, value: str | None, header: str = "authorization") -> str:
    """The subject's name, or nothing if it is not let in."""

    async def run():
        await extension.start()
        try:
            return (await extension.authenticate({} if value is None else {header: value})).name
        except Unauthenticated:
            return ""
        finally:
            await extension.shutdown()

    return asyncio.run(run())


def test_it_is_an_authenticator():
    assert isinstance(made(token="t1"), Authenticator)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("Bearer one", "token 1"),
        ("bearer one", "token 1"),  # RFC 9110 section 11.1: in any case
        ("Bearer  two ", "token 2"),
        ("Bearer three", "token 3"),
        ("Bearer", ""),
        ("Bearer ", ""),
        ("one", ""),
        ("Basic one", ""),
        ("Bearer One", ""),
        ("Bearer onee", ""),
        ("Bearer on", ""),
        ("Bearer one two", ""),
        ("Bearer \ud800\xff", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_only_the_tokens_are_let_in(value, name):
    assert judged(made(tokens=["one", "two", "three"]), value) == name


def test_scheme_and_header_can_be_others():
    own = made(token="one", scheme="Token", header="X-Api-Key")
    assert judged(own, "Token one", "x-api-key") == "token 1"
    assert judged(own, "Token one") == ""
    bare = made(token="one", scheme="", header="X-Api-Key")
    assert judged(bare, "one", "x-api-key") == "token 1"


@pytest.mark.parametrize("given", ["one", "two", "three", "wrong", "", "a" * 10_000])
def test_every_token_is_compared_as_digest_of_one_length(monkeypatch, given):
    """Whichever it is, and whether it is one: the same comparisons of the same length."""
    compared = []

    def noting(one, other):
        compared.append((len(one), len(other)))
        return compare(one, other)

    compare = hmac.compare_digest
    own = made(tokens=["one", "two", "three"])
    monkeypatch.setattr(hmac, "compare_digest", noting)
    judged(own, f"Bearer {given}")
    assert compared == [(32, 32)] * 3


def test_a_file_has_a_token_on_each_line_and_names_for_them(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("one\n\ntwo   kong of the shop\n")
    assert judged(made(filename=str(file)), "Bearer one") == "token 1"
    assert judged(made(filename=str(file)), "Bearer two") == "kong of the shop"
    assert judged(made(filename=str(file)), "Bearer kong") == ""


def test_a_file_of_another_editor_is_read_and_remarks_are_no_tokens(tmp_path):
    file = tmp_path / "tokens"
    file.write_bytes(b"\xef\xbb\xbfone shop\r\n# production tokens\r\n\r\n#two\r\n\x0cthree")
    own = made(filename=str(file))
    assert [judged(own, f"Bearer {x}") for x in ("one", "three")] == ["shop", "token 2"]
    assert [judged(own, f"Bearer {x}") for x in ("#", "#two", "# production", "", "\ufeffone")] == [""] * 5


def test_tokens_are_changed_without_a_restart(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("otel_moesif.extensions.followed_file._LOOK_SECONDS", 0)
    file = tmp_path / "tokens"
    file.write_text("one\ntwo")
    own = made(filename=str(file))

    async def let_in(token: str) -> bool:
        try:
            await own.authenticate({"authorization": f"Bearer {token}"})
        except Unauthenticated:
            return False
        return True

    async def run():
        await own.start()
        assert [await let_in(x) for x in ("one", "two", "three")] == [True, True, False]
        file.write_text("two\nthree")
        assert [await let_in(x) for x in ("one", "two", "three")] == [False, True, True]
        for broken in (lambda: file.write_text("\n"), file.unlink):
            broken()
            caplog.clear()
            assert [await let_in(x) for x in ("one", "two", "three", "three")] == [False, True, True, True]
            assert [x.levelno for x in caplog.records] == [logging.ERROR]
            assert "what was read before stays in use" in caplog.text
        file.write_text("four")
        assert [await let_in(x) for x in ("two", "four")] == [False, True]

    asyncio.run(run())


def test_a_file_is_looked_at_once_in_a_second(tmp_path):
    now = [10.0]
    file = tmp_path / "file"
    file.write_text("a")
    followed = FollowedFile(file, str, "option", logging.getLogger(), lambda: now[0])
    followed.start()
    file.write_text("bb")
    now[0] += 0.9
    assert followed.current() == "a"
    now[0] += 0.1
    assert followed.current() == "bb"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot read .*: No such file"),
        (b"", "holds no token"),
        (b" \n\n", "holds no token"),
        (b"s3cret\xff", "is not UTF-8"),
        (b"# s3cret\n  # s3cret", "holds no token"),
        (b"\xef\xbb\xbf\r\n", "holds no token"),
        ("good\ns3crét".encode(), r"not printable ASCII \(in line 2\)"),
    ],
)
def test_a_file_without_tokens_ends_the_start(tmp_path, text, problem):
    file = tmp_path / "tokens"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(StartError, match=rf"^extensions::bearertokenauth::filename: .*{problem}") as caught:
        asyncio.run(made(filename=str(file)).start())
    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "exactly one of token, tokens and filename"),
        ({"token": "s3cret", "tokens": ["s3cret"]}, "exactly one of token, tokens and filename"),
        ({"token": "s3cret", "filename": "f"}, "exactly one of token, tokens and filename"),
        ({"token": " "}, "must not be empty"),
        ({"tokens": ["a", "s3cret s3cret"]}, "without spaces"),
        ({"token": "s3cr\N{LATIN SMALL LETTER E WITH ACUTE}t"}, "printable ASCII"),
        ({"token": "s3cret", "unknown": 1}, "unknown"),
        ({"token": "s3cret", "header": ""}, "one word"),
        ({"token": "s3cret", "header": "X Key"}, "one word"),
        ({"token": "s3cret", "scheme": "Bearer "}, "one word"),
    ],
)
def test_options_are_checked_and_not_shown(options, problem):
    with pytest.raises(ValidationError, match=problem) as caught:
        BearerTokenSettings.model_validate(options)
    assert "s3cr" not in str(caught.value)


def test_tokens_are_in_no_representation_and_no_message():
    own = made(token="s3cret")
    for thing in (own, vars(own), own._fixed, BearerTokenSettings(token="s3cret")):
        assert "s3cret" not in repr(thing)
    with pytest.raises(Unauthenticated) as caught:
        asyncio.run(own.authenticate({"authorization": "Bearer s3cret2"}))
    assert caught.value.challenge == "Bearer"
    assert "s3cret" not in str(caught.value)
