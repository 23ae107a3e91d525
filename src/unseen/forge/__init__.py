"""Labelled forgeries from real faces: material to develop and compare on."""
