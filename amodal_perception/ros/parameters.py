"""The node's parameters: names, defaults, ranges and meaning, in one frozen dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from amodal_perception.conversions.camera_info import IMAGE_GEOMETRIES
from amodal_perception.conversions.images import MAX_PIXELS
from amodal_perception.errors import ConfigError
from amodal_perception.ordering import OrderingConfig
from amodal_perception.pipeline import PipelineConfig
from amodal_perception.postprocess import PostprocessConfig
from amodal_perception.runtime.providers import PROVIDERS
from amodal_perception.tracking import TrackingConfig

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor

# Declared by rclpy itself for every node.
ROS_PARAMETERS = ("use_sim_time", "start_type_description_service")
ROS_PARAMETER_PREFIXES = ("qos_overrides.",)


def _parameter(
    default: Any,
    description: str,
    *,
    limits: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    read_only: bool = False,
) -> Any:
    metadata = {
        "description": description,
        "limits": limits,
        "choices": choices,
        "read_only": read_only,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class NodeParameters:
    """The ROS parameters; those not read-only can be set while the node runs."""

    model_file_path: str = _parameter(
        "",
        "model file, .onnx or .engine; empty: the model that comes with the package",
        read_only=True,
    )
    autostart: bool = _parameter(
        True, "configure and activate at once; false: wait for a lifecycle manager", read_only=True
    )
    allowed_model_sha256: str = _parameter(
        "", "SHA-256 of the models that may be loaded, by commas; empty: any", read_only=True
    )
    num_threads: int = _parameter(
        0, "CPU threads of the engine; 0: the engine chooses", limits=(0, 256), read_only=True
    )
    provider: str = _parameter(
        "cpu",
        "what runs an .onnx file inside ONNX Runtime",
        choices=tuple(PROVIDERS),
        read_only=True,
    )
    device: str = _parameter(
        "",
        "NVIDIA GPU that runs an .engine, or an .onnx file by cuda or tensorrt: index, or UUID as "
        "nvidia-smi -L lists it; empty: the first",
        read_only=True,
    )
    image_transport: str = _parameter(
        "raw",
        "raw: sensor_msgs/Image on 'image'; compressed: CompressedImage on 'image/compressed'",
        choices=("raw", "compressed"),
        read_only=True,
    )
    image_reliability: str = _parameter(
        "auto",
        "reliability asked of the camera; auto: reliable if every publisher offers it",
        choices=("auto", "reliable", "best_effort"),
        read_only=True,
    )
    lazy: bool = _parameter(True, "read the camera only while someone listens to the node")
    max_image_pixels: int = _parameter(
        MAX_PIXELS, "larger images are dropped, pixels", limits=(1, 1_000_000_000)
    )
    max_frame_age: float = _parameter(
        0.0, "images older by their stamp are dropped, seconds; 0: none", limits=(0, 3600)
    )
    input_timeout: float = _parameter(
        1.0, "without an image for so long the diagnostics say so, seconds", limits=(0.1, 3600)
    )
    engine_timeout: float = _parameter(
        10.0,
        "an engine that works on one image for so long hangs: the node ends with exit code 1, "
        "seconds; 0: never",
        limits=(0, 3600),
    )
    depth_transport: str = _parameter(
        "raw",
        "raw: sensor_msgs/Image on 'depth'; compressedDepth: CompressedImage on "
        "'depth/compressedDepth'",
        choices=("raw", "compressedDepth"),
        read_only=True,
    )
    depth_scale: float = _parameter(
        0.0,
        "length of the depth images' unit, metres; 0: 0.001 for whole numbers, 1 for 32FC1",
        limits=(0, 1000),
    )
    depth_ordering: bool = _parameter(
        True, "where there is depth, order objects by it too, and not by their masks alone"
    )
    image_geometry: str = _parameter(
        "auto",
        "how camera_info describes the image: rectified by P, raw by K and D; auto: rectified "
        "where the topic's name says rect, or D is zero",
        choices=IMAGE_GEOMETRIES,
    )
    sync_slop: float = _parameter(
        0.02, "largest difference of an image's and its depth's stamps, seconds", limits=(0, 10)
    )
    overlay_rate: float = _parameter(
        10.0, "most overlays in a second; 0: one for every scene", limits=(0, 1000)
    )
    score_threshold: float = _parameter(
        PostprocessConfig.score_threshold, "lowest score of an instance, 0..1", limits=(0, 1)
    )
    mask_threshold: float = _parameter(
        PostprocessConfig.mask_threshold, "lowest probability of a mask's pixel", limits=(0, 1)
    )
    overlap_threshold: float = _parameter(
        PostprocessConfig.overlap_threshold,
        "most of an instance's visible pixels that better ones may claim, 0..1; 1 keeps "
        "repetitions",
        limits=(0, 1),
    )
    max_instances: int = _parameter(
        PostprocessConfig.max_instances, "most instances in a scene, best first", limits=(1, 1000)
    )
    min_overlap_px: int = _parameter(
        OrderingConfig.min_overlap_px,
        "smallest overlap that counts as occlusion, pixels",
        limits=(0, 1_000_000_000),
    )
    min_hidden_fraction: float = _parameter(
        OrderingConfig.min_hidden_fraction,
        "smallest hidden part that counts as occlusion, of the amodal area, 0..1",
        limits=(0, 1),
    )
    min_overlap_share: float = _parameter(
        OrderingConfig.min_overlap_share,
        "least share of two objects' overlap in both directions that counts as occlusion, 0..1",
        limits=(0, 1),
    )
    grasp_margin: float = _parameter(
        4.0, "kept off the edges of ~/graspable_labels, pixels", limits=(0, 1000)
    )
    forget_missing: float = _parameter(
        TrackingConfig.forget_missing_s,
        "a track id ends when its object is gone from a place in plain view for so long, seconds",
        limits=(0, 3600),
    )
    forget_hidden: float = _parameter(
        TrackingConfig.forget_hidden_s,
        "the same where its place is covered or outside the image, seconds",
        limits=(0, 3600),
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item, getattr(self, item.name))

    @classmethod
    def from_overrides(cls, overrides: Mapping[str, Any]) -> NodeParameters:
        """Apply parameter overrides to the defaults.

        Args:
            overrides: values by parameter name, as ROS parsed them.

        Raises:
            ConfigError: unknown name (lists the valid ones), wrong type, or out of range.
        """
        known = {item.name for item in fields(cls)}
        given = {name: value for name, value in overrides.items() if not _is_of_ros(name)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise ConfigError(
                f"unknown parameter {', '.join(unknown)}; valid are {', '.join(sorted(known))}"
            )
        return cls(**{name: cls.coerced(name, value) for name, value in given.items()})

    @classmethod
    def coerced(cls, name: str, value: Any) -> Any:
        """Convert a whole number where another type is wanted: YAML writes 1 for 1.0, and "1"."""
        wanted = type(next(item.default for item in fields(cls) if item.name == name))
        if type(value) is not int:
            return value
        if wanted is float:
            return float(value)
        return str(value) if name == "device" else value

    @property
    def allowed_models(self) -> frozenset[str]:
        """Hashes of the models that may be loaded; empty: any."""
        return frozenset(self.allowed_model_sha256.lower().replace(",", " ").split())

    @property
    def pipeline_config(self) -> PipelineConfig:
        """The pipeline's configuration."""
        return PipelineConfig(
            postprocess=PostprocessConfig(
                score_threshold=self.score_threshold,
                mask_threshold=self.mask_threshold,
                overlap_threshold=self.overlap_threshold,
                max_instances=self.max_instances,
            ),
            ordering=OrderingConfig(
                min_overlap_px=self.min_overlap_px,
                min_hidden_fraction=self.min_hidden_fraction,
                min_overlap_share=self.min_overlap_share,
            ),
        )


def descriptor(item: Field) -> ParameterDescriptor:
    """Return a field of `NodeParameters` as a ParameterDescriptor: meaning, range, read-only."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    described = ParameterDescriptor(
        description=item.metadata["description"],
        additional_constraints=" | ".join(item.metadata["choices"]),
        read_only=item.metadata["read_only"],
    )
    if item.metadata["limits"] is not None:
        low, high = item.metadata["limits"]
        if isinstance(item.default, float):
            limits = FloatingPointRange(from_value=float(low), to_value=float(high))
            described.floating_point_range = [limits]
        else:
            described.integer_range = [IntegerRange(from_value=low, to_value=high)]
    return described


def _check(item: Field, value: Any) -> None:
    wanted, limits, choices = type(item.default), item.metadata["limits"], item.metadata["choices"]
    if type(value) is not wanted:
        raise ConfigError(
            f"parameter {item.name} is {value!r}, of type {type(value).__name__}; "
            f"it must be of type {wanted.__name__}"
        )
    if choices and value not in choices:
        raise ConfigError(f"parameter {item.name} is {value!r}; valid are {', '.join(choices)}")
    # Not (low <= value <= high) refuses NaN too.
    if limits is not None and not limits[0] <= value <= limits[1]:
        raise ConfigError(
            f"parameter {item.name} is {value}; it must lie between {limits[0]} and {limits[1]}"
        )


def _is_of_ros(name: str) -> bool:
    return name in ROS_PARAMETERS or name.startswith(ROS_PARAMETER_PREFIXES)
