"""A package, so that worker processes find it before a package of the same name that a library installs."""
