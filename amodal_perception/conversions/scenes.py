"""Scenes to AmodalScene messages and back; no ROS is imported.

The same code fills the classes that ROS generates (for the node) and those of rosbags (for bags
written on machines without ROS): `MessageTypes` holds the difference.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_perception.masks import encode_row_major_rles, mask_windows
from amodal_perception.ordering import removal_order
from amodal_perception.planning.planner_inputs import decode_mask
from amodal_perception.structures import BoolArray, Instances, IntArray, OcclusionGraph, Scene

MESSAGE_NAMES = ("BinaryMask", "AmodalInstance", "OcclusionEdge", "AmodalScene")


@dataclass(frozen=True)
class MessageTypes:
    """The classes that a scene is made of, and how their number sequences are held.

    Attributes:
        scene: AmodalScene.
        instance: AmodalInstance.
        edge: OcclusionEdge.
        mask: BinaryMask.
        header: std_msgs/Header.
        time: builtin_interfaces/Time.
        numbers: turns a 1-D uint16, uint32 or float32 array into what a field takes at once.
    """

    scene: Any
    instance: Any
    edge: Any
    mask: Any
    header: Any
    time: Any
    numbers: Callable[[NDArray], Any]

    @classmethod
    def from_ros(cls) -> MessageTypes:
        """The classes that ROS generated; needs a built and sourced workspace."""
        from builtin_interfaces.msg import Time
        from std_msgs.msg import Header

        from amodal_perception.msg import AmodalInstance, AmodalScene, BinaryMask, OcclusionEdge

        return cls(
            scene=AmodalScene,
            instance=AmodalInstance,
            edge=OcclusionEdge,
            mask=BinaryMask,
            header=Header,
            time=Time,
            numbers=_to_array,
        )

    @classmethod
    def from_typestore(cls, typestore: Any) -> MessageTypes:
        """The classes of a rosbags typestore; registers ours in it."""
        from rosbags.typesys import get_types_from_msg

        definitions: dict[str, Any] = {}
        for name, text in message_definitions().items():
            definitions |= get_types_from_msg(text, name)
        typestore.register(definitions)
        types = typestore.types
        mask, instance, edge, scene = (types[name] for name in definitions)
        return cls(
            scene=scene,
            instance=instance,
            edge=edge,
            mask=mask,
            header=types["std_msgs/msg/Header"],
            time=types["builtin_interfaces/msg/Time"],
            numbers=lambda numbers: numbers,
        )


def message_definitions() -> dict[str, str]:
    """Return the text of each message definition by its full name, parts before wholes."""
    here = Path(__file__).resolve()
    # In a checkout the definitions lie where ROS expects them; installed, among the assets.
    folders = here.parents[2] / "msg", here.parents[1] / "assets" / "definitions"
    folder = next(folder for folder in folders if (folder / "AmodalScene.msg").is_file())
    return {
        f"amodal_perception/msg/{name}": (folder / f"{name}.msg").read_text()
        for name in MESSAGE_NAMES
    }


def scene_to_msg(scene: Scene, types: MessageTypes, instance_limit_reached: bool = False) -> Any:
    """Make an AmodalScene message; instance i gets the id i + 1.

    Args:
        scene: the scene; stamp and frame go into the header as they are.
        types: the message classes to use.
        instance_limit_reached: the scene has as many as are allowed: there may be more.
    """
    instances, graph = scene.instances, scene.graph
    height, width = instances.size_hw
    seconds, nanoseconds = divmod(scene.stamp_ns, 1_000_000_000)
    return types.scene(
        header=types.header(
            stamp=types.time(sec=seconds, nanosec=nanoseconds), frame_id=scene.frame_id
        ),
        image_width=width,
        image_height=height,
        model_id=scene.model_id,
        instances=_instances_to_msgs(scene, types),
        edges=[edge_to_msg(graph, k, types) for k in range(len(graph.edges))],
        removal_order=types.numbers((graph.removal_order + 1).astype(np.uint16)),
        acyclic=graph.acyclic,
        status=int(instance_limit_reached),
        stage_names=list(scene.stages_ms),
        stage_ms=types.numbers(np.array(list(scene.stages_ms.values()), np.float32)),
    )


def edge_to_msg(graph: OcclusionGraph, index: int, types: MessageTypes) -> Any:
    """Make an OcclusionEdge of one edge of a graph."""
    occluder, occludee = graph.edges[index].tolist()
    return types.edge(
        occluder_id=occluder + 1,
        occludee_id=occludee + 1,
        confidence=float(graph.confidence[index]),
        overlap_px=int(graph.overlap_px[index]),
        hidden_fraction=float(graph.hidden_fraction[index]),
    )


def msg_to_scene(message: Any) -> Scene:
    """Make a Scene of an AmodalScene message; instance i is ``message.instances[i]``.

    Boxes are the amodal masks' tight boxes: the message holds no others.

    Raises:
        ValueError: a mask or an id contradicts the rest of the message.
    """
    size_hw = message.image_height, message.image_width
    members = message.instances
    amodal = np.zeros((len(members), *size_hw), np.bool_)
    visible = np.zeros_like(amodal)
    for i, member in enumerate(members):
        decode_mask(member.amodal, size_hw, out=amodal[i])
        decode_mask(member.visible, size_hw, out=visible[i])
    windows = np.array([_window(member.amodal) for member in members], np.int32).reshape(-1, 4)
    instances = Instances.from_masks(
        boxes_xyxy=windows.astype(np.float32),
        scores=np.array([member.score for member in members], np.float32),
        labels=np.array([member.class_id for member in members], np.int32),
        amodal=amodal,
        visible=visible,
        windows_xyxy=windows,
    )
    stamp = message.header.stamp
    return Scene(
        stamp_ns=stamp.sec * 1_000_000_000 + stamp.nanosec,
        frame_id=message.header.frame_id,
        instances=instances,
        graph=_msg_to_graph(message, instances),
        model_id=message.model_id,
        class_names=_class_names(members),
        stages_ms={name: float(ms) for name, ms in zip(message.stage_names, message.stage_ms)},
        track_ids=_track_ids(members),
    )


def masks_to_msgs(
    masks: Sequence[BoolArray], corners_xy: IntArray, types: MessageTypes
) -> list[Any]:
    """Make BinaryMasks of parts of the image.

    Args:
        masks: N arrays [h, w] bool.
        corners_xy: [N, 2] int32 pixels, where in the image each begins.
        types: the message classes to use.
    """
    tight_xyxy = mask_windows(masks).tolist()
    crops = [mask[y0:y1, x0:x1] for mask, (x0, y0, x1, y1) in zip(masks, tight_xyxy)]
    return [
        types.mask(
            x=left + x0,
            y=top + y0,
            width=x1 - x0,
            height=y1 - y0,
            counts=types.numbers(counts),
            area=np.count_nonzero(crop),
        )
        for crop, counts, (x0, y0, x1, y1), (left, top) in zip(
            crops, encode_row_major_rles(crops), tight_xyxy, corners_xy.tolist()
        )
    ]


def _instances_to_msgs(scene: Scene, types: MessageTypes) -> list[Any]:
    instances = scene.instances
    count = len(instances)
    kinds = instances.amodal_crops, instances.visible_crops, instances.hidden_crops
    corners_xy = np.tile(instances.windows_xyxy[:, :2], (len(kinds), 1))
    masks = masks_to_msgs([crop for crops in kinds for crop in crops], corners_xy, types)
    labels = instances.labels.tolist()
    scores, rates = instances.scores.tolist(), instances.occlusion_rate.tolist()
    truncated = instances.truncated.tolist()
    return [
        types.instance(
            instance_id=i + 1,
            track_id=scene.track_id(i),
            class_id=labels[i],
            class_name=scene.class_names[labels[i]],
            score=scores[i],
            amodal=masks[i],
            visible=masks[count + i],
            occluded=masks[2 * count + i],
            occlusion_ratio=rates[i],
            amodal_quality=float("nan"),
            truncated=truncated[i],
        )
        for i in range(count)
    ]


def _msg_to_graph(message: Any, instances: Instances) -> OcclusionGraph:
    index = {member.instance_id: i for i, member in enumerate(message.instances)}
    try:
        pairs = [(index[e.occluder_id], index[e.occludee_id]) for e in message.edges]
        order = [index[int(i)] for i in message.removal_order]
    except KeyError as error:
        raise ValueError(f"the scene names instance {error}, but holds no such instance") from None
    edges = np.array(pairs, np.int32).reshape(-1, 2)
    cycles: tuple[tuple[int, ...], ...] = ()
    if not message.acyclic:
        occludes = np.zeros((len(instances), len(instances)), np.bool_)
        occludes[edges[:, 0], edges[:, 1]] = True
        cycles = removal_order(occludes, instances.occlusion_rate)[1]
    return OcclusionGraph(
        edges=edges,
        confidence=np.array([e.confidence for e in message.edges], np.float32),
        overlap_px=np.array([e.overlap_px for e in message.edges], np.int32),
        hidden_fraction=np.array([e.hidden_fraction for e in message.edges], np.float32),
        removal_order=np.array(order, np.int32),
        cycles=cycles,
    )


def _window(mask: Any) -> tuple[int, int, int, int]:
    return mask.x, mask.y, mask.x + mask.width, mask.y + mask.height


def _class_names(members: Any) -> tuple[str, ...]:
    """Names by class id; "" for classes that no instance has."""
    names = {member.class_id: member.class_name for member in members}
    return tuple(names.get(i, "") for i in range(max(names, default=-1) + 1))


def _track_ids(members: Any) -> tuple[str, ...]:
    names = tuple(member.track_id for member in members)
    return names if any(names) else ()


def _to_array(numbers: NDArray) -> array.array:
    """Copy a 1-D array into an array.array, the only type ROS takes without a loop."""
    return array.array(numbers.dtype.char, numbers.tobytes())
