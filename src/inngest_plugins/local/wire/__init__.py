"""What goes over the wire between engine and app: bodies, headers, answers, identifiers."""
