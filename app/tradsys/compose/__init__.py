"""The composition root: what each process is made of, and in which order it comes to life.

Everything is built here and passed on; nothing else reads settings or knows two adapters. A module for
each process, so that none imports what only another one needs.
"""
