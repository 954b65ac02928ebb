"""Reports and records the work of a fleet: status, usage, bills, budgets, forecasts, notices."""
