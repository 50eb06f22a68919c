"""Protocols between the node and its components, such as the planner services."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Protocol

from amodal_perception.ros.parameters import NodeParameters
from amodal_perception.structures import Frame, Scene


class Host(Protocol):
    """The node as its components see it; it also has the methods of rclpy's ``Node``.

    Attributes:
        parameters: the present values.
        is_active: whether the lifecycle state is active.
        enabled: whether the camera may be read; components may switch it.
        executor: rclpy's executor of the node; None while there is none.
    """

    parameters: NodeParameters
    is_active: bool
    enabled: bool
    executor: Any
    create_service: Any
    destroy_service: Any
    create_timer: Any
    destroy_timer: Any
    get_clock: Any
    get_logger: Any

    def scene_message(self, scene: Scene) -> Any:
        """Make an AmodalScene; from any thread."""
        ...

    def infer_once(self, message: Any) -> Future[Scene]:
        """Run one image message through the pipeline, before the camera's next.

        Raises:
            AmodalError: the node is not active, or has enough of such work already.
        """
        ...


class Component(Protocol):
    """A part of the node that adds to its scenes; works while the node is configured.

    All but `process` is called in the executor's thread.
    """

    def create(self) -> None:
        """Create services and publishers: the node is being configured, the engine is loaded."""
        ...

    def destroy(self) -> None:
        """Destroy them again; called more than once, also when `create` failed half-way."""
        ...

    def reset(self) -> None:
        """Drop all state: the clock jumped, or the camera was switched off or on."""
        ...

    @property
    def wants_frames(self) -> bool:
        """Whether images are needed although nobody subscribes to what the node publishes."""
        ...

    def process(self, frame: Frame, scene: Scene, received_s: float) -> Scene:
        """Process a scene before it is published, in the inference thread.

        Args:
            frame: the image.
            scene: the pipeline's result.
            received_s: ``time.monotonic()`` at the arrival of the image.

        Returns:
            The scene to publish: the same, or a copy that knows more, such as track ids.
        """
        ...
