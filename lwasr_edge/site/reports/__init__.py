"""The result of a check as text for a terminal and as a page, in several languages."""
