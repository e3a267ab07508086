"""Damaged inputs against the sources: no crash, no hang, no silent loss.

Each case is a file of one format, drawn from a grammar or a real file with damage, and is read three times,
with other piece sizes and numbers of parsers, and once by a slow reader that shares no code with the sources.
"""
