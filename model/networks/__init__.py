"""The encoders and decoders, and the precision that they compute in."""
