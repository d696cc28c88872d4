"""Reproductions of papers, one file each: published figures beside ours."""
