"""What a request costs: Domicile beside nginx, HAProxy, Envoy and a plain aiohttp proxy, on the same work in one run.

    groups      what a run is made of, one group after another, and what they come to together
    requests    HTTP: processor time a request
    passing/    connections that are passed on unread: processor time an exchange, a connection, a MiB
    workers     what a second worker costs
    idle        memory of ten thousand idle connections
    decide      what a decision alone takes
    choosing    what health, choice and retry budget take of a request
    overload    what becomes of the admitted when three times as much comes as a worker can do
    sources     what a source of homes takes; by itself: python -m benchmarks.sources

    work        what is asked of HTTP: the bodies, the connections, the headers of every request
    provider    nginx with fixed bodies, which all proxies forward to
    proxies/    one module a proxy: its configuration, and nothing else
    load        wrk, as a value
    processor   what a process and its children take
    rounds      everything running at once, measured in turns
    cores       where each runs, and that proxies run without privileges
    budget      what DESIGN allows
    grids       figures as tables
    table       tables for a terminal and for RESULTS.md

Each proxy has one core and one worker; load and provider share another. Measured is the processor time of all of the
proxy's own processes (Domicile's master too), user and kernel, over the requests that were answered meanwhile: figures
that a busy machine disturbs far less than it does latencies. Loopback charges a receiver's share of the work to whoever
sends, alike for all.

A user without privileges may have 64 pipes of 1 MiB, and so may each proxy here, whoever runs the benchmark. Idle
connections need descriptors: 20,600 (`ulimit -Hn`) for ten thousand that are passed on.
"""
