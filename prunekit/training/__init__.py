"""Training: the loop, its schedules, losses and optimisers, and the choice of the samples worth a backward pass."""
