"""Side-by-side timings of this project and the original's way of doing the same, each ending in one line of JSON."""
