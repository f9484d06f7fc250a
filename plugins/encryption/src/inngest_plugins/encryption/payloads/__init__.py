"""The payloads of a request (events, results, errors): decrypts and encrypts each in its place."""
