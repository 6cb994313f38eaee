"""Floor 2: the plane for what is passed on as it is: TLS that is never decrypted, and plain TCP.

plane      all connections, the line in force, and the sweep that keeps every deadline
arrival    what the accept stage knows of a connection when it hands it over
line       one loaded policy and what was opened for it
judge      what a connection shows before anything is decided: facts, and who the sources say it is for
plan       from an arrival to what will be done with it; and the table of repeated arrivals
waiting    what a connection may have to wait for before it sets out
passage    one client's connection, from its decision to its record
attempts   its tries at the endpoints that its permit covers
parting    the end of a client's side that comes before the client's own
relay      bytes both ways between two sockets
way        one of them: moved in the kernel, or copied
wrapped    the same where our own TLS is on the provider's side
vessels    the buffer and the pipes that bytes are carried in
readiness  which sockets can go on: one epoll object for all of them
deadlines  who has to be looked at when
header     the PROXY header that a provider is told the client with
tally      what is counted of one connection, and its one record
"""

from proxy.tcp.plane import TcpPlane

__all__ = ["TcpPlane"]
