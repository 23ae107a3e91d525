"""The page: complete, self-contained, and deaf to hostile names."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from unseen.detect.report import report, visible, write_report
from unseen.detect.verdict import HEADLINES, Evidence, Person, Sighting, Verdict
from unseen.types import InputError

HOSTILE = "/tmp/<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(2)>\u202egpj.mp4"
EMPTY = {"br", "img", "meta", "line", "rect", "circle", "path", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects tags and checks that they close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def sighting(frame: int, probability: float | None, reason: str | None = None) -> Sighting:
    return Sighting(
        frame,
        frame / 10,
        (10.0, 10.0, 90.0, 110.0),
        "scored" if probability is not None else "dropped",
        reason,
        None if probability is None else probability * 4 - 2,
        probability,
        100.0,
        200.0,
        0.99,
        b"jpeg",
    )


def film(file: str = HOSTILE) -> Verdict:
    frames = [sighting(0, 0.2), sighting(10, 0.95), sighting(20, None, "face_too_blurred"), sighting(30, 0.7)]
    person = Person(1, "fake", "above_threshold", frames, 0.9, 0.62, 0.004)
    return Verdict(
        file,
        "fake",
        "above_threshold",
        message=f"{file}: odd",
        probability=0.62,
        score=0.9,
        p_value=0.004,
        threshold=0.6,
        inconclusive_from=0.3,
        threshold_rule="<i>rule</i>",
        people=[person],
        evidence=[Evidence(1, frames[1], b"a", b"b", b"c", [[0.0, 1.0]])],
        warnings=["<i>careful</i>"],
        counts={"frames": 4, "frames_judged": 3, "faces": 4, "dropped": {"face_too_blurred": 1}},
        media={
            "kind": "video",
            "codec": "<u>h264</u>",
            "width": 10,
            "height": 10,
            "duration": 4.0,
            "fps": 10.0,
        },
        sha256="ab" * 32,
        model="default",
        model_card={"<k>": "<v>"},
        settings={"min_face": 48.0, "min_blur": 15.0},
        command="unseen detect '<x>'",
        versions={"unseen": "0"},
        created="2026-01-01",
        seconds=1.0,
    )


def test_hostile_text_stays_text() -> None:
    page = Page(film().to_html())
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "link", "form", "i", "u", "k", "base"}
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert page.open == []
    words = " ".join(page.words)
    assert "<script>alert(1)</script>" in words
    assert "\u202e" not in words
    assert "\\u202egpj.mp4" in words


def test_a_detectors_own_pictures_stand_beside_the_face() -> None:
    verdict = film()
    verdict.evidence[0].explanations = [("reconstruction", b"d"), ("other", b"e")]
    words = " ".join(Page(verdict.to_html()).words)
    assert "As real faces would have it" in words and "other" in words
    assert "As real faces would have it" not in " ".join(Page(film().to_html()).words)
    row = verdict.evidence[0].to_dict(pictures=True)["explanations"]
    assert [entry["kind"] for entry in row] == ["reconstruction", "other"]
    assert all(entry["picture"].startswith("data:image/jpeg;base64,") for entry in row)


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = film().to_html()
    page = Page(text)
    for tag, attrs in page.tags:
        for name in ("src", "href", "data", "action", "srcset", "xlink:href"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:image/jpeg;base64,", "#")), (tag, name, value)
        assert "url(" not in (attrs.get("style") or "")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv")]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")


def test_pictures_have_words_and_ids_are_unique() -> None:
    page = Page(report([film(), film("b.mp4")]))
    for tag, attrs in page.tags:
        if tag == "img":
            assert attrs.get("alt")
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    links = [attrs["href"][1:] for tag, attrs in page.tags if tag == "a"]
    assert set(links) <= set(ids)
    assert {"file-1", "file-2"} <= set(links)


def test_the_timeline_has_a_focusable_point_a_frame() -> None:
    page = Page(film().to_html())
    points = [attrs for tag, attrs in page.tags if tag == "g" and attrs.get("tabindex") == "0"]
    labels = [attrs["aria-label"] for attrs in points]
    assert len(points) == 4
    assert "1.0 s: 95 %, at or above the threshold" in labels
    assert "2.0 s: not judged, face too blurred" in labels
    # From the first to the second frame; never across the gap.
    assert sum(tag == "line" and attrs.get("class") == "path" for tag, attrs in page.tags) == 1


@pytest.mark.parametrize("state", list(HEADLINES))
def test_every_state_has_a_page_with_words_and_a_shape(state) -> None:
    verdict = Verdict("x.jpg", state, "no_face")
    text = verdict.to_html()
    assert Page(text).open == []
    assert HEADLINES[state] in text
    assert verdict.means in " ".join(Page(text).words)
    assert verdict.means_not
    icons = {
        Verdict("x", other, "no_face").to_html().split("<svg")[1].split("</svg>")[0] for other in HEADLINES
    }
    assert len(icons) == len(HEADLINES)  # the answer never hangs on colour


def test_names_that_are_no_text() -> None:
    assert visible("a\udcffb\n\x1b[31m") == "a\\udcffb\\n\\x1b[31m"
    verdict = Verdict("/tmp/a\udcff.jpg", "error", "missing", command="unseen detect 'a\udcff.jpg'")
    verdict.to_html().encode("utf-8")
    verdict.to_json().encode("ascii")


def test_the_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_report([film()], tmp_path / "out.html")
    assert path.read_text("utf-8") == report([film()])
    assert [p.name for p in tmp_path.iterdir()] == ["out.html"]
    with pytest.raises(InputError, match="cannot be written"):
        write_report([film()], tmp_path / "no" / "out.html")


def leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for entry in value.values() for leaf in leaves(entry)] + list(value)
    if isinstance(value, list):
        return [leaf for entry in value for leaf in leaves(entry)]
    return [value]


def test_every_field_of_the_json_is_in_the_page() -> None:
    verdict = film()
    verdict.people[0].quality = {"size": 123.25, "blocks": 0.0625}
    verdict.people[0].unlike = ["a smaller face"]
    verdict.media["traces"] = {
        "software": "Editor <9>",
        "jpeg_gaps": 0.5,
        "reencoded": ["It was saved before."],
        "c2pa": {
            "status": "present",
            "validation": "Valid",
            "actions": ["c2pa.edited"],
            "issuer": "Signer & Co",
        },
    }
    facts = json.loads(verdict.to_json())
    page = Page(verdict.to_html())
    words = "\n".join(page.words)
    record = json.loads(next(text for text in page.words if text.startswith("{") and '"sha256"' in text))
    assert record == facts  # nothing of the JSON is missing, and nothing was rounded on the way
    for leaf in leaves(facts):
        assert leaf is None or json.dumps(leaf).strip('"') in words, leaf
    # What a person should read does not hide in the record.
    shown = words.split('"sha256"')[0]
    for text in ("Editor <9>", "It was saved before.", "Signer & Co", "c2pa.edited", "a smaller face"):
        assert text in shown, text
    assert "Fewer than 1 in 100 real people look this unreal." in shown


def test_headings_descend_one_step_at_a_time() -> None:
    levels = [
        int(tag[1]) for tag, _ in Page(report([film(), film("b.mp4")])).tags if re.fullmatch("h[1-6]", tag)
    ]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels)), levels


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", [0, 1])
def test_letters_contrast_with_what_they_stand_on(scheme: int) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1, in light and dark."""
    css = re.search(r"<style>(.*?)</style>", film().to_html(), re.DOTALL).group(1)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", css.split(":root")[1 + scheme]))
    pairs = [(ink, ground) for ink in ("ink", "quiet", "link") for ground in ("ground", "card", "soft")]
    pairs += [(tone, f"{tone}-soft") for tone in ("fake", "real", "inconclusive", "none")]
    for ink, ground in pairs:
        light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_a_report_as_json_holds_the_pictures(tmp_path: Path) -> None:
    (facts,) = json.loads(write_report([film()], tmp_path / "out.json").read_text())
    assert facts["evidence"][0]["heat_picture"].startswith("data:image/jpeg;base64,")
    assert {k: v for k, v in facts.items() if k != "evidence"} == {
        k: v for k, v in json.loads(film().to_json()).items() if k != "evidence"
    }


def test_an_empty_heat_map_is_said_and_not_shown() -> None:
    verdict = film()
    shown = report([verdict])
    assert "Where the network looked" in shown and "Raised the score" in shown
    verdict.evidence = [Evidence(1, verdict.evidence[0].sighting, b"a", b"b", b"c", [[0.0, 0.0]])]
    none = report([verdict])
    assert "Where the network looked" not in none and "Raised the score" not in none
    assert "No place of this face raised the score" in none
