"""What every room stands on: validation, TOML, tables, intervals, progress, threads, processes. It knows no other."""
