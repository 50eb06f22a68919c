"""Resumable stages of the prior: mask crops, encoder, flow network, memory bank.

Each writes a file whose header says what it was made from, so an interrupted build is resumed, and
runs that differ in later stages share the earlier ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from amodal_perception import files
from amodal_perception.errors import ConfigError, ModelFileError
from amodal_perception.storage.amodal_coco import annotations_file
from amodal_perception.storage.memory_bank import (
    CELLS,
    MASK_BYTES,
    TABLE,
    MemoryBank,
    pack_masks,
    read_bank,
    unpack_masks,
    write_bank,
)
from training.models.detectors.box_coding import encode_boxes
from training.models.pgexp.mask_encoder import MaskEncoder
from training.models.pgexp.mask_flow import MaskFlow
from training.models.pgexp.prior_building.bank_slots import augmented_copy, medoids
from training.models.pgexp.prior_building.mask_crops import MaskCrops, both_masks, crop_objects
from training.models.pgexp.prior_building.prior_training import encode, train_encoder, train_flow
from training.packed_objects import Objects, read_objects

SHOWN = 12
SHOWN_NEAR = 3
HEADER = "made"
"""The one entry of a stage file's header (the format keeps several in no fixed order)."""
Facts = dict[str, Any]


@dataclass(frozen=True)
class PriorConfig:
    """What decides the result; see `training.models.pgexp.pgexp.PgexpSettings`."""

    slots: int
    code: int
    flow_width: int
    encoder_iterations: int
    flow_iterations: int
    seed: int


def prepare(
    data: Path, folder: Path, config: PriorConfig, device: torch.device
) -> dict[str, Tensor]:
    """Run the stages of the prior whose files are missing.

    Args:
        data: folder of the training data.
        folder: of the prior; made where it is missing.
        config: the settings.
        device: to train on.

    Returns:
        The tensors of `training.models.pgexp.prior_lookup.ExpansionPrior`, by name.

    Raises:
        ConfigError: the folder holds stages made from other data or with other settings.
        AmodalError: a file that is damaged, or data of no use.
    """
    crops, encoder, facts, objects = _encoder_of(data, folder, config, device)
    codes = encode(encoder, crops.masks("visible"), device)
    flow_facts = {**facts, "width": config.flow_width, "iterations": config.flow_iterations}

    def make_flow() -> tuple[dict[str, Tensor], Facts]:
        network, figures = train_flow(
            crops, codes, config.flow_width, config.flow_iterations, config.seed, device
        )
        return network.state_dict(), figures

    flow_state = _stage(folder / f"flow_{config.flow_width}.safetensors", flow_facts, make_flow)
    flow = MaskFlow(config.flow_width)
    flow.load_state_dict(flow_state)
    flow.to(device)

    bank_folder = folder / f"bank_{config.slots}"
    bank_facts = {**facts, "slots": config.slots}
    if (bank_folder / TABLE).exists():
        bank = read_bank(bank_folder)
        _check(bank_folder, bank.made_from, bank_facts)
    else:
        bank = make_bank(
            objects(), crops, encoder, flow, slots=config.slots, seed=config.seed, device=device
        )
        bank = replace(bank, made_from=bank_facts)
        write_bank(bank_folder, bank)
    return {
        **{f"encoder.{name}": value for name, value in encoder.cpu().state_dict().items()},
        **{f"flow.{name}": value for name, value in flow_state.items()},
        **{f"bank.{name}": value for name, value in bank_tensors(bank).items()},
    }


def _encoder_of(
    data: Path, folder: Path, config: PriorConfig, device: torch.device
) -> tuple[MaskCrops, MaskEncoder, Facts, Callable[[], Objects]]:
    """Run the first two stages; also return their header, and a reader of the objects."""
    path = annotations_file(data)
    facts = {"data": data.name, "sha256": files.sha256_of(path), "seed": config.seed}
    kept: list[Objects] = []

    def objects() -> Objects:
        if not kept:
            kept.append(read_objects(path))
        return kept[0]

    def make_crops() -> tuple[dict[str, Tensor], Facts]:
        crops = crop_objects(objects())
        if not len(crops):
            raise ConfigError(f"{path}: holds no object that can be seen; nothing to learn from")
        named = {name: getattr(crops, name) for name in MaskCrops.__dataclass_fields__}
        return {n: torch.from_numpy(np.ascontiguousarray(v)) for n, v in named.items()}, {}

    tensors = _stage(folder / "crops.safetensors", facts, make_crops)
    crops = MaskCrops(**{name: tensor.numpy() for name, tensor in tensors.items()})
    facts = {**facts, "code": config.code, "encoder_iterations": config.encoder_iterations}

    def make_encoder() -> tuple[dict[str, Tensor], Facts]:
        encoder, figures = train_encoder(
            crops, config.code, config.encoder_iterations, config.seed, device
        )
        return encoder.state_dict(), figures

    encoder = MaskEncoder(config.code)
    encoder.load_state_dict(_stage(folder / "encoder.safetensors", facts, make_encoder))
    return crops, encoder.to(device), facts, objects


def make_bank(
    objects: Objects,
    crops: MaskCrops,
    encoder: MaskEncoder,
    flow: MaskFlow,
    *,
    slots: int,
    seed: int,
    device: torch.device,
) -> MemoryBank:
    """Choose and fill the slots of every class (section 3.1, "Construction").

    Args:
        objects: the data, for classes with fewer objects than slots.
        crops: of the objects.
        encoder: of the keys.
        flow: for what `amodal inspect` shows.
        slots: of every class.
        seed: of the clusters and of the moved copies.
        device: of the networks.
    """
    C, D = len(objects.class_names), len(encode(encoder, torch.zeros(1, CELLS, CELLS), device)[0])
    bank = _empty_bank(objects.class_names, slots, D)
    codes = encode(encoder, crops.masks("visible"), device)
    for c in range(C):
        members = np.flatnonzero(crops.label == c)
        bank.objects[c] = len(members)
        if len(members) > slots:
            members = members[medoids(codes[members], slots, seed)]
        rng = np.random.default_rng((seed, c))
        copied = members[:0]
        if len(members):
            copied = members[rng.integers(0, len(members), slots - len(members))]
        _fill(bank, c, crops[members], objects, crops.row[copied], rng)
        for part in np.array_split(np.arange(slots), -(-slots // 1024)):
            keys = torch.from_numpy(unpack_masks(bank.visible[c, part]).astype(np.float32))
            bank.codes[c, part] = encode(encoder, keys, device)
    _show(bank, flow, device)
    return bank


def _empty_bank(class_names: tuple[str, ...], slots: int, code: int) -> MemoryBank:
    C = len(class_names)
    return MemoryBank(
        class_names=class_names,
        objects=np.zeros(C, np.int64),
        codes=np.zeros((C, slots, code), np.float16),
        visible=np.zeros((C, slots, MASK_BYTES), np.uint8),
        amodal=np.zeros((C, slots, MASK_BYTES), np.uint8),
        visible_xyxy=np.zeros((C, slots, 4), np.float32),
        amodal_xyxy=np.zeros((C, slots, 4), np.float32),
        ids=np.full((C, slots), -1, np.int64),
        moved=np.zeros((C, slots), np.bool_),
        shown=np.full((C, SHOWN), -1, np.int64),
        shown_near=np.full((C, SHOWN, SHOWN_NEAR), -1, np.int64),
        shown_flow=np.zeros((C, SHOWN, SHOWN_NEAR, 2, 14, 14), np.float16),
        made_from={},
    )


def _fill(
    bank: MemoryBank,
    c: int,
    chosen: MaskCrops,
    objects: Objects,
    copied_rows: NDArray[np.int64] | list,
    rng: np.random.Generator,
) -> None:
    """Fill a class's slots with objects, and the rest with augmented copies of some."""
    n = len(chosen)
    for name in ("visible", "amodal", "visible_xyxy", "amodal_xyxy"):
        getattr(bank, name)[c, :n] = getattr(chosen, name)
    bank.ids[c, :n] = chosen.id
    for slot, row in enumerate(copied_rows, n):
        masks, boxes = augmented_copy(both_masks(objects, row)[0], rng)
        bank.amodal[c, slot], bank.visible[c, slot] = pack_masks(masks)
        bank.amodal_xyxy[c, slot], bank.visible_xyxy[c, slot] = boxes
        bank.ids[c, slot], bank.moved[c, slot] = objects.id[row], True


@torch.no_grad()
def _show(bank: MemoryBank, flow: MaskFlow, device: torch.device) -> None:
    """Choose occluded slots to show, an even choice of each class, with their nearest slots."""
    for c in range(len(bank.class_names)):
        occluded = (bank.visible[c] != bank.amodal[c]).any(1) & ~bank.moved[c]
        candidates = np.flatnonzero(occluded & (bank.ids[c] >= 0))
        if not len(candidates):
            continue
        picks = np.unique(np.linspace(0, len(candidates) - 1, SHOWN).astype(int))
        for m, slot in enumerate(candidates[picks]):
            codes = bank.codes[c].astype(np.float32)
            distance = ((codes - codes[slot]) ** 2).sum(1)
            distance[bank.ids[c] == bank.ids[c, slot]] = np.inf
            near = np.argsort(distance, kind="stable")[:SHOWN_NEAR]
            near = near[np.isfinite(distance[near])]
            query = torch.from_numpy(unpack_masks(bank.visible[c, slot]).astype(np.float32))
            keys = torch.from_numpy(unpack_masks(bank.amodal[c, near]).astype(np.float32))
            moved = flow(query.expand_as(keys).to(device), keys.to(device))
            bank.shown[c, m], bank.shown_near[c, m, : len(near)] = slot, near
            bank.shown_flow[c, m, : len(near)] = moved.cpu().numpy()


def bank_tensors(bank: MemoryBank) -> dict[str, Tensor]:
    """Return the tensors of `training.models.pgexp.prior_lookup.MemoryBankModule`."""
    filled = bank.objects > 0
    amodal, visible = (
        torch.from_numpy(boxes).flatten(0, 1) for boxes in (bank.amodal_xyxy, bank.visible_xyxy)
    )
    deltas = encode_boxes(amodal, visible, (1.0, 1.0, 1.0, 1.0))
    used = torch.from_numpy(np.repeat(filled, bank.slots))
    return {
        "codes": torch.from_numpy(bank.codes).flatten(0, 1),
        "deltas": torch.where(used[:, None], deltas, 0.0),
        "amodal": torch.from_numpy(bank.amodal).flatten(0, 1),
        "ids": torch.from_numpy(bank.ids).flatten(),
        "filled": torch.from_numpy(filled.astype(np.float32)),
    }


def figures(folder: Path) -> dict[str, Facts]:
    """Return the facts and figures in the headers of a folder's stage files, by file name."""
    return {path.name: _read(path)[1] for path in sorted(folder.glob("*.safetensors"))}


def _stage(
    path: Path, facts: Facts, make: Callable[[], tuple[dict[str, Tensor], Facts]]
) -> dict[str, Tensor]:
    """Read a stage's file, or make it."""
    if path.exists():
        tensors, made = _read(path)
        _check(path, made, facts)
        return tensors
    tensors, result = make()
    dense = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with files.atomic_write(path) as temporary:
        save_file(dense, temporary, {HEADER: json.dumps({**facts, **result})})
    return dense


def _read(path: Path) -> tuple[dict[str, Tensor], Facts]:
    try:
        with safe_open(path, "pt") as file:
            made = json.loads((file.metadata() or {})[HEADER])
        return load_file(path), made
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelFileError(
            f"{path}: is no stage of a prior ({error}); remove it, and it is made again"
        ) from None


def _check(path: Path, made: Facts, wanted: Facts) -> None:
    differing = [key for key, value in wanted.items() if made.get(key) != value]
    if differing:
        listed = ", ".join(f"{key} {made.get(key)}, not {wanted[key]}" for key in differing)
        raise ConfigError(
            f"{path}: was made with {listed}; remove it, or give another folder (--out of "
            "training.prior, model.prior= of training.train)"
        )
