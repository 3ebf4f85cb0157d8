"""The ``collector.yaml`` that ``otel-moesif init`` writes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import indent
from typing import Any

import yaml

_MARK = re.compile(r"@(\w+)@")
MOESIF = "https://api.moesif.net"  # apidocs _overview.md

_HEAD = """\
# otel-moesif for @title@; written by `otel-moesif init`.
#
#   export MOESIF_APPLICATION_ID=<Collector Application Id, from Moesif's settings page>
#   otel-moesif validate@file@
#   otel-moesif run@file@
#
# Without a Moesif account: `otel-moesif sandbox` in another window, and here
#
#   export MOESIF_APPLICATION_ID=sandbox MOESIF_BASE_URL=http://localhost:9500

receivers:
  otlp:
    protocols:
@listen@

processors:
  # Spans and access-log records in, one analytics event per API call out.
  apim_event:@apim_event@
"""
_TAIL = """\

exporters:
  moesif:
    endpoint: ${env:MOESIF_BASE_URL:-@endpoint@}
    application_id: ${env:MOESIF_APPLICATION_ID}@options@

service:
  journal:
    # What was acknowledged to the gateway and is not delivered yet. Belongs on a disk that stays.
    directory: ./data
  pipelines:
    traces:
      receivers: [otlp]
      processors: [@processors@]
      exporters: [moesif]
    logs:
      receivers: [otlp]
      processors: [@processors@]
      exporters: [moesif]
"""
_NEAR = """\
      # For a gateway on this machine. 0.0.0.0 would let others in, without tls and auth whoever they are.
      grpc:
        endpoint: localhost:4317
      http:
        endpoint: localhost:4318"""
_FAR = """\
      # The gateway is another pod, so everybody can connect, without tls and auth whoever they are.
      grpc:
        endpoint: 0.0.0.0:4317
      http:
        endpoint: 0.0.0.0:4318"""
_LIKE_WSO2 = """
    # The shape that WSO2's reporter sends, for the dashboards that you have. Without this line events tell
    # more: whole URIs, session, company, trace and span (docs/moesif.md).
    compatibility: wso2"""


@dataclass(frozen=True)
class CollectorFile:
    """What is in it besides the frame that is always the same.

    Attributes:
        title: Whom it is for.
        options: YAML, the options of ``apim_event``; may be comments alone.
        fields: Constants for ``apim_event::fields``, beside those in ``options``.
        endpoint: Base URL of the Moesif collector API where MOESIF_BASE_URL is not set.
        mask: For ``redact::mask``: column, and how.
        masked_headers: For ``redact::headers``.
        redact: Whether the processor ``redact`` is installed.
        samples: Whether Moesif's sampling rates are applied; None: as by default.
        like_wso2: Whether events shall have the shape of WSO2's own reporter.
        in_cluster: Whether the gateway surely is on another host.
        path: Where it will be, if not at the place that all commands look at.
    """

    title: str
    options: str
    fields: Mapping[str, str] = field(default_factory=dict)
    endpoint: str = MOESIF
    mask: Mapping[str, str] = field(default_factory=dict)
    masked_headers: Sequence[str] = ()
    redact: bool = True
    samples: bool | None = None
    like_wso2: bool = False
    in_cluster: bool = False
    path: str = ""

    def text(self) -> str:
        """The whole file."""
        redacts = bool(self.mask or self.masked_headers)
        processors = ["apim_event", *(["redact"] if redacts and self.redact else [])]
        return _filled(
            _HEAD + (self._redact() if redacts else "") + _TAIL,
            title=self.title,
            file=f" --config {shlex.quote(self.path)}" if self.path else "",
            listen=_FAR if self.in_cluster else _NEAR,
            apim_event=self._apim_event(),
            endpoint=self.endpoint,
            options=self._options(),
            processors=", ".join(processors),
        )

    def _apim_event(self) -> str:
        options = self.options
        if self.fields:
            constants = [f"  {name}: {{value: {scalar(value)}}}\n" for name, value in self.fields.items()]
            options += "fields:\n" + "".join(constants)
        return f"\n{indent(options.rstrip(), '    ')}" if options.strip() else ""

    def _options(self) -> str:
        options = _LIKE_WSO2 if self.like_wso2 else ""
        if self.samples is not None:
            options += f"\n    sampling: {{enabled: {str(self.samples).lower()}}}"
        return options

    def _redact(self) -> str:
        lines = ["redact:"]
        if self.mask:
            lines += ["  mask:", *(f"    {column}: {kind}" for column, kind in self.mask.items())]
        if self.masked_headers:
            lines += [f"  headers: [{', '.join(map(scalar, self.masked_headers))}]"]
        if self.redact:
            return indent("\n".join(lines), "  ") + "\n"
        lines.insert(0, "NOT MASKED: the processor redact is not installed. With it, before the exporter:")
        return indent("\n".join(lines), "  # ") + "\n"


def scalar(value: str) -> str:
    """A text as a quoted YAML scalar in which nothing is a reference (``$$`` stands for ``$``)."""
    dumped: Any = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=float("inf"))
    return str(dumped).strip().replace("$", "$$")


def _filled(template: str, **values: str) -> str:
    """The template's ``@name@`` replaced; ``${…}`` belongs to the file itself."""
    return _MARK.sub(lambda mark: values[mark[1]], template)
