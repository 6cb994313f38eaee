"""Floor 1: how a permitted request reaches its provider, and how nothing else does.

fleet     the run-time state of all providers of one policy; a ProviderState each, an EndpointState an endpoint
choice    which endpoints to try, and in what order, among what a permit and a route leave
pool      idle connections, kept by what they may be used for; decides, never closes
connect   the one function that opens provider sockets; takes a permit
dial      what it opened as a verified transport
gate      stands on a new connection until it is verified
guard     which addresses a provider may be dialled at
descriptors  how far clients, and connections to providers, may go
resolve   names to addresses, off the loop, remembered for a bounded time
contexts  how a provider's certificate is verified, and what we show it
failure   why a provider was not reached, and whose fault that is
"""
