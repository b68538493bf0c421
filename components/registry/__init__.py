"""The registry: versions of a model, their manifests, publication and rollback."""
