"""The demonstration behind `domicile demo`, one concern a file.

    authority, accounts    a throwaway CA, and signed accounts
    storage                a provider that keeps its own count of what it has seen
    policy_file, proxy_process    the policy, and `domicile serve` running it
    client, records, scrape       requests; what the proxy says of each; what it counts
    stage                  all of these together, from start to clean-up
    visits, transfers, outage, proof    the tour, a part a file
    checks, screen, plots, invitation    what came of it, and how it is shown

Nothing is shown that was not seen in this run: who answered is the provider's own word, why is the proxy's.
"""
