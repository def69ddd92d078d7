"""The grammar: what is rendered is read back, whatever the names and actions; what people write is read too."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mimix_ray.prompts import Caption, CharacterAction, PromptError, check, load_prompts, parse, render
from mimix_ray.universe import load_universe

TOM, JERRY = (
    CharacterAction("Tom", "chases Jerry across the kitchen"),
    CharacterAction("Jerry", "slips under the fridge"),
)
CHASE = Caption((TOM, JERRY), "a kitchen", "cartoon")
MINIATURE = load_universe("configs/universes/miniature.yaml")


@pytest.mark.parametrize(
    ("format", "text"),
    [
        (
            "full",
            "[Character: Tom], chases Jerry across the kitchen. [Character: Jerry], slips under the fridge. "
            "[scene-style:cartoon]",
        ),
        (
            "no_scene_style",
            "[Character: Tom], chases Jerry across the kitchen. [Character: Jerry], slips under the fridge.",
        ),
        ("no_character", "Tom chases Jerry across the kitchen. Jerry slips under the fridge. [scene-style:cartoon]"),
        ("plain", "Tom chases Jerry across the kitchen. Jerry slips under the fridge."),
    ],
)
def test_the_four_formats_of_table_2(format, text):
    assert render(CHASE, format) == text


def test_an_unknown_format():
    with pytest.raises(PromptError, match="'fancy' is not one of full, no_scene_style, no_character, plain"):
        render(CHASE, "fancy")


def test_the_setting_is_told_where_no_character_is():
    empty = Caption((), "a kitchen at night", "cartoon")
    assert render(empty) == "a kitchen at night. [scene-style:cartoon]"
    assert render(empty, "plain") == "a kitchen at night."
    assert parse(render(empty)) == empty


names = st.one_of(
    st.sampled_from(["Mr. Bean", "Zoë", "Пух", "熊猫", "O'Neil: Jr.", "Dr. A. B. Čapek, esq.", "🐻 Ice Bear"]),
    st.text(min_size=1).filter(lambda name: name.strip() and not set(name) & set("[]")),
)
fragments = st.one_of(
    st.text(),
    st.sampled_from(
        [
            "[Character: Tom]",
            "[scene-style:cartoon]",
            "[ CHARACTER",
            "[laughs]",
            "\\",
            "\\[character:",
            "...",
            "!",
            '"',
            " ",
            ",",
        ]
    ),
)
actions = st.lists(fragments, min_size=1, max_size=6).map("".join)


def made(kind, *values):
    """The value, or None where nothing is left of a name or an action once it is cleaned."""
    try:
        return kind(*values)
    except PromptError:
        return None


characters = st.builds(lambda name, action: made(CharacterAction, name, action), names, actions).filter(bool)
styles = st.sampled_from([None, "cartoon", "realistic"])


@given(st.lists(characters, min_size=1, max_size=8), styles)
@example([CharacterAction("Tom", r"says \[character: X], and \\[Character: Y] [Character: Z]")], "realistic")
@example([CharacterAction("Tom", 'reads "[scene-style:cartoon]." and says "no!"')], None)
def test_whatever_is_rendered_is_read_back(cast, style):
    caption = Caption(tuple(cast), None, style)
    assert parse(render(caption)) == caption
    assert parse(render(caption, "no_scene_style")) == Caption(tuple(cast))
    assert Caption.from_rows(caption.rows(), None, style) == caption


@given(actions, styles)
def test_a_setting_alone_is_read_back(setting, style):
    caption = Caption((), setting, style)
    if render(caption):
        assert parse(render(caption)) == caption


@given(st.text() | actions)
def test_any_text_is_a_caption_or_a_prompt_error(text):
    try:
        caption = parse(text)
    except PromptError as error:
        assert "\n" not in str(error)
    else:
        again = Caption(caption.characters, None if caption.characters else caption.setting, caption.scene_style)
        assert parse(render(caption)) == again


@pytest.mark.parametrize(
    "text",
    [
        "[character: Tom] chases Jerry across the kitchen. [character: Jerry] slips under the fridge. "
        "[scene-style: Cartoon]",
        "[Character:Tom],chases Jerry\nacross  the kitchen.[Character: Jerry ], slips under the fridge "
        "[scene-style:cartoon]",
        "[scene-style:cartoon] [CHARACTER: Tom], chases Jerry across the kitchen. "
        "[Character: Jerry] slips under the fridge.",
    ],
)
def test_the_looser_forms_that_people_write(text):
    assert parse(text) == Caption((TOM, JERRY), None, "cartoon")


def test_text_before_the_first_character_is_the_setting():
    assert parse("A kitchen at night. [character: Tom] yawns!") == Caption(
        (CharacterAction("Tom", "yawns!"),), "A kitchen at night", None
    )
    assert parse("Tom chases Jerry.") == Caption((), "Tom chases Jerry", None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the text is empty"),
        (" \n\t", "the text is empty"),
        ("[Character Tom], hops.", r"the tag at character 1, '\[Character Tom\], hops\.', is not whole"),
        ("[Character: Pip], hops. [character: Tom hops.", "the tag at character 25"),
        ("[Character: Tom [big]], hops.", "the tag at character 1"),
        ("[Character: ], hops.", "'' is no name"),
        ("[Character: Tom]", "'Tom' does nothing"),
        ("[Character: Tom], . [Character: Jerry], hops.", "'Tom' does nothing"),
        ("[Character: Tom], hops. [scene-style:anime]", "scene style 'anime' is not one of cartoon, realistic"),
        ("[scene-style:cartoon] Tom hops. [scene-style:realistic]", "'Tom hops.' comes after the style tag"),
        ("Tom. [scene-style:cartoon] [scene-style:realistic]", "two scene styles, 'cartoon' and 'realistic'"),
    ],
)
def test_text_that_is_no_caption(text, says):
    with pytest.raises(PromptError, match=says):
        parse(text)


def test_aliases_become_names():
    given = parse("[character: mr plum] tips his hat. [character: The Cat] stretches. [character: PIP] hops.")
    assert check(given, MINIATURE).names == ("Mr. Plum", "Momo", "Pip")


def test_an_unknown_name_in_a_prompt():
    with pytest.raises(PromptError, match=r"unknown character 'Mono'; did you mean 'Momo'\? known: Pip, Momo"):
        check(parse("[Character: Mono], hops."), MINIATURE)


@pytest.mark.parametrize("name", ["mimix", "miniature"])
def test_the_prompt_files_that_come_with_the_project(name):
    universe = load_universe(f"configs/universes/{name}.yaml")
    prompts = load_prompts(f"configs/prompts/{name}.yaml", universe)
    assert len({prompt.id for prompt in prompts}) == len(prompts) >= 6
    assert all(set(prompt.caption.names) <= set(universe.names) for prompt in prompts)
    mixed = [p for p in prompts if len({universe.character(name).show for name in p.caption.names}) > 1]
    assert len(mixed) >= 4
    for prompt in prompts:
        assert parse(render(prompt.caption)) == prompt.caption


GOOD = "- id: one\n  characters: [{name: pip, action: hops}]\n  scene_style: cartoon\n"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (GOOD + GOOD, 4, "prompt 'one': the id occurs twice"),
        (GOOD.replace("pip", "Pup"), 2, "prompt 'one': unknown character 'Pup'; did you mean 'Pip'"),
        (GOOD.replace("hops", "'.'"), 2, "prompt 'one': 'pip' does nothing"),
        (GOOD.replace("cartoon", "noir"), 3, r"\[0\]\.scene_style: Input should be 'cartoon' or 'realistic'"),
        (GOOD.replace(", action: hops", ""), 2, r"\[0\]\.characters\[0\]\.action: is missing"),
        (GOOD.replace("scene_style", "style"), 3, r"\[0\]\.style: unknown key; did you mean 'scene_style'"),
        ("- id: one\n", 1, "prompt 'one': says nothing"),
        ("- id: a/b\n  setting: x\n", 1, r"\[0\]\.id: "),
    ],
)
def test_an_error_in_a_prompt_file_names_file_and_line(tmp_path, text, line, says):
    path = tmp_path / "prompts.yaml"
    path.write_text(text)
    with pytest.raises(PromptError, match=says) as error:
        load_prompts(path, MINIATURE)
    assert str(error.value).startswith(f"{path}:{line}: ")


def test_a_prompt_file_gives_captions_with_canonical_names(tmp_path):
    path = tmp_path / "prompts.yaml"
    path.write_text(GOOD + "  source: ours\n")
    [prompt] = load_prompts(path, MINIATURE)
    assert (prompt.id, prompt.source, render(prompt.caption)) == (
        "one",
        "ours",
        "[Character: Pip], hops. [scene-style:cartoon]",
    )
    path.write_text("[]")
    with pytest.raises(PromptError, match="has no prompts"):
        load_prompts(path, MINIATURE)
