"""eCryptfs trees on any file system of fsspec, read in place; registered as ``ecryptfs://``."""
