"""The command line: words, options, prompts, exit statuses, progress."""
