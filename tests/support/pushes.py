"""Pushes for tests that need versions, whatever is served before."""

from components.registry import listing, publish
from components.registry.listing import Version
from components.registry.manifest import Manifest
from components.registry.signatures import Signer


def push_next(
    model_dir: str,
    *,
    destination: str,
    manifest: Manifest,
    signer: Signer | None = None,
) -> Version:
    """Publishes a model in place of what is served, and again if it is overtaken."""
    while True:
        served = listing.find_served_version(destination)
        try:
            return publish.publish_version(
                model_dir,
                destination=destination,
                manifest=manifest,
                replaces=served.number if served else None,
                rules=publish.PushRules(signer=signer),
            )
        except publish.OvertakenError:
            continue
