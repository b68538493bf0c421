"""The training loop: its steps, state, checkpoints, devices and progress."""
