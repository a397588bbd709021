"""The page: the numbers of each part, computed from the files of the output folder."""
