"""The course of a request: which hook fires when, and what happens if one fails."""
