"""What is built to be installed."""
