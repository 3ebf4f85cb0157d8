"""From a batch to request bodies: whose events, which of them, as what; everything that needs no network."""

from __future__ import annotations

from collections.abc import Mapping as Dictionary
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
from isal import isal_zlib

from otel_moesif import Events, PermanentError, Problem
from otel_moesif.exporters.moesif.app_config import AppConfig
from otel_moesif.exporters.moesif.default_shape import uri
from otel_moesif.exporters.moesif.identity import SUFFIX, Identity
from otel_moesif.exporters.moesif.limits import OLDEST, fitted, late, parts, too_old
from otel_moesif.exporters.moesif.mapping import Mapping
from otel_moesif.exporters.moesif.rates import sample
from otel_moesif.exporters.moesif.settings import EVENT_BYTES, MoesifSettings
from otel_moesif.exporters.moesif.tenants import Share, Tenants

# moesif.md section 8, item 6: far below the 50 MB that Moesif takes (apidocs _errors.md).
REQUEST_BYTES = 5_000_000

_GZIP_LEVEL = 1  # of isal; 2 and 3 save 0.5 and 4 % of the bytes
_GZIP_WBITS = 31  # zlib.h: 15 bits of window, plus 16 for the gzip format


@dataclass(frozen=True)
class Prepared:
    """What is to be sent to one application.

    Attributes:
        application_id: The secret itself.
        frame: All of its events, with the columns of `Identity`.
        bodies: Of requests to ``/v1/events/batch``.
        sent: How many events are in them; the others Moesif does not want, by its sampling rates.
        late: How many are sent, but so late that Moesif's alarms no longer count them.
    """

    application_id: str
    frame: pl.DataFrame
    bodies: Sequence[bytes]
    sent: int
    late: int


class Preparation:
    """Prepares batches; its methods may be called by several threads at once.

    Args:
        settings: Of the exporter.
    """

    def __init__(self, settings: MoesifSettings) -> None:
        self.tenants = Tenants(settings)
        self._identity = Identity(settings.identity, SUFFIX[settings.compatibility])
        self._mapping = Mapping(settings, end=",")
        self._sampling = settings.sampling
        self._compress = settings.compression == "gzip"

    def problems(self) -> list[Problem]:
        """What is wrong with the options, seen together."""
        return self.tenants.problems() + self._identity.problems()

    def prepare(
        self, events: Events, configs: Dictionary[str, AppConfig], now: datetime | None = None
    ) -> list[Prepared]:
        """Prepare a batch.

        Args:
            events: At least one.
            configs: Sampling rates by application id; one that is missing keeps everything.
            now: The time.

        Raises:
            PermanentError: Moesif will never take some of them; nothing must be sent before they are out.
        """
        now = now or datetime.now(UTC)
        shares = self.tenants.shares(events)
        for share in shares:
            if old := too_old(share.frame, now):
                reason = f"older than {OLDEST.days} days, which Moesif rejects"
                raise PermanentError(reason, rows=share.rows[old].to_list())
        return [self._prepared(share, configs.get(share.application_id), now) for share in shares]

    def compressed(self, content: bytes) -> bytes:
        """A body as it goes over the wire."""
        return isal_zlib.compress(content, _GZIP_LEVEL, wbits=_GZIP_WBITS) if self._compress else content

    def _prepared(self, share: Share, config: AppConfig | None, now: datetime) -> Prepared:
        every = frame = self._identity.columns(share.frame)
        rows = share.rows
        if config is not None and not config.keeps_everything:
            sampled = sample(_calls(frame), config, self._sampling.precedence)
            frame = frame.with_columns(sampled.weight.alias("weight")).filter(sampled.keep)
            rows = rows.filter(sampled.keep)
        texts, never = fitted(self._mapping.encode(frame), frame, self._mapping)
        if never:
            raise PermanentError(
                f"larger than {EVENT_BYTES:,} bytes whatever is left out", rows=rows[never].to_list()
            )
        bodies = [self._body(part) for part in parts(texts, REQUEST_BYTES)]
        return Prepared(share.application_id, every, bodies, frame.height, late(frame, now))

    def _body(self, objects: memoryview) -> bytes:
        array = (b"[", objects, b"]")
        if not self._compress:
            return b"".join(array)
        compressor = isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WBITS)
        return b"".join([*map(compressor.compress, array), compressor.flush()])


def _calls(frame: pl.DataFrame) -> pl.DataFrame:
    """What sampling rules look at, under the names of `rates`."""
    return frame.select(
        "user_id",
        "company_id",
        pl.col("apiMethod").alias("verb"),
        uri(frame).alias("uri"),
        pl.col("userIp").alias("ip_address"),
        pl.when(pl.col("proxyResponseCode") != 0).then("proxyResponseCode").alias("status"),
        pl.col("requestHeaders").alias("request_headers"),
        pl.col("responseHeaders").alias("response_headers"),
        pl.col("requestBody").alias("request_body"),
        pl.col("transactionId").alias("transaction_id"),
        "weight",
    )
