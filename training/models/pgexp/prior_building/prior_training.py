"""Train the mask encoder and the flow network on crops; both are frozen afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import trange

from training.models.pgexp.mask_encoder import MaskDecoder, MaskEncoder
from training.models.pgexp.mask_flow import MaskFlow, warp
from training.models.pgexp.prior_building.mask_crops import MaskCrops

BATCH = 64
LEARNING_RATE = 1e-3
HELD_OUT_SHARE = 0.1
NEIGHBOURS = 8
SEARCHED = 20_000
"""Largest number of a class's objects that are searched for neighbours."""
SMOOTHNESS_WEIGHT = 0.1
SIZE_WEIGHT = 0.01
CHUNK = 4096


def held_out(crops: MaskCrops, seed: int) -> NDArray[np.bool_]:
    """Mark the held-out objects, for validation of encoder and flow network: [N] bool."""
    return np.random.default_rng((seed, 7)).random(len(crops)) < HELD_OUT_SHARE


def train_encoder(
    crops: MaskCrops, code: int, iterations: int, seed: int, device: torch.device
) -> tuple[MaskEncoder, dict[str, float]]:
    """Train the autoencoder on visible and amodal masks, by the squared error, as Xiao et al. do.

    They train it on amodal masks; visible ones are what it encodes here (the paper reuses theirs).

    Returns:
        The encoder, and the mean IoU of held-out masks and their reconstructions.
    """
    torch.manual_seed(seed)
    encoder, decoder = MaskEncoder(code).to(device), MaskDecoder(code).to(device)
    training = crops[~held_out(crops, seed)]
    masks = torch.cat([training.masks("visible"), training.masks("amodal")])

    def loss(rng: np.random.Generator) -> Tensor:
        batch = masks[torch.from_numpy(rng.integers(0, len(masks), BATCH))].to(device)
        return F.mse_loss(decoder(encoder(batch)).sigmoid(), batch)

    _train(nn.ModuleList([encoder, decoder]), loss, iterations, seed, "training the encoder")
    validation = crops[held_out(crops, seed)]
    figures: dict[str, float] = {}
    for name in ("visible", "amodal"):
        pairs = [
            _iou(decoder(encoder(part)) > 0, part > 0)
            for part in _chunks(validation.masks(name), device)
        ]
        figures |= _mean(f"{name}_iou", pairs)
    return encoder, figures


@torch.no_grad()
def encode(encoder: MaskEncoder, masks: Tensor, device: torch.device) -> NDArray[np.float32]:
    """Encode [N, 28, 28] masks as [N, D]."""
    codes = [encoder(part).cpu() for part in _chunks(masks, device)]
    return torch.cat(codes).numpy() if codes else np.zeros((0, 0), np.float32)


def neighbours(
    codes: NDArray[np.float32], label: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Find the nearest neighbours of every object in its class, [N, 8]; fewer are repeated.

    An object is its own neighbour only if it is alone in its class.
    """
    rng = np.random.default_rng((seed, 8))
    near = np.zeros((len(codes), NEIGHBOURS), np.int64)
    for value in np.unique(label):
        members = np.flatnonzero(label == value)
        searched = members
        if len(members) > SEARCHED:
            searched = np.sort(rng.choice(members, SEARCHED, replace=False))
        index = faiss.IndexFlatL2(codes.shape[1])
        index.add(np.ascontiguousarray(codes[searched]))
        _, found = index.search(np.ascontiguousarray(codes[members]), NEIGHBOURS + 1)
        for i, places in zip(members, found):
            others = searched[places[places >= 0]]
            others = others[others != i][:NEIGHBOURS]
            near[i] = np.resize(others, NEIGHBOURS) if len(others) else i
    return near


def train_flow(
    crops: MaskCrops,
    codes: NDArray[np.float32],
    width: int,
    iterations: int,
    seed: int,
    device: torch.device,
) -> tuple[MaskFlow, dict[str, float]]:
    """Train the flow network to warp visible masks to amodal ones.

    The paper pairs an object's own masks and says no more. Half of the pairs here take the amodal
    mask of a nearest neighbour instead, since that is what the lookup returns.

    Returns:
        The network and figures on held-out occluded objects, see `flow_figures`.
    """
    torch.manual_seed(seed)
    network = MaskFlow(width).to(device)
    validation = held_out(crops, seed)
    training = crops[~validation]
    visible, amodal = training.masks("visible"), training.masks("amodal")
    near = neighbours(codes[~validation], training.label, seed)

    def loss(rng: np.random.Generator) -> Tensor:
        own = rng.integers(0, len(training), BATCH)
        other = np.where(
            rng.random(BATCH) < 0.5, own, near[own, rng.integers(0, NEIGHBOURS, BATCH)]
        )
        return flow_loss(network, visible[own].to(device), amodal[other].to(device))

    _train(network, loss, iterations, seed, "training the flow network")
    return network, flow_figures(network, crops, codes, validation, device)


def flow_loss(network: MaskFlow, visible: Tensor, amodal: Tensor) -> Tensor:
    """Flow loss: cross-entropy of warped visible masks and amodal ones, plus smoothness.

    Binary cross-entropy at 14 x 14, where features will be moved, plus total variation and size
    of the flow; all of it is ours.
    """
    flow = network(visible, amodal)
    moved = warp(F.avg_pool2d(visible[:, None], 2), flow[:, None])[:, 0, 0]
    target = F.avg_pool2d(amodal[:, None], 2)[:, 0]
    fit = F.binary_cross_entropy(moved.clamp(1e-3, 1 - 1e-3), target)
    variation = (flow[..., 1:] - flow[..., :-1]).abs().mean()
    variation = variation + (flow[..., 1:, :] - flow[..., :-1, :]).abs().mean()
    return fit + SMOOTHNESS_WEIGHT * variation + SIZE_WEIGHT * flow.abs().mean()


@torch.no_grad()
def flow_figures(
    network: MaskFlow,
    crops: MaskCrops,
    codes: NDArray[np.float32],
    validation: NDArray[np.bool_],
    device: torch.device,
) -> dict[str, float]:
    """Measure on held-out occluded objects, at 14 x 14, the mean IoU with the amodal mask.

    Returns:
        ``identity_iou`` of the visible mask as it is; ``own_iou`` after the flow to the object's
        own amodal mask, and ``retrieved_iou`` to that of the nearest training object of the class;
        ``copied_iou`` of that neighbour's amodal mask itself. Empty without such objects.
    """
    occluded = validation & (crops.visible != crops.amodal).any(1)
    queries, training = np.flatnonzero(occluded), np.flatnonzero(~validation)
    nearest = _nearest(codes, crops.label, queries, training)
    queries, nearest = queries[nearest >= 0], nearest[nearest >= 0]
    visible, own = crops[queries].masks("visible"), crops[queries].masks("amodal")
    other = crops[nearest].masks("amodal")
    scores: dict[str, list[Tensor]] = {}
    for v, a, o in zip(*(_chunks(masks, device) for masks in (visible, own, other))):
        coarse_v, coarse_a, coarse_o = (F.avg_pool2d(m[:, None], 2) for m in (v, a, o))
        found = {
            "identity_iou": coarse_v,
            "own_iou": warp(coarse_v, network(v, a)[:, None])[:, 0],
            "retrieved_iou": warp(coarse_v, network(v, o)[:, None])[:, 0],
            "copied_iou": coarse_o,
        }
        for name, moved in found.items():
            scores.setdefault(name, []).append(_iou(moved[:, 0] > 0.5, coarse_a[:, 0] > 0.5))
    figures = {"occluded_objects": float(len(queries))}
    for name, values in scores.items():
        figures |= _mean(name, values)
    return figures


def _nearest(
    codes: NDArray[np.float32],
    label: NDArray[np.int64],
    queries: NDArray[np.int64],
    training: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the nearest training object of each query's class, -1 if there is none."""
    nearest = np.full(len(queries), -1)
    for value in np.unique(label[queries]):
        members = training[label[training] == value]
        rows = np.flatnonzero(label[queries] == value)
        if len(members):
            index = faiss.IndexFlatL2(codes.shape[1])
            index.add(np.ascontiguousarray(codes[members]))
            _, found = index.search(np.ascontiguousarray(codes[queries[rows]]), 1)
            nearest[rows] = members[found[:, 0]]
    return nearest


def _train(
    network: nn.Module,
    loss: Callable[[np.random.Generator], Tensor],
    iterations: int,
    seed: int,
    title: str,
) -> None:
    """Minimise a loss by Adam with cosine annealing to 0."""
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    rng = np.random.default_rng(seed)
    for _ in trange(iterations, desc=title, delay=2, mininterval=2, unit="it"):
        optimizer.zero_grad()
        loss(rng).backward()
        optimizer.step()
        schedule.step()
    network.eval().requires_grad_(False)


def _chunks(masks: Tensor, device: torch.device) -> Iterator[Tensor]:
    return (part.to(device) for part in masks.split(CHUNK) if len(part))


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU of bool masks [R, h, w]; 1 where both are empty."""
    both = (a & b).sum((1, 2)).float()
    either = (a | b).sum((1, 2)).float()
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def _mean(name: str, values: list[Tensor]) -> dict[str, float]:
    return {name: float(torch.cat(values).mean())} if values else {}
