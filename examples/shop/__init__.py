"""A small shop that fulfils orders with durable functions."""
