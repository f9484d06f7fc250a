"""Compiles schemas of every kind; a compiled schema accepts a value or says what is wrong."""
