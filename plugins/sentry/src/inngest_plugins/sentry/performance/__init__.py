"""Transactions of requests, spans of steps, and Sentry's Queues view."""
