"""Memory of one frame's inputs and outputs, on the GPU and page-locked on the host."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_perception.runtime.contract import TensorSpec
from amodal_perception.runtime.tensorrt.cuda import Cuda


class FrameMemory:
    """Memory of one frame's tensors.

    An integrated GPU shares the host's memory: there both sides are the same (mapped) memory, and
    nothing is copied.

    Attributes:
        host: the tensors as arrays, by name.
        addresses: where the GPU finds them.
    """

    def __init__(
        self,
        cuda: Cuda,
        owned: ExitStack,
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        *,
        is_shared: bool,
    ) -> None:
        """Allocate all of it.

        Args:
            cuda: where.
            owned: is given what frees it; keep it as long as this.
            inputs: tensors to upload.
            outputs: tensors to download.
            is_shared: whether the GPU shares the host's memory.
        """
        self._cuda, self._is_shared = cuda, is_shared
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self.host: dict[str, NDArray[Any]] = {}
        self.addresses: dict[str, int] = {}
        for name, spec in {**inputs, **outputs}.items():
            shape = tuple(int(str(length)) for length in spec.shape)
            size = math.prod(shape) * np.dtype(spec.dtype).itemsize
            host = cuda.allocate_host(size, name, is_mapped=is_shared)
            owned.callback(cuda.free_host, host)
            memory = (ctypes.c_ubyte * size).from_address(host)
            self.host[name] = np.ctypeslib.as_array(memory).view(spec.dtype).reshape(shape)
            self.host[name].fill(0)
            if is_shared:
                self.addresses[name] = cuda.device_address(host)
            else:
                self.addresses[name] = cuda.allocate(size, name)
                owned.callback(cuda.free, self.addresses[name])

    def upload(self, stream: Any) -> None:
        """Copy the inputs to the GPU, in the stream's turn."""
        if self._is_shared:
            return
        for name in self._inputs:
            array = self.host[name]
            self._cuda.upload(self.addresses[name], array.ctypes.data, array.nbytes, stream)

    def download(self, stream: Any) -> None:
        """Copy the outputs from the GPU, in the stream's turn."""
        if self._is_shared:
            return
        for name in self._outputs:
            array = self.host[name]
            self._cuda.download(array.ctypes.data, self.addresses[name], array.nbytes, stream)
