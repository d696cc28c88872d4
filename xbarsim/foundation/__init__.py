"""What every room stands on: validation, TOML files, tables, threads and processes. It knows nothing of the rest."""
