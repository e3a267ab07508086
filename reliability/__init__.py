"""Attacks on `adaptive`: what is lost or duplicated when processes, connections and rows go wrong."""
