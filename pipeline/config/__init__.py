"""The configuration: its sections, presets, files and overrides."""
