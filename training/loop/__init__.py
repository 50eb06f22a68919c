"""Training loop: configuration, sample stream, optimiser step, checkpoints, logs."""
