"""Read and write eCryptfs trees in user space, and never be locked out of them."""

__version__ = "0.1.0"
