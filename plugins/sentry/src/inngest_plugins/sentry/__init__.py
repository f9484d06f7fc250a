"""Sentry for Inngest functions: one event for one failure, on the right run, without payloads."""

from . import _extra as _extra
from .plugin import SentryPlugin

__all__ = ["SentryPlugin"]
