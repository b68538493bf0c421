"""The steps that TFX does not have, or does not do right."""
