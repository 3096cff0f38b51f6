"""Who may send what: keys, bearer tokens, revocation.

A token is judged once with its signature (`tokens`, against `keys`), is then known by its whole text,
and each later use costs a dictionary look-up plus the checks that may change with time: its life
span and whether it was revoked (`revocation`). `mint` makes tokens for the command line.
"""
