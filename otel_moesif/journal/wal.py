"""SQLite's write-ahead log, frame by frame: what SQLite would use of it, and what it would ignore silently.

SQLite reads its log up to the first frame that is wrong. After a power cut or a kill that is right: the frame
is the end of an unfinished transaction. But if the disk has changed a frame in the middle, SQLite drops all
that was committed after it without a word. Both are told apart here, before SQLite opens the file.

An unfinished transaction may have wrong frames before intact ones, too. One that is larger than the page
cache writes before it commits; when it changes a page again it writes it over the old frame, gives the frames
that it adds from then on neither salts nor checksum, and mends that when it commits (sqlite3.c, iReCksum).
And what a failed one had written stays behind the shorter one that overwrites its beginning. So intact frames
count only where the log shows that they were committed, or that the disk has changed something among them.

Format: sqlite.org/fileformat2.html#walformat (section 4). Every frame carries the log's two salts and a
checksum that goes on from the frame before it, so that a frame can be checked from its predecessor's alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import polars as pl

PAGE_BYTES = 4096  # SQLite's default since 3.12, sqlite.org/pgszchng2016.html

_HEADER = struct.Struct(">IIII8sII")  # magic, format, page size, number of checkpoints, salts, checksum
_FRAME = struct.Struct(">II8sII")  # page, pages after commit (0: not a commit), salts, checksum
_MAGIC = 0x377F0682  # the lowest bit says in which byte order the checksums are reckoned
_PAGE_SIZES = {1 << power for power in range(9, 17)}
_NO_SALTS = bytes(8)
_MASK = 0xFFFFFFFF
_AT_ONCE = 1 << 20  # bytes; about what a processor's cache holds

Check = tuple[int, int]


class View(Enum):
    """Which frames of a damaged log shall count; of a good one all three are the same."""

    COMMITTED = auto()
    """Every frame that is intact, up to the last intact commit."""
    WRITTEN = auto()
    """Damaged ones too, up to the last commit, be it damaged: most of such a page may still be readable."""
    PREFIX = auto()
    """What SQLite would use: consistent, but it ends where the damage begins."""


class Frame(NamedTuple):
    """One page as a transaction has left it.

    Attributes:
        page: Its number, from 1.
        size: Of a transaction's last frame, how many pages the database has then; else 0.
        salts: Of the log it belongs to; SQLite overwrites an old log with a new one.
        check: Checksum of all frames up to here.
    """

    page: int
    size: int
    salts: bytes
    check: Check


@dataclass(frozen=True)
class WalState:
    """What a log holds.

    Attributes:
        path: The file.
        page_bytes: Size of a page.
        frames: All complete frames, also those of an older log that was not yet overwritten.
        intact: By frame, whether it is of this log and as it was written.
        valid: How many frames SQLite would use: up to the last commit before the first wrong frame.
        readable: How many frames there are before the first one that SQLite takes for wrong.
        header_damaged: The log's own header is wrong, so that SQLite would ignore the log as a whole.
    """

    path: Path
    page_bytes: int = PAGE_BYTES
    frames: list[Frame] = field(default_factory=list)
    intact: list[bool] = field(default_factory=list)
    valid: int = 0
    readable: int = 0
    header_damaged: bool = False
    _salts: bytes = b""

    @property
    def damaged(self) -> bool:
        """Whether SQLite would silently ignore what was written; a torn end does not count."""
        return self.ignored > 0 or (self.header_damaged and any(frame.page for frame in self.frames))

    @property
    def ignored(self) -> int:
        """How many intact frames SQLite would not use, because of a damaged one before them."""
        return sum(self.intact[self.readable :]) if self._unfinished > self.readable else 0

    @property
    def lost(self) -> int:
        """How many frames the damage has spoilt: those before the last intact one that are not intact."""
        if not self.damaged:
            return 0
        return self.intact[: self._last_intact + 1 or len(self.frames)].count(False)

    @property
    def torn(self) -> int:
        """How many frames of this log stand after the last commit: what a kill or a power cut leaves."""
        if self.damaged:
            return 0
        return sum(frame.salts == self._salts for frame in self.frames[self.valid :])

    def __str__(self) -> str:
        if self.header_damaged:
            return f"the header of {self.path.name} is damaged"
        bad = self.readable + 1
        return f"{self.path.name} is damaged at frame {bad}, before {self.ignored} intact ones"

    def pages(self, view: View) -> tuple[dict[int, int], int]:
        """Which frame has the newest form of each page, and how many pages the database has then.

        Returns:
            Index of the frame by page number; the number of pages, 0 if the log does not say.
        """
        chosen = list(self._chosen(view))
        size = next((self.frames[i].size for i in reversed(chosen) if self._commits(i)), 0)
        if view is View.WRITTEN:
            size = max([size, *(self.frames[i].page for i in chosen if self.intact[i])])
        return {self.frames[i].page: i for i in chosen}, size

    def read(self, frames: dict[int, int]) -> Iterator[tuple[int, bytes]]:
        """Number and content of pages, as `pages` gave them."""
        if frames:
            with self.path.open("rb") as file:
                for page, index in frames.items():
                    file.seek(_HEADER.size + index * (_FRAME.size + self.page_bytes) + _FRAME.size)
                    yield page, file.read(self.page_bytes)

    @property
    def _last_intact(self) -> int:
        return max((i for i, intact in enumerate(self.intact) if intact), default=-1)

    @property
    def _unfinished(self) -> int:
        """From which frame on there is at most a transaction that was never committed.

        A commit frame counts also if it is damaged itself: whether the rest of it is right nobody knows, and
        to repeat a transaction does no harm, while to lose one does.
        """
        last = self._last_intact
        signs = (
            i
            for i, frame in enumerate(self.frames)
            if (frame.size and frame.salts == self._salts) or (i <= last and not self._is_uncommitted(frame))
        )
        return max(signs, default=-1) + 1

    def _is_uncommitted(self, frame: Frame) -> bool:
        """Whether it may be of a transaction that has not committed; else the disk has changed it."""
        has_salts = frame.salts == self._salts or (frame.salts == _NO_SALTS and frame.check == (0, 0))
        return frame.page > 0 and not frame.size and has_salts

    def _commits(self, index: int) -> bool:
        return self.intact[index] and self.frames[index].size > 0

    def _chosen(self, view: View) -> Iterator[int]:
        if view is View.PREFIX or not self.damaged:
            yield from range(self.valid)
        elif view is View.COMMITTED:
            last = max((i for i in range(len(self.frames)) if self._commits(i)), default=-1)
            yield from (i for i in range(last + 1) if self.intact[i])
        else:
            # No page number that came by damage shall make the database larger than all frames could.
            known = max(
                (max(f.page, f.size) for f, ok in zip(self.frames, self.intact, strict=True) if ok), default=0
            )
            most = known + len(self.frames)
            for i, frame in enumerate(self.frames[: self._unfinished]):
                if self.intact[i] or (frame.salts == self._salts and 0 < frame.page <= most):
                    yield i


def inspect(path: Path) -> WalState:
    """Read a log and check all of it: about 40 ms for 16 MiB.

    Args:
        path: The log; it may be missing.

    Raises:
        OSError: It cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return WalState(path)
    with file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return WalState(path)
        magic, _, page_bytes, _, salts, *check = _HEADER.unpack(head)
        order = ">" if magic & 1 else "<"
        words = struct.unpack(f"{order}6I", head[:24])
        good = magic | 1 == _MAGIC | 1 and page_bytes in _PAGE_SIZES and _add((0, 0), words) == tuple(check)
        if not good:
            page_bytes = PAGE_BYTES
        start = (check[0], check[1])
        # Without a header nothing tells the byte order; it is the machine's, so little-endian comes first.
        for attempt in [order] if good else ["<", ">"]:
            file.seek(_HEADER.size)
            frames, sums = _frames(file, page_bytes, attempt)
            if not good:
                salts = _likely_salts(frames, sums, page_bytes, salts)
            intact, readable = _intact(frames, sums, page_bytes, start, salts)
            if any(intact):
                break
    readable = readable if good else 0
    valid = max((i + 1 for i in range(readable) if frames[i].size), default=0)
    return WalState(path, page_bytes, frames, intact, valid, readable, not good, salts)


class _Sums(NamedTuple):
    """What a frame adds to the checksum: its header's two words, and what its page comes to."""

    words: tuple[int, int]
    page: Check


def _frames(file: BinaryIO, page_bytes: int, order: str) -> tuple[list[Frame], list[_Sums]]:
    frames, sums = [], []
    stride = _FRAME.size + page_bytes
    while len(block := file.read(max(1, _AT_ONCE // stride) * stride)) >= stride:
        starts = range(0, len(block) - stride + 1, stride)
        pages = _page_sums(b"".join(block[i + _FRAME.size : i + stride] for i in starts), page_bytes, order)
        for start, page_sum in zip(starts, pages, strict=True):
            page, size, salts, *check = _FRAME.unpack_from(block, start)
            frames.append(Frame(page, size, salts, (check[0], check[1])))
            sums.append(_Sums(struct.unpack_from(f"{order}2I", block, start), page_sum))
    return frames, sums


def _intact(
    frames: list[Frame], sums: list[_Sums], page_bytes: int, start: Check, salts: bytes
) -> tuple[list[bool], int]:
    """Which frames are as they were written, and how many SQLite takes for right, from the first on.

    After a wrong frame the chain is taken up again in two ways. From the checksum that is reckoned from the
    wrong frame's content: if the next frame agrees, then only the checksum stored with it was damaged. Or
    from the one that is stored with it; since remains of an older log agree with each other too, the salts
    count then.
    """
    intact, readable = [False] * len(frames), len(frames)
    reckoned, stored, doubtful = start, start, 0
    for i, (frame, added) in enumerate(zip(frames, sums, strict=True)):
        follows = _after(reckoned, added, page_bytes)
        if not frame.page or frame.salts != salts or follows != frame.check:
            readable = min(readable, i)
        if frame.page and follows == frame.check:
            for j in range(doubtful, i + 1):
                intact[j] = frames[j].page > 0
        elif frame.page and frame.salts == salts and _after(stored, added, page_bytes) == frame.check:
            intact[i] = True
        if intact[i]:
            reckoned, doubtful = frame.check, i + 1
        else:
            reckoned = follows
        stored = frame.check
    return intact, readable


def _likely_salts(frames: list[Frame], sums: list[_Sums], page_bytes: int, stored: bytes) -> bytes:
    """The salts of a log without header: those of the first frame that fits to the one before it.

    The first, not the most: behind a short new log there may be a long rest of an old one.
    """
    agreed = [
        frames[i].salts
        for i, (before, frame) in enumerate(pairwise(frames), start=1)
        if frame.page and _after(before.check, sums[i], page_bytes) == frame.check
    ]
    if stored in agreed or not frames:
        return stored
    return agreed[0] if agreed else frames[0].salts


# -- the checksum ---------------------------------------------------------------------------------------
#
# For each pair of words: s0 += x[0] + s1; s1 += x[1] + s0. Taken as one sequence s0, s1, s0', s1', … each
# member is the sum of the two before it and a word, as Fibonacci's is. So the end depends on each word by a
# Fibonacci number alone, and a page comes to two scalar products, modulo 2**32.


def _add(check: Check, words: tuple[int, ...]) -> Check:
    """The rule itself, for a few words."""
    s0, s1 = check
    for i in range(0, len(words), 2):
        s0 = (s0 + words[i] + s1) & _MASK
        s1 = (s1 + words[i + 1] + s0) & _MASK
    return s0, s1


def _after(check: Check, added: _Sums, page_bytes: int) -> Check:
    """The checksum after a frame."""
    s0, s1 = _add(check, added.words)
    before, at, behind = _carried(page_bytes)
    return (before * s0 + at * s1 + added.page[0]) & _MASK, (at * s0 + behind * s1 + added.page[1]) & _MASK


@lru_cache
def _fibonacci(count: int) -> list[int]:
    numbers = [0, 1]
    while len(numbers) < count:
        numbers.append((numbers[-1] + numbers[-2]) & _MASK)
    return numbers


@lru_cache
def _carried(page_bytes: int) -> tuple[int, int, int]:
    words = page_bytes // 4
    before, at, behind = _fibonacci(words + 2)[words - 1 : words + 2]
    return before, at, behind


@lru_cache(maxsize=2)
def _factors(page_bytes: int, pages: int) -> tuple[pl.Series, pl.Series]:
    """What each word of some pages counts for the first and the second half of the checksum."""
    words = page_bytes // 4
    numbers = _fibonacci(words + 1)
    halves = (numbers[words - 1 :: -1], numbers[words:0:-1])
    first, second = (pl.concat([pl.Series(half, dtype=pl.UInt32)] * pages, rechunk=True) for half in halves)
    return first, second


def _page_sums(pages: bytes, page_bytes: int, order: str) -> list[Check]:
    """What each page adds to the two halves of a checksum that begins with 0."""
    words, count = len(pages) // 4, len(pages) // page_bytes
    endianness: Literal["little", "big"] = "little" if order == "<" else "big"
    array = pl.Array(pl.UInt32, words)
    series = pl.Series([pages]).bin.reinterpret(dtype=array, endianness=endianness).explode()
    # Both the product and the sum of UInt32 wrap around, which is what is wanted.
    halves = (
        (series * factor).reshape((count, page_bytes // 4)).arr.sum().to_list()
        for factor in _factors(page_bytes, count)
    )
    return list(zip(*halves, strict=True))
