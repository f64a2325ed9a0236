"""The loop methods that lead out of the simulation, and what they do in it: refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from tests.sim.errors import OutsideWorldError

OUTSIDE = (
    # threads
    *("run_in_executor", "set_default_executor", "call_soon_threadsafe"),
    *("getaddrinfo", "getnameinfo"),
    # sockets and pipes
    *("create_connection", "create_server", "create_unix_connection", "create_unix_server"),
    *("create_datagram_endpoint", "connect_accepted_socket", "start_tls", "sendfile"),
    *("connect_read_pipe", "connect_write_pipe"),
    *("add_reader", "remove_reader", "add_writer", "remove_writer"),
    *("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"),
    *("sock_sendto", "sock_sendall", "sock_sendfile", "sock_connect", "sock_accept"),
    # processes
    *("subprocess_shell", "subprocess_exec", "add_signal_handler", "remove_signal_handler"),
)


def refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OutsideWorldError(f"{name} is not to be used in simulation")

    return refuse
