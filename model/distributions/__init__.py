"""The distributions of the VAE: q(z|x), p(z) and p(x|z)."""
