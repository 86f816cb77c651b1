"""Trees read through ``ecryptfs://``, wherever they lie."""
