import cv2
import numpy as np
import pytest

from pipeline.images.fit import fit_box, map_boxes
from pipeline.images.trim import find_inside
from pipeline.phantom.camera import draw_camera
from pipeline.phantom.picture import draw_picture


def skin(width=400, height=300, seed=0, tone=1.0):
    """uint8 [height, width, 3]: bright and uneven, with a dark lesion and darker hairs across."""
    rng = np.random.default_rng(seed)
    patches = rng.normal((210, 160, 140), 8, (7, 9, 3)).astype(np.float32)
    image = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    middle = (width // 2 + 20, height // 2 - 10)
    cv2.ellipse(image, middle, (width // 6, height // 5), 30, 0, 360, (60, 30, 25), -1)
    for x in rng.integers(0, width, 12):
        cv2.line(image, (int(x), 0), (int(x) + 80, height), (20, 15, 10), 2)
    return np.clip(image * tone, 0, 255).astype(np.uint8)


def through_window(image, x, y, radius, squash=1.0, black=6):
    """The image inside an ellipse with an edge of 6 px, and nearly black outside."""
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width] + 0.5
    away = np.sqrt((columns - x) ** 2 + squash * (rows - y) ** 2)
    light = np.clip((radius - away) / 6 + 0.5, 0, 1)[..., None]
    return (image * light + black * (1 - light)).astype(np.uint8)


def corners(box):
    x0, y0, x1, y1 = box
    return np.array([[x0, y0], [x0, y1], [x1, y0], [x1, y1]])


@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize(
    ("x", "y", "radius"),
    [(200, 150, 140), (200, 150, 190), (215, 140, 180), (190, 155, 225)],
    ids=["whole circle", "cut at two sides", "off the middle", "corners"],
)
def test_a_round_window_is_cut_to_what_lies_inside(x, y, radius, square):
    box = find_inside(through_window(skin(), x, y, radius), square=square)
    away = np.hypot(*(corners(box) - (x, y)).T)
    assert away.max() <= radius, f"{box} reaches out of the window"
    assert away.max() >= 0.93 * radius, f"{box} is smaller than it needs to be"
    width, height = box[2] - box[0], box[3] - box[1]
    largest = min(300, radius * np.sqrt(2))
    assert not square or (width == pytest.approx(height) and width >= 0.9 * largest)
    assert square or width * height >= 0.81 * largest**2


def test_a_stretched_window_is_cut_too():
    squash = (4 / 3) ** 2
    image = through_window(skin(400, 400), 200, 200, 240, squash)
    x, y = (corners(find_inside(image, square=True)) - 200).T
    assert 0.9 * 240 <= np.sqrt(x**2 + squash * y**2).max() <= 240


@pytest.mark.parametrize("line", [0, 3], ids=["black to the edge", "a bright line around"])
@pytest.mark.parametrize(
    ("left", "top", "right", "bottom"), [(0, 30, 0, 40), (50, 0, 0, 0), (30, 20, 40, 25)]
)
def test_bars_are_cut_at_their_edges(left, top, right, bottom, line):
    image = skin(400 - left - right, 300 - top - bottom)
    framed = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=3)
    if line:
        cv2.rectangle(framed, (0, 0), (399, 299), (200, 200, 200), line)
    box = find_inside(framed, square=False)
    np.testing.assert_allclose(box, (left, top, 400 - right, 300 - bottom), atol=2 * 400 / 128)


def test_gray_images_are_trimmed_as_well():
    image = cv2.cvtColor(through_window(skin(), 200, 150, 160), cv2.COLOR_RGB2GRAY)
    assert find_inside(image, square=True) is not None


@pytest.mark.parametrize("tone", [1.0, 0.5, 0.25], ids=["light", "brown", "dark"])
@pytest.mark.parametrize("seed", range(5))
def test_skin_without_a_frame_is_left_alone(seed, tone):
    assert find_inside(skin(seed=seed, tone=tone), square=True) is None


def dark_lesion_at_the_border(image):
    cv2.circle(image, (0, 60), 130, (30, 15, 12), -1)


def dark_lesion_over_all(image):
    cv2.circle(image, (200, 150), 150, (40, 20, 15), -1)


def shadow_along_a_side(image):
    image[:] = image * np.linspace(0.05, 1, image.shape[1])[None, :, None]


def background_behind_a_limb(image):
    image[np.arange(300)[:, None] > 190 + 60 * np.sin(np.arange(400) / 70)] = 4


def ruler_and_marker(image):
    image[-40:, ::4], image[:50, :60] = 5, 5


def light_falling_off(image):
    rows, columns = np.mgrid[:300, :400]
    image[:] = image * (1 - 0.6 * np.hypot((columns - 200) / 250, (rows - 150) / 250))[..., None]


@pytest.mark.parametrize(
    "draw",
    [
        dark_lesion_at_the_border,
        dark_lesion_over_all,
        shadow_along_a_side,
        background_behind_a_limb,
        ruler_and_marker,
        light_falling_off,
    ],
)
def test_what_is_dark_but_no_frame_is_left_alone(draw):
    image = skin()
    draw(image)
    assert find_inside(image, square=True) is None


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("shape", [(200, 300, 3), (200, 300), (10, 900, 3), (1, 1, 3)])
def test_a_flat_or_tiny_image_is_left_alone(shape, value):
    assert find_inside(np.full(shape, value, np.uint8), square=True) is None


def test_a_trimmed_part_is_what_is_fitted_and_what_boxes_follow():
    fitted = fit_box(400, 300, 100, "crop", (100, 50, 300, 250))
    assert fitted.crop == (100, 50, 300, 250)
    mapped = map_boxes(np.float32([[150, 100, 200, 150], [0, 0, 90, 40]]), fitted)
    np.testing.assert_allclose(mapped, [[25, 25, 50, 50], [0, 0, 0, 0]])


@pytest.mark.slow
def test_phantoms_with_a_window_are_trimmed_and_no_others():
    sizes, seen = ((640, 480), (600, 800)), {"trimmed": [], "left": []}
    for number in range(150):
        camera = draw_camera(np.random.default_rng([5, 2, number]), sizes)
        image = draw_picture(seed=5, number=number, patient=number, malignant=False, sizes=sizes)
        trimmed = find_inside(image, square=True) is not None
        seen["trimmed" if trimmed else "left"].append(camera.vignette)
    assert len(seen["trimmed"]) > 15
    assert None not in seen["trimmed"]
    # A wider one darkens the very tips of the corners alone.
    assert not [radius for radius in seen["left"] if radius is not None and radius < 0.9]
