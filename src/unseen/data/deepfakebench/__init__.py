"""DeepfakeBench's files (https://github.com/SCLBD/DeepfakeBench): its JSON, its trees of crops, its LMDB.

Read to a manifest and written from one. The formats were learned from its public source; no code is copied.
"""

from unseen.data.deepfakebench.reading import Imported, read_json, read_tree
from unseen.data.deepfakebench.store import read_lmdb
from unseen.data.deepfakebench.writing import write_json, write_tree

__all__ = ["Imported", "read_json", "read_lmdb", "read_tree", "write_json", "write_tree"]
