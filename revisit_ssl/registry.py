"""What a room offers, by name."""

import importlib
from collections.abc import MutableMapping

from revisit_ssl.errors import unknown


class Registry(MutableMapping):
    """{name: what it stands for}, of which a room's own is imported when it is asked for: help needs no TensorFlow.

    Args:
        package: name of the room's package.
        homes: {name: ("file.attribute" in the package, class of its options)}.
    """

    def __init__(self, package, homes):
        self.package = package
        self.homes = homes
        self.added = dict.fromkeys(homes)  # None while it is not imported

    def __getitem__(self, name):
        if self.added[name] is None:
            module, _, attribute = self.homes[name][0].partition(".")
            self.added[name] = getattr(importlib.import_module(f"{self.package}.{module}"), attribute)
        return self.added[name]

    def __setitem__(self, name, value):
        self.added[name] = value

    def __delitem__(self, name):
        del self.added[name]

    def __iter__(self):
        return iter(self.added)

    def __len__(self):
        return len(self.added)

    def __contains__(self, name):
        return name in self.added  # without importing it, as Mapping would

    def find(self, name, what):
        """``self[name]``; InputError, which calls it ``what``, where there is none."""
        return self[self.known(name, what)]

    def find_options(self, name, what):
        """The class of its options, for which it is not imported; errors as of ``find``."""
        imported = self.added[self.known(name, what)]
        return self.homes[name][1] if imported is None else imported.Options

    def known(self, name, what):
        """``name``, or an InputError where nothing has it."""
        if name not in self:
            raise unknown(what, name, sorted(self))
        return name
