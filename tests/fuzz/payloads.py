"""Bytes that somebody might send: requests of any signal, whole, odd and damaged; chance is one `Random`."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Sequence
from pathlib import Path

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "otlp"
TIME = 1_750_000_000_000_000_000
TEXTS = (
    b"",
    b"GET",
    b"/a/b",
    b"http.request.method",
    b"http.server.load",
    b"requests",
    b"a\0b",
    "ä€𝄞".encode(),
)
NO_UTF8 = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"caf\xe9")
INTEGERS = (0, 1, 2, 127, 128, 200, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
LONGEST = 4096  # of what is made here; longer ones are cut


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def of_varint(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def of_fixed64(number: int, value: int) -> bytes:
    return varint(number << 3 | 1) + value.to_bytes(8, "little")


def of_fixed32(number: int, value: int) -> bytes:
    return varint(number << 3 | 5) + value.to_bytes(4, "little")


def of_bytes(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def of_group(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 3) + value + varint(number << 3 | 4)


def corpus() -> list[bytes]:
    """Real and canonical requests, where the fixtures are; empty elsewhere."""
    plain = [file.read_bytes() for file in sorted(FIXTURES.rglob("*.pb"))]
    return plain + [gzip.decompress(file.read_bytes()) for file in sorted(FIXTURES.rglob("*.pb.gz"))]


class Payloads:
    """An endless supply.

    Args:
        dice: Decides everything.
        seeds: Requests to begin with, beside those that are made here.
    """

    def __init__(self, dice: random.Random, seeds: Sequence[bytes] = ()) -> None:
        self._dice = dice
        self._seeds = seeds

    def next(self) -> bytes:
        """A request of some signal, as it is or damaged."""
        dice = self._dice
        if self._seeds and dice.random() < 0.2:
            payload = dice.choice(self._seeds)
        elif dice.random() < 0.03:
            payload = dice.randbytes(dice.randrange(64))
        else:
            payload = self.request(dice.choice((self.span, self.span, self.log, self.log, self.metric)))
        for _ in range(dice.choice((0, 0, 0, 1, 1, 2))):
            payload = self.damaged(payload)
        return payload

    def request(self, record: Callable[[], bytes]) -> bytes:
        """Resources and scopes around records; now and then one record is another signal's."""
        dice = self._dice

        def scope() -> bytes:
            records = [self.any() if dice.random() < 0.05 else record() for _ in range(dice.randrange(5))]
            own = (
                of_bytes(1, of_bytes(1, self.text()) + of_bytes(2, self.text()))
                if dice.random() < 0.7
                else b""
            )
            return own + b"".join(of_bytes(2, one) for one in records) + self.odd(1, 2, 3)

        def resource() -> bytes:
            own = [of_bytes(1, self.attributes(1))] if dice.random() < 0.8 else []
            parts = [*own, *(of_bytes(2, scope()) for _ in range(dice.randrange(3)))]
            if dice.random() < 0.1:
                dice.shuffle(parts)
            return b"".join(parts) + self.odd(1, 2, 3)

        return b"".join(of_bytes(1, resource()) for _ in range(dice.choice((1, 1, 1, 2, 3)))) + self.odd(1)

    def any(self) -> bytes:
        return self._dice.choice((self.span, self.log, self.metric))()

    def span(self) -> bytes:
        dice = self._dice
        parts = [
            *self.maybe(0.97, lambda: of_bytes(1, self.id(16))),
            *self.maybe(0.97, lambda: of_bytes(2, self.id(8))),
            *self.maybe(0.2, lambda: of_bytes(3, self.text())),
            *self.maybe(0.5, lambda: of_bytes(4, self.id(8))),
            *self.maybe(0.9, lambda: of_bytes(5, self.text())),
            *self.maybe(0.8, lambda: of_varint(6, self.integer(3))),
            *self.maybe(0.9, lambda: of_fixed64(7, self.time())),
            *self.maybe(0.9, lambda: of_fixed64(8, self.time())),
            self.attributes(9),
            *self.maybe(
                0.1, lambda: of_bytes(11, of_fixed64(1, TIME) + of_bytes(2, self.text()) + self.attributes(3))
            ),
            *self.maybe(0.1, lambda: of_bytes(13, of_bytes(1, self.id(16)) + of_bytes(2, self.id(8)))),
            *self.maybe(0.4, lambda: of_bytes(15, of_bytes(2, self.text()) + of_varint(3, self.integer(2)))),
            *self.maybe(0.2, lambda: of_fixed32(16, 0x101)),
        ]
        return self.arranged(parts) + self.odd(*range(1, 17)) if dice.random() < 0.99 else b""

    def log(self) -> bytes:
        parts = [
            *self.maybe(0.9, lambda: of_fixed64(1, self.time())),
            *self.maybe(0.7, lambda: of_varint(2, self.integer(9))),
            *self.maybe(0.5, lambda: of_bytes(3, self.text())),
            *self.maybe(0.9, lambda: of_bytes(5, self.value())),
            self.attributes(6),
            *self.maybe(0.5, lambda: of_fixed32(8, 1)),
            *self.maybe(0.5, lambda: of_bytes(9, self.id(16))),
            *self.maybe(0.5, lambda: of_bytes(10, self.id(8))),
            *self.maybe(0.6, lambda: of_fixed64(11, self.time())),
            *self.maybe(0.2, lambda: of_bytes(12, self.text())),
        ]
        return self.arranged(parts) + self.odd(*range(1, 13))

    def metric(self) -> bytes:
        """One whose name and description are as long as ids, more often than not."""
        dice = self._dice
        point = (
            of_fixed64(3, TIME) + dice.choice((of_fixed64(6, 7), of_fixed64(4, 7), b"")) + self.attributes(7)
        )
        kind = dice.choice((5, 7, 9, 10, 11))
        data = of_bytes(kind, of_bytes(1, point) + (of_varint(2, 2) if kind != 5 else b""))
        name = dice.choice((b"http.server.load", b"queue_length_now", b"up"))
        description = dice.choice((b"requests", b"in bytes", b"how many"))
        return of_bytes(1, name) + of_bytes(2, description) + of_bytes(3, b"{requests}") + data

    def attributes(self, number: int) -> bytes:
        count = self._dice.choice((0, 1, 2, 3, 6)) if self._dice.random() < 0.99 else 1100
        return b"".join(
            of_bytes(number, of_bytes(1, self.text()) + of_bytes(2, self.value())) for _ in range(count)
        )

    def value(self, depth: int = 0) -> bytes:
        """An ``AnyValue``: mostly a scalar, now and then nested, seldom too deeply."""
        dice = self._dice
        kind = dice.choice((1, 1, 1, 2, 3, 3, 4, 5, 6, 7, 0))
        if kind in {5, 6} and depth < 3:
            items = [self.value(depth + 1) for _ in range(dice.randrange(3))]
            if kind == 6:
                items = [of_bytes(1, self.text()) + of_bytes(2, item) for item in items]
            return of_bytes(kind, b"".join(of_bytes(1, item) for item in items))
        if dice.random() < 0.005:
            nested = of_bytes(1, b"x")
            for _ in range(dice.choice((20, 46, 47, 48, 49, 60))):
                nested = of_bytes(5, of_bytes(1, nested))
            return nested
        match kind:
            case 1 | 7:
                return of_bytes(kind, self.text() if kind == 1 else dice.randbytes(3))
            case 2 | 3:
                return of_varint(kind, dice.choice(INTEGERS))
            case 4:
                return varint(4 << 3 | 1) + dice.choice(
                    (b"\0" * 8, b"\0" * 6 + b"\xf8\x7f", dice.randbytes(8))
                )
            case _:
                return b""

    def odd(self, *known: int) -> bytes:
        """Seldom: fields that nobody knows, or known ones with another wire type, or twice."""
        dice = self._dice
        if dice.random() > 0.04:
            return b""
        number = dice.choice((*known, 50, 2**29 - 1))
        return dice.choice(
            (
                of_varint(number, dice.choice(INTEGERS)),
                of_fixed64(number, TIME),
                of_fixed32(number, 7),
                of_bytes(number, dice.choice((*TEXTS, *NO_UTF8))),
                of_group(number, of_varint(1, 1)),
                of_group(number, dice.choice((b"\0\1", b"\2\1x", b"\3\4", of_group(7, b"\0\1"), b"\1\1"))),
                varint(number << 3 | 3) * 30 + varint(number << 3 | 4) * 30,
                varint(number << 3 | 2)[:-1] + bytes([varint(number << 3 | 2)[-1] | 0x80, 0]) + b"\x81\x00x",
            )
        )

    def id(self, length: int) -> bytes:
        dice = self._dice
        if dice.random() < 0.97:
            return dice.randbytes(length)
        return dice.choice((b"", bytes(length), dice.randbytes(length - 1), dice.randbytes(length + 1)))

    def text(self) -> bytes:
        return self._dice.choice(TEXTS if self._dice.random() < 0.995 else NO_UTF8)

    def integer(self, usual: int) -> int:
        return usual if self._dice.random() < 0.9 else self._dice.choice(INTEGERS)

    def time(self) -> int:
        return TIME if self._dice.random() < 0.9 else self._dice.choice(INTEGERS)

    def maybe(self, chance: float, make: Callable[[], bytes]) -> list[bytes]:
        return [make()] if self._dice.random() < chance else []

    def arranged(self, parts: list[bytes]) -> bytes:
        """In the order of their numbers, as all exporters write them, or in any."""
        if self._dice.random() < 0.05:
            self._dice.shuffle(parts)
        return b"".join(parts)

    def damaged(self, payload: bytes) -> bytes:
        """One change: of a bit or a byte, something less, something more, a piece of another request."""
        dice = self._dice
        out = bytearray(payload[:LONGEST] if len(payload) > 4 * LONGEST else payload)
        place = dice.randrange(len(out) + 1)
        match dice.randrange(7):
            case 0 if place < len(out):
                out[place] ^= 1 << dice.randrange(8)
            case 1 if place < len(out):
                out[place] = dice.choice(
                    (0, 1, 2, 3, 4, 5, 0x0B, 0x0C, 0x13, 0x7F, 0x80, 0xFF, dice.randrange(256))
                )
            case 2:
                del out[place : place + dice.randrange(1, 5)]
            case 3:
                del out[place:]
            case 4:
                out[place:place] = dice.randbytes(dice.randrange(1, 5))
            case 5:
                other = self.request(dice.choice((self.span, self.log, self.metric)))
                start = dice.randrange(len(other) + 1)
                out[place:place] = other[start : start + dice.randrange(64)]
            case _:
                out += self.request(dice.choice((self.span, self.log, self.metric)))
        return bytes(out)
