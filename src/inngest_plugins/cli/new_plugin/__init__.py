"""``inngest-plugins new-plugin``: make the folder of a plugin that is a package of its own."""

from .command import new_plugin

__all__ = ["new_plugin"]
