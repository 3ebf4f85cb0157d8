"""What `tests.ports` promises to the tests that rely on it."""

import socket
import subprocess
import sys

from tests import ports
from tests.ports import free_port

OTHER_PROCESS = "from tests.ports import free_port; print(*(free_port() for _ in range(500)))"


def test_it_can_be_listened_on_and_got_back():
    port = free_port()
    for _ in range(2):
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_none_is_given_twice_not_even_to_another_process():
    mine = [free_port() for _ in range(500)]
    others = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    assert len(others) == 500
    assert len({*mine, *map(int, others)}) == 1000


def test_the_kernel_gives_none_of_them_to_others():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert free_port() < server.getsockname()[1]


def test_one_where_somebody_listens_is_not_given(monkeypatch):
    with socket.create_server(("127.0.0.1", port := free_port())):
        monkeypatch.setattr(ports, "_LOWEST", port)
        monkeypatch.setattr(ports, "_first_ephemeral", lambda: port + 3)
        assert free_port() in {port + 1, port + 2}
