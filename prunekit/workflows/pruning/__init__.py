"""The parts of a pruning run: settings, schedule, evidence, selection, one stage, the report."""
