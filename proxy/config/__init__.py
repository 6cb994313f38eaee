"""Floor 1: the policy file, from YAML to the frozen values of `proxy.policy`.

    bytes -> document (text with places) -> model (pydantic) -> policy -> proofs

Every stage notes all the mistakes that it can see; `load` raises them together.
"""

from proxy.config.load import Loaded, load
from proxy.config.note import Note, PolicyRefused

__all__ = ["Loaded", "Note", "PolicyRefused", "load"]
