"""Floor 1: how a permitted request reaches its provider, and how nothing else does.

fleet     the run-time state of all providers of one policy; a ProviderState each
endpoint  an EndpointState each: where a connection is taken, given back, waited for or made
choice    which endpoints to try, and in what order, among what a permit and a route leave
balance   which of a provider's endpoints that is; `row` keeps ready what is chosen among
health    how an endpoint does; a try from its beginning to its end
breaker   whether, and how much, an endpoint may be sent
window    what became of its requests lately
retry_budget  whether a request is tried once more
waiting   who waits for a provider that is full; `queue` has the order
pool      idle connections, kept by what they may be used for; decides, never closes
checking  active checks, when they are due; `probing` makes one, `checks` judges it, `checked` keeps what they saw
evidence  whether a provider can be where it says it is
connect   the one function that opens provider sockets; takes a permit
dial      what it opened as a verified transport
gate      stands on a new connection until it is verified
guard     which addresses a provider may be dialled at
descriptors  how far clients, and connections to providers, may go
resolve   names to addresses, remembered for as long as the answer says
names     the system's name service
contexts  how a provider's certificate is verified, and what we show it
failure   why a provider was not reached, and whose fault that is
concurrency, token_bucket  how many requests are let in at once, and how many of one subject
"""
