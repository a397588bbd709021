"""The page: what each part of it shows, computed from the files of the output folder."""
