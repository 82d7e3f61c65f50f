"""The flow of a run, and what else is asked of one: a plan, an estimate, an inspection, a report, another export."""
