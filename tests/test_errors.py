"""What is said of an error that others wrote: its type and place, never a text that may quote data."""

from __future__ import annotations

import errno
import os

import pytest

from otel_moesif.errors import RetryableError, describe


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RetryableError("the backend is busy"), "RetryableError: the backend is busy"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "OSError: No space left on device"),
        (ConnectionError("cannot reach https://user:s3cret@example.org"), "ConnectionError"),
        (ValueError("invalid literal for int(): 's3cret'"), "ValueError"),
    ],
    ids=["ours", "of the system", "a plugin's of the system", "a plugin's"],
)
def test_only_texts_that_were_written_to_be_shown_are_shown(error, said):
    assert describe(error) == said
    with pytest.raises(type(error)) as raised:
        _raise(error)
    place = "" if ": " in said else ": raised in _raise (test_errors.py:"
    assert describe(raised.value).startswith(said + place)
    assert "s3cret" not in describe(raised.value)


def _raise(error):
    raise error
