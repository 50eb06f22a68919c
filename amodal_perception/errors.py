"""Errors a user can cause and mend. Each message says what is wrong, where, and what to do."""


class AmodalError(Exception):
    """Base of all expected errors; the command line prints it as one line and exits with 1."""


class ConfigError(AmodalError):
    """A parameter or configuration key that is unknown or out of range."""


class ModelFileError(AmodalError):
    """A model file that is missing, damaged, foreign, or breaks the network's contract."""


class BagError(AmodalError):
    """A bag that is missing, damaged, or holds no such topic."""


class ImageError(AmodalError):
    """An image that cannot be read, decoded, or is too large."""


class DatasetError(AmodalError):
    """A dataset or predictions file that cannot be understood."""


class EngineError(AmodalError):
    """An engine that fails while it runs: out of memory, or its GPU is lost.

    Attributes:
        cuda_name: CUDA's name of the error; empty where CUDA has no part in it.
    """

    cuda_name = ""


class GpuMemoryError(EngineError):
    """The GPU's memory ran out; it may be back a moment later."""


class GpuLostError(EngineError):
    """The GPU fails whatever this process asks of it; only a new process helps."""


class GpuUnavailableError(EngineError):
    """No GPU can be used here; the message says why, and what mends it."""


def one_line(error: BaseException) -> str:
    """Return an error in one line, whole: the cause often stands at its end.

    The type is named where the error is none of ours, or says nothing by itself.
    """
    text = " ".join(str(error).split())
    if isinstance(error, AmodalError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
