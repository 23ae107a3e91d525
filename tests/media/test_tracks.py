from __future__ import annotations

import numpy as np

from unseen.media.faces import Face
from unseen.media.tracks import follow, likeness


def face(x: float, y: float, side: float = 20) -> Face:
    box = np.array([x, y, x + side, y + side], np.float32)
    return Face(box, 1.0, np.zeros((5, 2), np.float32), np.zeros((81, 2), np.float32))


def test_likeness_by_hand() -> None:
    a = np.array([[0, 0, 10, 10]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [100, 0, 110, 10]], np.float32)
    # Same: 1 + 1. Half a side away: 50 of 150 shared, distance 0.5. Touching: 0 + 0. Far: negative.
    np.testing.assert_allclose(likeness(a, b)[0], [2, 1 / 3 + 0.5, 0, -9], atol=1e-6)


def test_two_people_who_cross_paths_closely() -> None:
    # One walks right, one left, in different rows that overlap by half.
    frames = [[face(10 * t, 0), face(100 - 10 * t, 12)] for t in range(11)]
    frames[5].reverse()  # the order inside a frame means nothing
    tracks = follow(frames)
    assert [len(track.positions) for track in tracks] == [11, 11]
    rows = {track.id: {float(frames[i][j].box[1]) for i, j in track.positions} for track in tracks}
    assert sorted(rows.values(), key=min) == [{0.0}, {12.0}]


def test_a_gap_is_bridged_up_to_the_patience() -> None:
    there, gone = [face(0, 0)], []
    assert [len(t.positions) for t in follow([there, *[gone] * 4, there], patience=4)] == [2]
    assert [len(t.positions) for t in follow([there, *[gone] * 5, there], patience=4)] == [1, 1]


def test_someone_elsewhere_or_of_another_size_is_someone_else() -> None:
    assert len(follow([[face(0, 0)], [face(200, 0)]])) == 2
    assert len(follow([[face(0, 0, 20)], [face(-40, -40, 100)]])) == 2


def test_tracks_come_by_how_much_of_the_video_they_fill() -> None:
    small, large, short = face(0, 0, 10), face(100, 0, 50), face(300, 0, 90)
    tracks = follow([[small, large, short], [small, large], [small, large]])
    assert [track.id for track in tracks] == [0, 1, 2]
    assert [track.positions[0][1] for track in tracks] == [1, 0, 2]


def test_every_face_belongs_to_exactly_one_track() -> None:
    rng = np.random.default_rng(1)
    frames = [[face(*rng.uniform(0, 100, 2)) for _ in range(rng.integers(0, 6))] for _ in range(20)]
    seen = [position for track in follow(frames) for position in track.positions]
    assert sorted(seen) == [(i, j) for i, faces in enumerate(frames) for j in range(len(faces))]
    for track in follow(frames):
        assert [i for i, _ in track.positions] == sorted({i for i, _ in track.positions})


def test_no_faces_no_tracks() -> None:
    assert follow([]) == [] and follow([[], []]) == []
