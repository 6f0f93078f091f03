"""What every stage may use; imports neither a runtime nor a stage."""
