"""Octets from strangers, guided by the coverage of what reads them. script/fuzz runs it."""
