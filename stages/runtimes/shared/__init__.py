"""What two runtimes or more use."""
