"""Floor 1: the policy file, from YAML to the frozen values of `proxy.policy`."""
