"""Calls of the node's services that wait for their answer while other things happen."""

from __future__ import annotations

import time

from running_node import PATIENCE_S, Camera

ARRIVAL_S = 0.4


class Caller:
    """Calls services from a camera's node."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._clients: dict = {}

    def __call__(self, service_type, name: str, **fields):
        """Call a service and return the future."""
        if name not in self._clients:
            self._clients[name] = self._camera.node.create_client(
                service_type, f"/amodal_perception/{name}"
            )
        client = self._clients[name]
        assert client.wait_for_service(PATIENCE_S), f"no service {name}"
        return client.call_async(service_type.Request(**fields))

    def let_arrive(self) -> None:
        """Give calls the time to arrive, which nothing else tells."""
        until_s = time.monotonic() + ARRIVAL_S
        self._camera.spin_until(lambda: time.monotonic() > until_s, "calls to arrive")


def seconds(value: float):
    """Make a Duration."""
    from builtin_interfaces.msg import Duration

    return Duration(sec=int(value), nanosec=round(value % 1 * 1e9))
