"""The command-line tool on a user's own table of points: fit, predict, allocate, compare, gain."""
