"""Passing on: connections that nobody reads, moved in the kernel, by Domicile, HAProxy in TCP mode and nginx's stream.

    work              what is asked for: downloads and small exchanges, on kept connections and on new ones
    proxies           the configuration of each, and nothing else
    provider_program  answers twelve digits with so many bytes, out of memory
    load_program      asks, and throws the answers away unseen
    measure           all of it, in rounds

A download is measured by the MiB, so that large and small ones compare.
"""
