"""The training loop's parts: configuration, samples, optimisers, checkpoints, logs."""
