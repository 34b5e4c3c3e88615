"""Instruction counts on emulated Arm processors."""
