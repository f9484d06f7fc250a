"""A shop in production: many workers, one server, everything watched."""
