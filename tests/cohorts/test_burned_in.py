import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from cohorts.burned_in import traced, verdict, written
from cohorts.phantom import overlays
from cohorts.phantom.scanner import SITES
from cohorts.phantom.simulate import stills


def drawn(words, *, size=16, grey=220, at=(12, 8), on=None):
    ground = np.zeros((200, 260), np.uint8) if on is None else on
    image = Image.fromarray(ground.copy())
    ImageDraw.Draw(image).text(at, words, fill=grey, font=ImageFont.load_default(size=size))
    return np.array(image)[None]


def ecg(height=160, width=240, level=130):
    frame = np.zeros((height, width), np.uint8)
    phase = (np.arange(width) % 80) / 80
    rows = level - 20 * np.exp(-(((phase - 0.3) / 0.03) ** 2)) - 5 * np.exp(-(((phase - 0.6) / 0.08) ** 2))
    for column, (row, following) in enumerate(zip(rows, np.append(rows[1:], rows[-1]), strict=True)):
        low, high = sorted((int(row), int(following)))
        frame[low : high + 1, column] = 200
    return frame[None]


@pytest.fixture(scope="module")
def hearts():
    """Return phantom frames without writing, of several sites, uint8 `(frames, height, width)` each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlays, "burn_in", lambda *args, **words: None)
        return [stills(6, seed=3, size=size, style=style).pixels for size in (64, 112) for style in SITES]


@pytest.mark.parametrize("size", [9, 12, 16, 24])
@pytest.mark.parametrize("grey", [60, 120, 255])
@pytest.mark.parametrize("words", ["SMITH JOHN", "ID 40213", "2012-01-31"])
def test_writing_on_black_is_found_where_it_stands(words, size, grey):
    boxes = written(drawn(words, size=size, grey=grey, at=(30, 50)))
    assert boxes
    assert all(left >= 28 and top >= 48 and bottom <= 52 + 2 * size for top, left, bottom, _ in boxes)


def test_dark_writing_on_a_bright_bar_is_found():
    assert written(drawn("Meyer A.", grey=20, on=np.full((200, 260), 180, np.uint8)))


def test_bright_writing_inside_the_fan_is_found():
    heart = np.kron(stills(1, seed=1, size=112).pixels[0], np.ones((2, 2), np.uint8))
    assert not written(heart[None])
    assert written(drawn("SMITH JOHN", size=14, grey=255, at=(70, 110), on=heart))


def test_writing_that_stands_still_is_found_in_a_clip_and_needs_only_to_stand_still():
    noise = np.random.default_rng(0).integers(0, 60, (3, 200, 260), dtype=np.uint8)
    assert written(np.concatenate([drawn("ID 40213", on=frame) for frame in noise]))


def test_a_heart_is_not_taken_for_writing_nor_for_an_ecg(hearts):
    frames = [frame[None] for each in hearts for frame in each.reshape(-1, *each.shape[-2:])]
    assert len(frames) > 90
    assert sum(bool(written(frame)) for frame in frames) == 0
    assert sum(bool(traced(frame)) for frame in frames) <= len(frames) // 100


def test_what_the_phantom_burns_in_is_found():
    frame = np.zeros((224, 224), np.uint8)
    overlays.burn_in(frame, np.zeros_like(frame, bool), text="FR 64HZ 15CM", beat=0.5)
    assert written(frame[None])
    assert traced(frame[None])


def test_an_ecg_is_found_and_a_straight_line_is_not():
    assert traced(ecg())
    line = np.zeros((1, 160, 240), np.uint8)
    line[0, 130:132] = 200
    assert not traced(line)


REGION = (40, 20, 190, 240)


@pytest.mark.parametrize(
    ("at", "region", "text", "says"),
    [
        ((30, 90), REGION, "block", "inside the region"),
        ((30, 90), REGION, "mask", "inside the region"),
        ((30, 8), REGION, "block", "outside the region"),
        ((30, 8), REGION, "mask", ""),
        ((30, 30), REGION, "mask", "inside the region"),  # astride of the edge
        ((30, 8), None, "block", "no region is known"),
        ((30, 8), None, "mask", "no region is known"),
    ],
)
def test_the_verdict_is_where_the_writing_lies(at, region, text, says):
    reason = verdict(drawn("SMITH JOHN", at=at), region, claimed=None, text=text)
    assert says in reason
    assert bool(says) == bool(reason)


def test_an_ecg_blocks_as_writing_does():
    assert "an ECG" in verdict(ecg(), None, claimed=None, text="mask")
    assert not verdict(ecg(), (0, 0, 100, 240), claimed=None, text="mask")
    assert verdict(ecg(), (0, 0, 100, 240), claimed=None, text="block")


def test_a_header_that_denies_is_not_believed_and_one_that_admits_is():
    clean = np.zeros((1, 200, 260), np.uint8)
    assert verdict(drawn("SMITH JOHN"), None, claimed=False, text="block")
    assert verdict(clean, REGION, claimed=True, text="block")
    assert verdict(clean, None, claimed=True, text="mask")
    assert not verdict(clean, REGION, claimed=True, text="mask")


def test_no_message_claims_that_nothing_is_there():
    assert verdict(np.zeros((1, 200, 260), np.uint8), None, claimed=False, text="block") == ""


def test_short_lines_of_a_textured_picture_must_be_more_alike_and_writing_is():
    assert verdict(drawn("SMITH JOHN"), None, claimed=None, text="block", textured=True)
    assert not verdict(ecg(), None, claimed=None, text="block", textured=True)
    rough = np.zeros((60, 80), np.uint8)
    for column, (level, high) in enumerate(((90, 14), (140, 12), (110, 16))):
        rough[20 : 20 + high, 10 + 18 * column : 22 + 18 * column] = level
        rough[22 : 18 + high, 12 + 18 * column : 20 + 18 * column] = level // 2
    assert not written(rough[None], textured=True)


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="known: block, mask"):
        verdict(np.zeros((1, 9, 9), np.uint8), None, claimed=None, text="allow")


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((1, 1, 1), np.uint8),
        np.full((2, 3, 900), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (1, 300, 300), dtype=np.uint8),
    ],
)
def test_pictures_of_nothing_are_looked_through_too(frames):
    assert isinstance(verdict(frames, None, claimed=None, text="block"), str)


def test_a_field_of_dots_is_blocked_without_counting_them_all():
    dots = np.kron(np.ones((90, 90), np.uint8), np.pad(np.full((5, 5), 255, np.uint8), ((0, 2), (0, 2))))
    assert verdict(dots[None], None, claimed=None, text="block")


def test_a_frame_too_large_to_look_through_is_blocked():
    wide = np.broadcast_to(np.zeros((1, 1), np.uint8), (1, 2049, 2048))
    assert "at most" in verdict(wide, None, claimed=None, text="block")
