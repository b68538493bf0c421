"""The training of the VAE: loop, steps, state, checkpoints, devices and progress."""
