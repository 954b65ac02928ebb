"""runtime.rollouts."""
