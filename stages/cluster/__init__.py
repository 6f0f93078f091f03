"""The same work on a Ray cluster; only `ray` imports Ray."""
