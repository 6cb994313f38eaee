"""What opening the sources or the country data may end in."""


class SourceRefused(Exception):
    """A file that the policy names cannot be used. The operator's fault: the load fails, what serves stays.

    The text names the file and what is wrong with it, and nothing of what it holds.
    """
