"""Measure fusecrypt against other encrypting file systems and the directory below (script/bench)."""
