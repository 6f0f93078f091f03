"""What a runtime's options refuse beyond their types: ValueErrors that name the key."""

MOST = 1_000_000


class OptionError(ValueError):
    """One key of a runtime's options, its value, and what it should be."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        """The key as params.yaml writes it inside the runtime's block."""
        super().__init__(f"`{key}` is {value}: {allowed}")
        self.key, self.value, self.allowed = key, value, allowed


def positive(options: object, *keys: str) -> None:
    """OptionError unless each of these is None or a whole number from 1 to a million."""
    for key in keys:
        value = getattr(options, key)
        if value is not None and not 1 <= value <= MOST:
            end, limit = ("greater", 1) if value < 1 else ("less", MOST)
            raise OptionError(key, value, f"it should be {end} than or equal to {limit}")
