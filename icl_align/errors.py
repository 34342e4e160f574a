"""The one exception a user's mistake raises; the command line prints it in one line and exits with 2."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in a file, a setting or the environment, told with its place and its remedy."""
