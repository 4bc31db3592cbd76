"""The clip store, the data sets read from it, and the maths that ties frames to sound."""
