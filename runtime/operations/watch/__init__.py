"""What the fleet does and costs: status, usage, bills, budgets, forecasts, notices that are due."""
