"""The eCryptfs format: octets to dataclasses and back. Pure functions: no I/O, no clock, no globals."""
