"""Bytes to faces: reading files, finding faces, cropping and following them. No torch."""
