"""What `domicile status` is made of.

    admin       where to ask, and asking
    history     what happened between answers
    view, figures    how it looks
    keyboard    how a viewer leaves

Nothing is shown that the admin endpoint did not say.
"""
