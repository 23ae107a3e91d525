"""Labelled forgeries from real faces: a bench to develop and compare on, never a stand-in for a real data set."""
