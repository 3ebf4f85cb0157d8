"""What tests of `redact` share: secrets, a processor, and all that could leave."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote, unquote_plus

from otel_moesif.processors.redact.processor import Redact
from otel_moesif.processors.redact.settings import RedactSettings
from tests.exporters.mapped import texts as moesif_texts
from tests.processors.events import Counters, make

KEY = "0123456789abcdef"
EMAIL = "alice.o'neil+x@mail.example.com"
CARD, CARD_SPACED, NO_CARD = "4111111111111111", "5500 0055 5555 5559", "4111111111111112"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
ALL = ["email", "card_number", "token", {"regex": r"EMP-\d{6}"}]


def redacted(*rows, **options):
    return Redact(RedactSettings(**options), Counters().context).process(make(*rows))


def one(column, value, **options):
    return redacted({column: value}, **options).frame[column][0]


def everything(events):
    """All that any exporter could send, decoded as often as somebody might."""
    texts = [*events.to_json(), *moesif_texts(events)]
    texts += [
        text for column in ("requestBody", "responseBody") for text in events.frame[column].drop_nulls()
    ]
    blob = "\n".join(texts)
    for encoded in re.findall(r"[A-Za-z0-9+/]{8,}", blob):
        padded = encoded[: len(encoded) // 4 * 4 + (0 if len(encoded) % 4 == 1 else len(encoded) % 4)]
        blob += "\n" + base64.b64decode(padded + "=" * (-len(padded) % 4)).decode("utf-8", "replace")
    blob += "\n" + re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), blob)
    return blob + "\n" + unquote(unquote(blob)) + "\n" + unquote_plus(blob)
