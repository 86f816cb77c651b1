"""What can be done with a tree without a mount. Knows nothing of words and options, nor of FUSE."""
