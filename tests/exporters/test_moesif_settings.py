"""Options of the moesif exporter, and what is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from otel_moesif import ConfigError
from otel_moesif.exporters.moesif import FACTORY


def test_defaults():
    config = FACTORY.config(application_id=" id-of-an-application\n")
    assert config.endpoint == "https://api.moesif.net"
    assert config.application_id.get_secret_value() == "id-of-an-application"
    assert config.timeout == timedelta(seconds=10)
    assert config.compression == "gzip"


@pytest.mark.parametrize(
    ("written", "used"),
    [
        ("https://api.moesif.net/", "https://api.moesif.net"),
        ("https://api.moesif.net/v1", "https://api.moesif.net"),
        ("https://api.moesif.net/v1/", "https://api.moesif.net"),
        ("http://localhost:9500/collector/v1", "http://localhost:9500/collector"),
        (" http://[::1]:9500 ", "http://[::1]:9500"),
        ("HTTPS://api.moesif.net", "https://api.moesif.net"),
    ],
)
def test_an_endpoint_is_tolerated_as_people_write_it(written, used):
    assert FACTORY.config(endpoint=written, application_id="x").endpoint == used


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "api.moesif.net",
        "ftp://x",
        "https://",
        "https://h:port",
        "https://h:99999",
        "https://u:p@h",
        "https://h?a=b",
        "https://h?",
        "https://h#",
        "https://:p@h",
        "https://h h",
        "https://h/\x00",
        "https://xn--",
    ],
)
def test_what_is_no_base_url_is_refused(endpoint):
    with pytest.raises(ValidationError, match="must be the base URL"):
        FACTORY.config(endpoint=endpoint, application_id="x")


@pytest.mark.parametrize("application_id", ["", "  ", "two\nlines", "Schlüssel"])
def test_what_is_no_application_id_is_refused_without_showing_it(application_id):
    with pytest.raises(ValidationError, match=r"must (not be empty|be printable ASCII)") as caught:
        FACTORY.config(application_id=application_id)
    assert "Schl" not in str(caught.value)


def test_application_id_is_required_and_never_shown(context):
    with pytest.raises(ConfigError, match="application_id: is required"):
        FACTORY.build(FACTORY.config(), context)
    assert "s3cret" not in repr(FACTORY.config(application_id="s3cret"))


def test_a_timeout_of_nothing_is_refused():
    with pytest.raises(ValidationError, match="longer than zero"):
        FACTORY.config(application_id="x", timeout="0s")
