"""The one door to the SDK's internals."""
