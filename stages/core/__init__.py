"""The machine and its files; imports no other room."""
