"""The graph's steps that TFX lacks, and those whose TFX version does not fit."""
