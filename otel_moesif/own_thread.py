"""Blocking calls beside the event loop, each in a thread of its own.

Not in the loop's shared threads (`asyncio.to_thread`): these are few, names are resolved in them, too, and
whoever hangs there would hold up the journal and with it every other exporter. And the process waits for
them when it ends, but not for these.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

Result = TypeVar("Result")


async def in_own_thread(function: Callable[..., Result], *args: object) -> Result:
    """Call a function; if the wait for it is cancelled, it goes on to its end.

    Args:
        function: What may block.
        args: Its arguments.

    Raises:
        BaseException: Whatever it raised.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[Result | None, BaseException | None]] = loop.create_future()

    def work() -> None:
        outcome: tuple[Result | None, BaseException | None]
        try:
            outcome = function(*args), None
        except BaseException as error:  # noqa: BLE001 - it is for who waits, also a panic of polars'
            outcome = None, error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, outcome)

    def tell(outcome: tuple[Result | None, BaseException | None]) -> None:
        if not answer.done():
            answer.set_result(outcome)

    threading.Thread(target=work, name=getattr(function, "__qualname__", None), daemon=True).start()
    result, error = await answer
    if error:
        raise error
    return cast("Result", result)
