"""Error events: made, held until the outcome is known, completed and cleaned."""
