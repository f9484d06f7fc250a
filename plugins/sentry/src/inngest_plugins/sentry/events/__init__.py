"""Error events: made, kept until it is known what they are, completed and cleaned."""
