"""The training loop and its parts: losses, schedule, precision, processes, state, logs."""
