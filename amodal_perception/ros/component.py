"""What a part that is mounted on the node offers it: the planner interface is one."""

from __future__ import annotations

from typing import Protocol

from amodal_perception.structures import Frame, Scene


class Component(Protocol):
    """Lives as long as the node and works while it is configured.

    All but `see` is called in the executor's thread.
    """

    def create(self) -> None:
        """Create services and publishers: the node is being configured, the engine is loaded."""
        ...

    def destroy(self) -> None:
        """Destroy them again; called more than once, also when `create` failed half-way."""
        ...

    def reset(self) -> None:
        """Forget the past: the clock jumped, or the camera was switched off or on."""
        ...

    @property
    def wants_frames(self) -> bool:
        """Whether the camera must be read although nobody listens to what the node publishes."""
        ...

    def see(self, frame: Frame, scene: Scene, received_s: float) -> Scene:
        """Look at a scene before it is published, in the worker's thread.

        Args:
            frame: the image.
            scene: what was seen in it.
            received_s: ``time.monotonic()`` at the arrival of the image.

        Returns:
            The scene to publish: the same, or a copy that knows more, such as track ids.
        """
        ...
