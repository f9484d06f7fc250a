"""The stack: plugins sorted by layer, and what each of them offers besides its hooks."""
