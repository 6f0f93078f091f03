"""What stages and workers say to each other: records, each with one writer; imports NumPy and msgspec alone."""
