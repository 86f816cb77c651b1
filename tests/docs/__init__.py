"""The pages in docs/: their commands do what the pages say."""
