"""Expansion-prior lookup: nearest-neighbour retrieval in PGExp's memory bank (section 3.1).

    visible mask -> encoder -> nearest slots of the class -> their regression transformations
                                                          -> their amodal masks
    visible mask and amodal masks -> flow network -> flow transformations

All of it is frozen while the system trains; `prior_building` makes it from the training data. A
class without a slot has the identity as its prior: zero deltas and zero flow.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from amodal_perception.storage.memory_bank import CELLS, MASK_BYTES
from training.models.pgexp.mask_encoder import MaskEncoder
from training.models.pgexp.mask_flow import MaskFlow


class MemoryBankModule(nn.Module):
    """The memory bank as buffers of the network, with nearest-neighbour search.

    Args:
        num_classes: number of sub-banks.
        slots: of each.
        code: length of a key's code.

    Attributes:
        codes: [C * S, code] float16, of the keys.
        deltas: [C * S, 4] float32, T^r of the slots: shifts in units of the visible box's sides
            and log ratios of sides.
        amodal: [C * S, 98] uint8, amodal masks inside their frames, eight cells to a byte, the
            first in the highest bit (as `amodal_perception.storage.memory_bank` packs them).
        ids: [C * S] int64, of the annotations; -1 for none.
        filled: [C] float32, 1 where the class has slots.
    """

    codes: Tensor
    deltas: Tensor
    amodal: Tensor
    ids: Tensor
    filled: Tensor

    def __init__(self, num_classes: int, slots: int, code: int) -> None:
        super().__init__()
        self.slots = slots
        count = num_classes * slots
        self.register_buffer("codes", torch.zeros(count, code, dtype=torch.float16))
        self.register_buffer("deltas", torch.zeros(count, 4))
        self.register_buffer("amodal", torch.zeros(count, MASK_BYTES, dtype=torch.uint8))
        self.register_buffer("ids", torch.full((count,), -1))
        self.register_buffer("filled", torch.zeros(num_classes))

    def search(
        self, codes: Tensor, labels: Tensor, count: int, own_ids: Tensor | None = None
    ) -> Tensor:
        """Nearest-neighbour search in the slots of each query's class, by Euclidean distance.

        Args:
            codes: [R, code] float32, of the queries.
            labels: [R] int64, their classes.
            count: how many slots of each.
            own_ids: [R] int64: slots of this annotation are skipped, so that in training no
                object retrieves itself (the paper does not say); None: none. Where a class
                has no other slots, they are returned all the same.

        Returns:
            [R, count] int64, indices of slots, the nearest first.
        """
        keys = self.codes.to(codes.dtype)
        # |q - k|^2 = |q|^2 + |k|^2 - 2 qk, of which |q|^2 is the same for all slots. One product
        # with all classes' keys costs less than gathering the keys of each query's class.
        nearness = 2 * torch.matmul(codes, keys.T) - (keys * keys).sum(1)  # [R, C * S]
        classes = int(self.filled.shape[0])
        if classes > 1:
            by_class = nearness.unflatten(1, (classes, self.slots))
            wanted = labels.view(-1, 1, 1).expand(-1, 1, self.slots)
            nearness = by_class.gather(1, wanted)[:, 0]
        if own_ids is not None:
            ids = self.ids.view(classes, self.slots)[labels]
            own = (ids == own_ids[:, None]) & (ids >= 0)
            nearness = nearness.masked_fill(own, -torch.inf)
        index = nearness.topk(count, dim=1).indices
        return index + labels[:, None] * self.slots if classes > 1 else index

    def masks(self, index: Tensor) -> Tensor:
        """Unpack the amodal masks of slots [...] to [..., 28, 28] float32, 0 or 1."""
        packed = self.amodal[index].to(torch.float32)[..., None]
        # Bits by arithmetic, as engines have no shifts: bit k of b is floor(b / 2^k) modulo 2.
        power = 2.0 ** torch.arange(7, -1, -1, dtype=torch.float32, device=index.device)
        shifted = torch.floor(packed / power)
        bits = shifted - 2 * torch.floor(shifted / 2)
        return bits.flatten(-2).unflatten(-1, (CELLS, CELLS))


class ExpansionPrior(nn.Module):
    """Expansion prior: mask encoder, memory bank and flow network, frozen.

    Args:
        num_classes: of the data.
        slots: of every class, K_s.
        priors: how many are looked up for an object, K.
        code: length of the encoder's code.
        flow_width: of the flow network.
    """

    def __init__(
        self, num_classes: int, *, slots: int, priors: int, code: int, flow_width: int
    ) -> None:
        super().__init__()
        self.priors = priors
        self.encoder = MaskEncoder(code)
        self.bank = MemoryBankModule(num_classes, slots, code)
        self.flow = MaskFlow(flow_width)
        self.requires_grad_(False)

    def search(self, visible: Tensor, labels: Tensor, own_ids: Tensor | None = None) -> Tensor:
        """Retrieve the nearest memory-bank slots of visible masks.

        Args:
            visible: [R, 28, 28] probabilities inside an estimate of the amodal box. They are
                made 0 or 1, as the keys are, at 0.5 (the paper does not say).
            labels: [R] int64.
            own_ids: see `MemoryBankModule.search`.

        Returns:
            [R, K] int64, indices of slots, the nearest first.
        """
        binary = (visible > 0.5).to(torch.float32)
        return self.bank.search(self.encoder(binary), labels, self.priors, own_ids)

    def deltas(self, visible: Tensor, labels: Tensor, own_ids: Tensor | None = None) -> Tensor:
        """Return the regression transformations T^r, [R, K, 4]; arguments as of `search`."""
        return self.bank.deltas[self.search(visible, labels, own_ids)]

    def flows(self, visible: Tensor, labels: Tensor, own_ids: Tensor | None = None) -> Tensor:
        """Return the flow transformations T^f, [R, K, 2, 14, 14]; arguments as of `search`."""
        amodal = self.bank.masks(self.search(visible, labels, own_ids)).flatten(0, 1)
        binary = (visible > 0.5).to(torch.float32)
        queries = binary[:, None].expand(-1, self.priors, -1, -1).flatten(0, 1)
        flow = self.flow(queries, amodal) * self._filled(labels)
        return flow.unflatten(0, (-1, self.priors))

    def _filled(self, labels: Tensor) -> Tensor:
        return self.bank.filled[labels].repeat_interleave(self.priors).view(-1, 1, 1, 1)
