"""The spans and the measurements of one request, its steps and its sends."""
