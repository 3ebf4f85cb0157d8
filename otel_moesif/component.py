"""What a component is: the protocols, the factories, and the contract of their life.

The contract:

1. Building is free of I/O: a constructor takes its validated config and a `Context`, and keeps them.
2. ``start()`` is called once, before any data. It may open sockets and files. What it cannot do it says
   with `StartError`. Extensions start first, then exporters, then receivers, so that whoever starts can
   be used by whoever starts later.
3. ``shutdown()`` is called at most once after a start, but must be safe before ``start()`` and twice.
   Receivers stop first: when their ``shutdown()`` returns, they pass nothing on any more.
4. Processors have no life of their own: ``process()`` is a function from a batch to a batch, called from
   one worker thread, never concurrently for one pipeline, and must not change its argument.
5. ``export()`` is called with one batch after another, up to ``sending_queue::num_consumers`` at once. It
   returns when the backend has the events (or how many of them it got, when it left some out on purpose),
   raises `RetryableError` to be called again with the same events, `PausedError` when first somebody has to
   do something, and `PermanentError` when no retry can help. Plain ``def export`` runs in its own thread.
"""

from __future__ import annotations

import builtins
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from otel_moesif.errors import ConfigError, Problem

if TYPE_CHECKING:
    import polars as pl
    from opentelemetry.metrics import Meter
    from pydantic import BaseModel

    from otel_moesif.dialects.dialect import Dialect
    from otel_moesif.events import Events
    from otel_moesif.logs import Logs
    from otel_moesif.settings import ExporterConfig
    from otel_moesif.spans import Spans

    Batch: TypeAlias = Spans | Logs | Events


class Signal(StrEnum):
    """What a receiver takes; also the first part of a pipeline's id."""

    TRACES = "traces"
    LOGS = "logs"


class Kind(StrEnum):
    """The four kinds of component, spelled as their section in the configuration."""

    RECEIVER = "receivers"
    PROCESSOR = "processors"
    EXPORTER = "exporters"
    EXTENSION = "extensions"


# opentelemetry-collector component/identifiable.go: type and name of a component id.
_TYPE = re.compile(r"[a-zA-Z][0-9a-zA-Z_]{0,62}")
_NAME = re.compile(r"[^\s\x00-\x1f/,][^\x00-\x1f,]{0,1023}")


@dataclass(frozen=True, order=True)
class ComponentId:
    """``type[/name]``, as written in the configuration: ``moesif``, ``moesif/eu``."""

    type: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> ComponentId:
        """Read ``type[/name]``.

        Raises:
            ConfigError: It is not of that form.
        """
        type_, slash, name = text.partition("/")
        type_, name = type_.strip(), name.strip()
        if not _TYPE.fullmatch(type_) or (slash and not _NAME.fullmatch(name)):
            raise ConfigError(
                [Problem("", f'"{text}" is not a component id (type or type/name, for example moesif/eu)')]
            )
        return cls(type_, name)

    def __str__(self) -> str:
        return f"{self.type}/{self.name}" if self.name else self.type


@dataclass(frozen=True)
class Context:
    """What the collector gives to a component when it is built.

    Attributes:
        id: The component's own id, for messages and metric attributes.
        logger: Writes into the collector's log, under the component's name.
        meter: For instruments of the component's own.
        dialects: The gateway dialects that the plugins brought, most specific first.
        extensions: Those of ``service::extensions`` by id, all of them built before anything else.
        directory: A directory of the component's own for what it would like to find again after a restart;
            losing it costs nothing but work. Beside the journal, and like it used by one collector at a time.
            The component makes it when it first writes there (readable by its owner alone: 0700). None where
            nothing may be written: ``validate``, ``check``, ``convert``.
    """

    id: ComponentId
    logger: logging.Logger
    meter: Meter
    dialects: Sequence[Dialect] = ()
    extensions: Mapping[str, Extension] = field(default_factory=dict)
    directory: Path | None = None


@dataclass(frozen=True)
class Receipt:
    """What became of an accepted request: OTLP's ``partial_success``.

    Attributes:
        rejected: Spans or log records that could not be taken.
        message: Why, for whoever looks after the client.
    """

    rejected: int = 0
    message: str = ""


class Intake(Protocol):
    """Where a receiver hands over what it received."""

    @property
    def signals(self) -> frozenset[Signal]:
        """The signals for which this receiver stands in a pipeline."""

    async def accept(
        self, signal: Signal, request: bytes, *, transport: str, metadata: Mapping[str, str] | None = None
    ) -> Receipt:
        """Store one serialized OTLP export request; returns only after the journal's commit.

        Args:
            signal: Which of the OTLP services it was sent to.
            request: ``ExportTraceServiceRequest`` or ``ExportLogsServiceRequest``, protobuf, not compressed.
            transport: ``grpc``, ``http`` …, for the counters.
            metadata: Resource attributes that every resource of the request shall have, whatever the client
                says there: who sent it, and from where (``include_metadata``).

        Returns:
            What could not be taken of a request that was taken otherwise.

        Raises:
            InvalidData: The bytes are malformed, or nothing in them can be taken; the client must not send
                them again.
            TooLarge: It is beyond a bound.
            Refused: Nothing was stored; the client shall try again.
        """


class Receiver(Protocol):
    """Takes requests from outside and hands them, as bytes, to the intake."""

    async def start(self, intake: Intake) -> None: ...

    async def shutdown(self) -> None: ...


class Processor(Protocol):
    """Turns one batch into another; see `ProcessorFactory.signature` for which into which."""

    def process(self, batch: Any) -> Any: ...


@dataclass(frozen=True)
class Held:
    """What a processor kept back so far, for `HoldingProcessor`.

    Attributes:
        rows: By the name under which it was given back. Two columns are the converter's own: ``since``
            (Int64, nanoseconds of the monotonic clock: how long a row waits; after a restart its time begins
            anew) and ``piece``; rows that are to wait on are given back with both, new rows without or null.
        now: The same clock.
        ending: Nothing comes any more: what waits has to leave.
    """

    rows: Mapping[str, pl.DataFrame]
    now: int
    ending: bool = False


@dataclass(frozen=True)
class Processed:
    """What a processor that holds rows back gives: the batch to go on, and the rows that wait.

    Attributes:
        batch: For the next processor.
        held: Rows to be given back with the next batch, by name; any columns. The converter stores them in
            the transaction that stores the events, so that they survive a restart.
        due: When the first of them has waited long enough, in nanoseconds of the monotonic clock: the
            processor is then called, if need be with an empty batch. None: when more comes.
    """

    batch: Any
    held: Mapping[str, pl.DataFrame]
    due: int | None = None


@runtime_checkable
class HoldingProcessor(Protocol):
    """A processor that lets rows wait for those of later batches; called instead of ``process()``."""

    def process_held(self, batch: Any, held: Held) -> Processed: ...


class Exporter(Protocol):
    """Ships events to one backend."""

    async def start(self) -> None: ...

    def export(self, events: Events) -> Awaitable[int | None] | int | None: ...

    async def shutdown(self) -> None: ...


@runtime_checkable
class RoutingExporter(Protocol):
    """An exporter that ships for several tenants, of whom none shall hold up another.

    Each route gets a sender with a cursor, batches and a circuit of its own, and appears in the journal as
    ``id@route``. ``export()`` may still be given events of several routes: what was stored under another
    configuration.
    """

    @property
    def routes(self) -> Sequence[str]:
        """Names of the routes beside the default one; no commas."""

    def route(self, events: Events) -> pl.Series:
        """For each event the name of its route; null or any other text: the default one."""


class Extension(Protocol):
    """Anything that runs beside the pipelines."""

    async def start(self) -> None: ...

    async def shutdown(self) -> None: ...


@dataclass(frozen=True)
class Subject:
    """Who sent a request, as an `Authenticator` found out.

    Attributes:
        name: For people and for routing: a user's name, a token's name, a JWT's ``sub``. Never a secret.
        attributes: What else is known, for example claims.
    """

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Authenticator(Protocol):
    """An extension that a receiver names under ``auth::authenticator``."""

    async def authenticate(self, headers: Mapping[str, str]) -> Subject:
        """Judge a request by its headers (gRPC: metadata), before its body is read.

        Args:
            headers: Names in lower case; of several values of one name the first.

        Raises:
            Unauthenticated: They do not suffice.
        """


@dataclass(frozen=True)
class ReceiverFactory:
    """How to make a receiver.

    Attributes:
        type: The name in the configuration, lower_snake.
        config: Pydantic model of its options; unknown keys are refused whatever the model says.
        build: Called with (config, context); does no I/O.
        description: One line for ``otel-moesif components``.
        signals: What it can receive.
    """

    type: str
    config: builtins.type[BaseModel]
    build: Callable[[Any, Context], Receiver]
    description: str = ""
    signals: frozenset[Signal] = field(default_factory=lambda: frozenset(Signal))
    kind: Kind = Kind.RECEIVER


@dataclass(frozen=True)
class ProcessorFactory:
    """How to make a processor.

    Attributes:
        signature: Which batch type it turns into which, for example ``{Spans: Events, Logs: Events}``.
            A pipeline whose last batch type is not `Events` is refused when it is built.
    """

    type: str
    config: builtins.type[BaseModel]
    build: Callable[[Any, Context], Processor]
    signature: Mapping[builtins.type, builtins.type]
    description: str = ""
    kind: Kind = Kind.PROCESSOR


@dataclass(frozen=True)
class ExporterFactory:
    """How to make an exporter; its config extends `ExporterConfig`: every exporter queues and retries."""

    type: str
    config: builtins.type[ExporterConfig]
    build: Callable[[Any, Context], Exporter]
    description: str = ""
    kind: Kind = Kind.EXPORTER


@dataclass(frozen=True)
class ExtensionFactory:
    """How to make an extension."""

    type: str
    config: builtins.type[BaseModel]
    build: Callable[[Any, Context], Extension]
    description: str = ""
    kind: Kind = Kind.EXTENSION


Factory: TypeAlias = ReceiverFactory | ProcessorFactory | ExporterFactory | ExtensionFactory
