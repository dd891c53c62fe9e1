"""People's files into tables and arrays: downloads, archives, CSV and Parquet, folders, media.

It does not know what the columns and files mean: the domains do.
"""
