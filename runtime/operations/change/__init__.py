"""From declarations to a changed fleet: plans, their review and approval, applies, imports."""
