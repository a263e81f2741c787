"""A run, route or diagnosis as configurations of the tools that people run on clusters."""
