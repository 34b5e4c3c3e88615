"""Models for many devices: an index of releases that is signed with keys of the user's own."""
