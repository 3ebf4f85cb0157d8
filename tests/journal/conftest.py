from __future__ import annotations

import pytest

from tests.journal.journals import make


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A journal with a log; to be copied, not to be changed."""
    return make(tmp_path_factory.mktemp("journal") / "base")


@pytest.fixture
def made(base, tmp_path):
    """A copy of it."""
    return base.copy(tmp_path / "journal")
