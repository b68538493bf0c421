"""The distributions of the VAE: posterior q(z|x), prior p(z), likelihood p(x|z)."""
