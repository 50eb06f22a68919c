from helpers.tensorrt_builds import cache_home, model

__all__ = ["cache_home", "model"]
