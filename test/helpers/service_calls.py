"""Calls of the node's services that wait for their answer while other things happen."""

from __future__ import annotations

from helpers.running_node import PATIENCE_S, SETTLE_S, Camera

ARRIVAL_S = 0.4


class Caller:
    """Calls services from a camera's node."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._clients: dict = {}

    def __call__(self, service_type, name: str, **fields):
        """Call a service and return the future."""
        if name not in self._clients:
            client = self._camera.node.create_client(service_type, f"/amodal_perception/{name}")
            assert client.wait_for_service(PATIENCE_S), f"no service {name}"
            # The service finds its client in its own time, and before that its answer is lost.
            self._camera.wait(SETTLE_S)
            self._clients[name] = client
        return self._clients[name].call_async(service_type.Request(**fields))

    def let_arrive(self) -> None:
        """Give calls the time to arrive, which nothing else tells."""
        self._camera.wait(ARRIVAL_S)


def seconds(value: float):
    """Make a Duration."""
    from builtin_interfaces.msg import Duration

    return Duration(sec=int(value), nanosec=round(value % 1 * 1e9))
