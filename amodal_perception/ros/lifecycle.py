"""A ROS 2 lifecycle node and a spin loop that survive failing callbacks and requests.

Three traps of rclpy let one bad message or request from anyone on the network end a node: an
impossible transition raises through ``spin``; so does any callback that raises; and an entity
whose message could not be taken is never served again. What a transition raises is swallowed.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from amodal_perception.errors import AmodalError

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)


class GuardedLifecycleNode(LifecycleNode):
    """A ROS 2 lifecycle (managed) node whose transitions may fail; subclasses define them.

    Whatever a transition raises is logged and kept in `transition_error`; while configuring and
    activating it leaves the node where it was, else it is freed and must be configured anew.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.transition_error: Exception | None = None
        self._is_starting = False
        change_state = self._service_change_state.callback

        def answer(request: Any, response: Any) -> Any:
            try:
                return change_state(request, response)
            except Exception as error:
                self.get_logger().warning(f"transition refused: {error}")
                response.success = False
                return response

        self._service_change_state.callback = answer

    def configure(self) -> None:
        """Load and create everything."""
        raise NotImplementedError

    def activate(self) -> None:
        """Start processing."""
        raise NotImplementedError

    def deactivate(self) -> None:
        """Stop processing, keep everything."""
        raise NotImplementedError

    def free(self) -> None:
        """Free everything; from any state."""
        raise NotImplementedError

    def note_callback_error(self, text: str) -> None:
        """Record the traceback of a callback that raised."""
        raise NotImplementedError

    @property
    def state(self) -> str:
        """The name of the state, such as ``active``."""
        return str(self._state_machine.current_state[1])

    def autostart(self) -> None:
        """Configure and activate.

        Raises:
            Exception: what the transition raised.
        """
        self._is_starting = True
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != SUCCESS:
                raise self.transition_error or AmodalError("the node could not start")
        self._is_starting = False

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Handle the transition to inactive; see `configure`."""
        return self._transition("configure", self.configure, FAILURE)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Handle the transition to active; see `activate`."""
        return self._transition("activate", self.activate, FAILURE)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Handle the transition back to inactive; see `deactivate`."""
        return self._transition("deactivate", self.deactivate, ERROR)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Handle the transition to unconfigured; see `free`."""
        return self._transition("clean up", self.free, ERROR)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Handle the transition to finalized; see `free`."""
        return self._transition("shut down", self.free, ERROR)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Handle a failed transition: fall back to unconfigured."""
        error = self.transition_error
        outcome = self._transition("recover", self.free, ERROR)
        self.transition_error = self.transition_error or error
        return outcome

    def _transition(
        self, name: str, action: Callable[[], None], otherwise: TransitionCallbackReturn
    ) -> TransitionCallbackReturn:
        self.transition_error = None
        try:
            action()
        except Exception as error:
            self.transition_error = error
            if not self.context.ok():
                return otherwise  # it was shut down meanwhile: nothing can be created, nor logged
            if not isinstance(error, AmodalError | ExternalShutdownException):
                self.get_logger().error(traceback.format_exc())
            if not self._is_starting:
                self.get_logger().error(f"could not {name}: {error}")
            return otherwise
        return SUCCESS


def spin(
    node: GuardedLifecycleNode, executor: SingleThreadedExecutor, go_on: Callable[[], bool]
) -> None:
    """Spin: serve callbacks until ROS is shut down, or as long as `go_on` allows.

    No callback can end this by an exception.

    Raises:
        ExternalShutdownException: ROS was shut down while it waited.
    """
    # Asked each time: after a shutdown during a callback, waiting raises what callbacks may raise.
    while node.context.ok() and go_on():
        try:
            executor.spin_once()
        except (ExternalShutdownException, KeyboardInterrupt):
            raise
        except Exception:
            if node.context.ok():  # else it failed since ROS was shut down meanwhile
                node.note_callback_error(traceback.format_exc())
                _release_entities(node)


def _release_entities(node: LifecycleNode) -> None:
    """Unmark the entity whose message could not be taken: rclpy leaves it marked as busy."""
    for entities in (node.subscriptions, node.services, node.clients, node.timers, node.waitables):
        for entity in entities:
            if entity._executor_event:
                entity._executor_event = False
                with suppress(AssertionError):  # its group was not busy with it
                    entity.callback_group.ending_execution(entity)
