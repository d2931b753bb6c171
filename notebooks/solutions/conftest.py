"""Solutions are loaded into lessons, whose names they use; alone they are no modules."""

collect_ignore_glob = ["[0-9]*.py"]
