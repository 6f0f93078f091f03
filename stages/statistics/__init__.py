"""Raw records to figures; measures nothing and draws nothing."""
