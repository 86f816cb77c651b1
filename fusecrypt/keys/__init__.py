"""Where a FEKEK or FNEK comes from. Knows nothing of the files of a tree."""
