"""The manual pages and shell completions, made from the commands themselves and from docs/."""
