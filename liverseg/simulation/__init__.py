"""A race in virtual time, for forecasts: the real controller, simulated trainers."""
