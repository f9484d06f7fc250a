"""Who reports model calls: user code, wrapped clients, spans, other plugins."""
