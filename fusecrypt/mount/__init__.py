"""FUSE requests, inodes and their lookup counts, caching, and the daemon's life."""
