"""A bound for nesting that is lower than the parser's own.

upb goes down 100 messages and cannot be told to stop sooner. So a request is put into as many messages as it
is to have fewer: the parser then meets its own bound where ours is, and nothing runs in Python per message.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from otel_moesif.otlp.wire import head

DEEPEST = 100
"""Messages within messages that protobuf's parser goes down (upb, ``kUpb_DefaultDepthLimit``)."""

_DEEPER, _REQUEST = 1, 2  # fields of the message around


def parser(request: Any, depth: int) -> Callable[[bytes], Any]:
    """What makes such a request of bytes; raises ``DecodeError`` for one that is nested more deeply.

    Args:
        request: The class of its message.
        depth: Most messages within messages; the request itself does not count.
    """
    return request.FromString if depth >= DEEPEST else _bounded(request, depth)


@cache
def _bounded(request: Any, depth: int) -> Callable[[bytes], Any]:
    around, levels = _around(request), DEEPEST - depth
    content = attrgetter(".".join(["deeper"] * (levels - 1) + ["request"]))

    def parse(data: bytes) -> Any:
        parts, size = [data], len(data)
        for number in [_REQUEST] + [_DEEPER] * (levels - 1):
            parts.append(head(number, size))
            size += len(parts[-1])
        return content(around.FromString(b"".join(reversed(parts))))

    return parse


@cache
def _around(request: Any) -> Any:
    """A message that holds a request, or itself."""
    own = request.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name=f"otel_moesif/depth/{own.name}.proto",
        package=f"otel_moesif.depth.{own.name}",
        syntax="proto3",
        dependency=[own.file.name],
    )
    message = file.message_type.add(name="Around")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, number, kind in (
        ("deeper", _DEEPER, f"{file.package}.Around"),
        ("request", _REQUEST, own.full_name),
    ):
        message.field.add(
            name=name,
            number=number,
            type=kinds.TYPE_MESSAGE,
            label=kinds.LABEL_OPTIONAL,
            type_name=f".{kind}",
        )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.Around"))
