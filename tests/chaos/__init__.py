"""Parley under faults: clients that write down what they saw, faults, a checker of twelve invariants, a table."""
