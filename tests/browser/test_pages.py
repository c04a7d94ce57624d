"""What a reader meets: pages that draw, fit, follow the legend, go dark and print."""

import re

import pytest

PAGES = ["study", "hostile", "empty", "diagnosis", "plan", "resnet", "ledger"]

DRAWN = """[...document.querySelectorAll('[data-figure]')].filter(e => e.clientWidth)
  .every(e => e.querySelector('.main-svg'))"""
OUTSIDE = """[...document.querySelectorAll('body *')].filter(e => {
    const box = e.getBoundingClientRect();
    const scrolls = e.closest('.legend, .picture, .wide, .skip, thead, svg');
    return box.width && box.right > innerWidth + 1 && !scrolls
  }).map(e => e.outerHTML.slice(0, 120))"""
FIGURES = "[...document.querySelectorAll('[data-figure]')].filter(e => e.clientWidth)"


@pytest.fixture
def study(page, files):
    page.open(files["study"])
    page.wait_for(DRAWN)
    return page


def click(page, selector):
    page.run(f"document.querySelector({selector!r}).click()")


def recipes_drawn(page):
    """Figure id -> the recipes of which something is drawn in it."""
    found = page.run(
        f"{FIGURES}.map(e => [e.id, e.data.filter(t => t.visible).map(t => t.meta.recipe)])"
    )
    return {figure: set(recipes) for figure, recipes in found}


@pytest.mark.parametrize("name", PAGES)
def test_draws_and_fits_without_a_message_or_a_request(page, files, name):
    page.emulate(dark=name in {"hostile", "resnet"})
    page.open(files[name])
    for width in (1280, 768, 375):
        page.resize(width, 800)
        page.wait_for(DRAWN)
        page.wait_for(f"{FIGURES}.every(e => e.layout.width <= e.clientWidth)")
        assert page.run(OUTSIDE) == []
        assert page.run("document.documentElement.scrollWidth") <= width
    assert page.messages == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []


def test_every_figure_has_lines_with_finite_places(study):
    for figure, count in study.run(
        f"{FIGURES}.map(e => [e.id, e.querySelectorAll('.plot path').length])"
    ):
        assert count > 0, figure
    assert "NaN" not in study.run(
        "[...document.querySelectorAll('.main-svg')].map(e => e.innerHTML).join()"
    )


def test_legend_takes_a_recipe_from_every_figure_and_back(study):
    before = recipes_drawn(study)
    assert sum("torch" in recipes for recipes in before.values()) >= 7
    click(study, '[data-recipe="torch"]')
    without = recipes_drawn(study)
    assert not any("torch" in recipes for recipes in without.values())
    assert all("kaiming_normal" in without[f] for f in without if "kaiming_normal" in before[f])
    assert (
        study.run("document.querySelector('[data-recipe=torch]').getAttribute('aria-pressed')")
        == "false"
    )
    assert study.run(
        "[...document.querySelectorAll('[data-card=torch]')].every(e => e.clientWidth === 0)"
    )
    click(study, '[data-recipe="torch"]')
    assert recipes_drawn(study) == before


def test_legend_holds_on_the_other_tab(study):
    click(study, '[data-recipe="torch"]')
    click(study, "#tab-1")
    study.wait_for(DRAWN)
    shown = recipes_drawn(study)
    assert shown
    assert all(figure.startswith("m1-") for figure in shown)
    assert not any("torch" in recipes for recipes in shown.values())


def test_none_and_all(study):
    before = recipes_drawn(study)
    click(study, '[data-all=""]')
    assert not any(recipes_drawn(study).values())
    click(study, '[data-all="true"]')
    assert recipes_drawn(study) == before


def test_tabs_work_from_the_keyboard(study):
    study.run("document.getElementById('tab-0').focus()")
    study.run(
        "document.activeElement.dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))"
    )
    assert study.run("document.activeElement.id") == "tab-1"
    assert study.run("document.getElementById('panel-0').hidden")
    assert not study.run("document.getElementById('panel-1').hidden")


def test_the_layer_chosen_changes_all_its_figures(study):
    figure = "document.getElementById('m0-weight_histograms-1')"
    first = study.run(f"{figure}.data[0].y")
    study.run(
        """(() => { const s = document.querySelector('[data-chooses*=weight_histograms]');
           s.value = '10.weight'; s.dispatchEvent(new Event('change')) })()"""
    )
    assert study.run(f"{figure}.data[0].y") != first
    assert study.run(
        "document.querySelector('[data-note=\"m0-weight_histograms-1\"]').textContent"
    ).startswith("std")


def test_the_loss_can_be_seen_on_a_linear_scale(study):
    figure = "document.getElementById('m0-loss_curves').layout.yaxis.type"
    assert study.run(figure) == "log"
    click(study, '[data-scale="m0-loss_curves"]')
    assert study.run(figure) == "linear"


def test_dark_mode_turns_page_and_figures(study):
    ink = "document.getElementById('m0-loss_curves').layout.font.color"
    line = "document.getElementById('m0-loss_curves').data.find(t => !t.fill).line.color"
    paper = "getComputedStyle(document.body).backgroundColor"
    light = [study.run(x) for x in (ink, line, paper)]
    study.emulate(dark=True)
    study.wait_for(f"{ink} !== {light[0]!r}")
    dark = [study.run(x) for x in (ink, line, paper)]
    assert all(one != other for one, other in zip(light, dark, strict=True))

    def brightness(colour):
        return sum(map(int, re.findall(r"\d+", colour)))

    assert brightness(light[2]) > 700 > 200 > brightness(dark[2])


def test_prints_light_with_every_model_and_finding(study, tmp_path):
    study.emulate(dark=True)
    study.run("dispatchEvent(new Event('beforeprint'))")
    drawn = study.run("[...document.querySelectorAll('[data-figure]')].every(e => e.data)")
    assert drawn
    assert study.run("[...document.querySelectorAll('details')].every(e => e.open)")
    assert study.run("document.getElementById('m1-loss_curves').layout.font.color") == "#2a3038"
    study.run("dispatchEvent(new Event('afterprint'))")
    assert study.run("document.getElementById('m0-loss_curves').layout.font.color") == "#dfe4ea"
    study.pdf(tmp_path / "study.pdf")
    assert (tmp_path / "study.pdf").stat().st_size > 100_000


def test_the_command_is_copied_or_selected(study):
    click(study, "[data-copies]")
    study.wait_for("/Copied|Selected/.test(document.querySelector('[data-copies]').textContent)")


def test_a_block_of_the_plan_shows_its_details(page, files):
    page.open(files["plan"])
    name = """[...document.querySelectorAll('[data-details]')].filter(e => !e.hidden)
        .map(e => e.textContent)"""
    assert "wte" in page.run(name)[0]
    page.run("document.querySelectorAll('[data-box]')[3].dispatchEvent(new MouseEvent('click'))")
    (text,) = page.run(name)
    assert "h.0.attn.qkv" in text
    assert "and 11 alike" in text
    page.run(
        "document.querySelectorAll('[data-box]')[0].dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'Enter'}))"
    )
    assert "wte" in page.run(name)[0]


def test_text_of_the_picture_stays_in_its_box(page, files):
    for name in ("plan", "resnet"):
        page.open(files[name])
        wide = page.run(
            """[...document.querySelectorAll('.box text')].filter(t => {
                 const room = t.parentNode.querySelector('.body').getBBox().width;
                 return t.getBBox().x + t.getBBox().width > room }).map(t => t.textContent)"""
        )
        assert wide == []


@pytest.mark.parametrize("name", PAGES)
def test_readable_without_a_script(page, files, name):
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(files[name])
    finally:
        page.send("Emulation.setScriptExecutionDisabled", value=False)
    assert len(page.run("document.body.innerText")) > 100
    assert page.messages == []


def test_hostile_names_run_nothing(page, files):
    page.open(files["hostile"])
    page.wait_for(DRAWN)
    assert page.run("document.scripts.length") == 3
    assert "<script>alert(1)</script>" in page.run("document.body.innerText")
    # In figures too: the recipe's name stands on an axis.
    labels = page.run("[...document.querySelectorAll('.ytick text')].map(e => e.textContent)")
    assert "<script>alert(1)</script>" in labels
