"""The page of kernels and blocks without a browser."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from explorer.experiments.kernels import CASES, Lab
from helpers import PHONE, captions, click, deltas, figures, link, opened, page_text, run, said, select, tab, texts

STACKS, BLOCK, POINTWISE = "Kernel stacks", "The block", "The 1×1 convolution"


def kernels(part: str = STACKS, /, **query: str) -> AppTest:
    """The page as a link opens it, at one of its parts."""
    app = opened("kernels", **query)
    if part != STACKS:
        tab(app, part)
    return app


def frame(app: AppTest, column: str) -> list[str]:
    """The cells of a column, of the first table that has it."""
    return next(list(table.value[column]) for table in app.dataframe if column in table.value)


# -- kernel stacks ------------------------------------------------------------------------


def test_the_page_answers_before_anything_is_set():
    app = kernels()
    assert figures(app) == {"Field": "7 px", "Weights": "110,592", "MACs": "346.82 M", "Non-linearities": "3"}
    assert deltas(app) == ["±0", "-90,112", "-282.59 M", "+2"]
    assert "27C² against 49C² at C = 64 channels: 110,592 against 200,704" in page_text(app)
    assert "does not hold here" not in page_text(app)
    assert "up to 98 channels between" in captions(app)
    assert "lab" not in link(app)


def test_the_stem_is_one_choice_away_and_in_the_table():
    app = kernels()
    row = frame(app, "Case").index("As a stem: 32, 32, 64")
    assert frame(app, "Field")[row] == "11 px against 7"
    select(app, "lab case", "As a stem: 32, 32, 64")
    assert figures(app) == {"Field": "11 px", "Weights": "28,512", "MACs": "357.65 M", "Non-linearities": "3"}
    assert link(app)["lab"] == CASES["As a stem: 32, 32, 64"].to_text()
    assert page_text(app).count("does not hold here") == 3


def test_settings_go_into_the_link_and_come_out_of_it():
    app = kernels()
    select(app, "lab count", 2)
    select(app, "lab single", 5)
    assert app.selectbox(key="lab case").value == "Two 3×3, one 5×5"
    select(app, "lab between", "80")
    assert app.selectbox(key="lab case").value is None
    again = kernels(lab=link(app)["lab"])
    assert figures(again) == figures(app)
    assert again.text_input(key="lab between").value == "80"


@pytest.mark.parametrize("typed", ["0", "2049", "many", "", "6.5"])
def test_a_number_that_is_not_accepted_gets_a_sentence_and_stays_to_be_mended(typed):
    app = kernels()
    before = figures(app)
    select(app, "lab between", typed)
    (words,) = said(app.warning)
    assert words.startswith(f"Between = {typed or '(empty)'} is not accepted: ")
    assert "1 to 2048" in words
    assert "unchanged" in words
    assert figures(app) == before
    assert app.text_input(key="lab between").value == typed
    select(app, "lab between", "32")
    assert not app.warning


def test_a_map_too_small_without_padding_gets_a_sentence():
    app = kernels(lab="x8_K7_n4")
    select(app, "lab padding", "none")
    (words,) = said(app.warning)
    assert "at least 9 pixels without padding" in words
    assert app.segmented_control(key="lab padding").value == "same"


@pytest.mark.parametrize("lab", ["n99", "<b>", "i-1", "w1.1"])
def test_a_link_with_mistakes_shows_the_defaults_and_says_so(lab):
    app = kernels(lab=lab)
    (words,) = said(app.warning)
    assert "is not accepted" in words
    assert "The defaults are shown instead." in words
    assert figures(app)["Weights"] == "110,592"
    select(app, "lab kernel", 5)
    assert not app.warning
    assert link(app)["lab"] == "kernel-5"


def test_one_convolution_has_no_width_between():
    app = kernels(lab="n1")
    assert "between, the stack" not in captions(app)
    assert figures(app)["Field"] == "3 px"


# -- the block ----------------------------------------------------------------------------


def test_the_block_says_why_the_bottleneck_exists():
    app = kernels(BLOCK)
    assert "16.9 times fewer weights at 256 channels" in page_text(app)
    assert "3·3·256·256 + 3·3·256·256 = **1,179,648**" in " ".join(texts(app))
    assert "1·1·256·64 + 3·3·64·64 + 1·1·64·256 = **69,632**" in " ".join(texts(app))
    for table, total in zip(app.dataframe, (1_180_672, 70_400, 1_180_672), strict=True):
        numbers = [int(cell.rpartition(" = ")[2].replace(",", "")) for cell in table.value["Parameters"] if "=" in cell]
        assert sum(numbers) == total


def test_another_width():
    app = kernels(BLOCK)
    select(app, "lab width", "64")
    assert "1·1·64·16 + 3·3·16·16 + 1·1·16·64 = **4,352**" in " ".join(texts(app))
    assert link(app)["lab"] == "width-64"
    select(app, "lab width", "66")
    assert "a multiple of 4" in said(app.warning)[0]


def test_the_first_block_of_a_stage():
    app = kernels(BLOCK)
    select(app, "lab entry", "B")
    assert link(app)["lab"] == "entry-B"
    assert "3·3·256·512 + 3·3·512·512 + 1·1·256·512 = **3,670,016**" in " ".join(texts(app))
    assert "the shortcut has 131,072, or 4%, in the basic block and 131,072, or 35%, in the bottleneck" in " ".join(
        texts(app)
    )
    for table, total in zip(app.dataframe, (3_673_088, 379_392, 3_540_992), strict=True):
        numbers = [int(cell.rpartition(" = ")[2].replace(",", "")) for cell in table.value["Parameters"] if "=" in cell]
        assert sum(numbers) == total
    select(app, "lab entry", "A")
    assert "The shortcut has none of them" in " ".join(texts(app))


# -- the 1×1 convolution ------------------------------------------------------------------


def test_products_are_written_out():
    app = kernels(POINTWISE)
    assert "Output 1: 1·2 + 0·3 + (−1)·1 = 2 + 0 + (−1) = **1**" in texts(app)
    app.number_input(key="lab weights 2").set_value(4)
    run(app)
    assert "Output 1: 1·2 + 0·3 + 4·1 = 2 + 0 + 4 = **6**" in texts(app)
    app.number_input(key="lab pixel 1").set_value(-3)
    run(app)
    assert "Output 2: 2·2 + 1·(−3) + 1·1 = 4 + (−3) + 1 = **2**" in texts(app)
    assert Lab.from_text(link(app)["lab"]) == Lab(weights=(1, 0, 4, 2, 1, 1), pixel=(2, -3, 1))


def test_an_empty_number_is_the_one_that_was_there():
    app = kernels(POINTWISE)
    app.number_input(key="lab pixel 1").set_value(None)
    run(app)
    assert app.number_input(key="lab pixel 1").value == 3
    assert "lab" not in link(app)
    assert not app.warning


def test_sum_and_copy_is_one_matrix_of_many():
    app = kernels(POINTWISE)
    assert "Only a matrix of ones does that." in captions(app)
    click(app, "Sum and copy")
    assert "Output 2: 1·2 + 1·3 + 1·1 = 2 + 3 + 1 = **6**" in texts(app)
    assert "That is what this matrix does" in captions(app)


def test_other_parts_keep_their_settings():
    app = kernels(POINTWISE, lab="c64_m32")
    click(app, "Differences")
    tab(app, STACKS)
    select(app, "lab case", "Equal width, stride 2")
    assert Lab.from_text(link(app)["lab"]) == Lab(stride=2, width=64, weights=(1, -1, 0, 0, 1, -1))


# -- in a browser -------------------------------------------------------------------------


@pytest.mark.browser
def test_a_number_is_changed_alone(visit):
    visit.open("/kernels?tab=The+1×1+convolution")
    number = visit.page.get_by_label("pixel, in 2")
    number.fill("5")
    number.press("Enter")
    visit.wait()
    assert "lab=pixel-2.5.1&" in visit.page.url
    number.fill("")
    number.press("Enter")
    visit.wait()
    assert number.input_value() == "5"
    assert "lab=pixel-2.5.1&" in visit.page.url


@pytest.mark.browser
@pytest.mark.parametrize("visit", [PHONE], indirect=True, ids=["narrow"])
def test_no_part_overflows_a_phone(visit):
    visit.open("/kernels?lab=n6_s4_k7_i3_m32_x224")
    for name in (STACKS, BLOCK, POINTWISE):
        visit.page.get_by_role("tab", name=name).click()
        visit.wait()
        assert visit.fits(), name


@pytest.mark.browser
def test_a_layer_of_a_block_is_chosen_in_its_drawing(visit):
    visit.open("/kernels")
    visit.page.get_by_role("tab", name=BLOCK).click()
    visit.wait()
    layer = visit.page.locator(".st-key-bottleneck-block [data-id='layer1.0.conv2']")
    layer.click()
    visit.wait()
    assert layer.get_attribute("aria-pressed") == "true"
    assert visit.page.locator("[data-id='layer1.0.conv2'][aria-pressed=true]").count() == 1
