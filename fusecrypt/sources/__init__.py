"""From what options say about keys to the keys of a tree; knows no command line and no terminal."""
