"""What a request costs: Domicile beside nginx, HAProxy, Envoy and a plain aiohttp proxy, on the same work in one run.

    work        what is asked for: the bodies, the connections, the headers of every request
    provider    nginx with fixed bodies, which all proxies forward to
    proxies/    one module a proxy: its configuration, and nothing else
    load        wrk, as a value
    processor   processor time of a process and its children
    decide      what a decision alone takes
    rounds      everything running at once, measured in turns
    budget      what DESIGN allows
    table       figures as a table, for a terminal and for RESULTS.md

Each proxy has one core and one worker; load and provider share another. Measured is the processor time of the
proxy's own processes, user and kernel, over the requests that were answered meanwhile: figures that a busy
machine disturbs far less than it does latencies. Loopback charges a receiver's share of the work to whoever sends,
alike for all.
"""
