"""The escapes of exports, for any text: each target's reader gives back what was written."""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_align.errors import UserError
from icl_align.export import load_exporter
from icl_align.export._modelfile import read_modelfile, run_template
from icl_align.export.files import jinja_literal
from icl_align.export.lm_eval import yaml_value
from icl_align.export.ollama import go_literal
from icl_align.export.text import doubled
from icl_align.pack import Pack
from icl_align.prompt import FORMATS, Prompt
from icl_align.types import Example, Turn

SIGNS = st.text(alphabet=st.sampled_from('{}%#"\\\n\r\t -a`$\x00\u200d\U0001f600'), max_size=30)
TEXTS = st.one_of(SIGNS, st.text(max_size=30))


@given(TEXTS)
def test_jinja_gives_a_literal_back(text: str) -> None:
    """No sign of a text is read as a template, nor its line ends changed."""
    assert jinja2.Environment(autoescape=False).from_string(jinja_literal(text)).render() == text


@given(TEXTS)
def test_yaml_gives_a_value_back(text: str) -> None:
    """Line separators, controls and characters beyond the first plane survive."""
    yaml = import_module("yaml")
    assert yaml.safe_load(yaml_value({text: [text, 1, 0.5, True]})) == {text: [text, 1, 0.5, True]}


@given(TEXTS)
def test_format_gives_braces_back(text: str) -> None:
    """Doubled braces are single after str.format, and a query's are not looked at."""
    assert (doubled(text) + "{query}").format(query=text) == text + text


@given(TEXTS, TEXTS, TEXTS)
def test_a_modelfile_gives_a_template_back(head: str, close: str, said: str) -> None:
    """By Ollama's rules for the file and Go's for the template."""
    loop = "{{ range $m := .Messages }}" + '{{ if eq $m.Role "user" }}{{ $m.Content }}'
    loop += '{{ else if eq $m.Role "assistant" }}' + go_literal(close) + "{{ end }}{{ end }}"
    file = f'FROM x\nTEMPLATE """{go_literal(head, first=True)}{loop}"""\nPARAMETER seed 1\n'
    found = read_modelfile(file)
    assert found["seed"] == ["1"]
    messages = [("user", said), ("assistant", "")]
    assert run_template(found["template"][0], messages) == head + said + close


def test_modelfiles_are_read_by_ollamas_rules() -> None:
    """Characters that Go cannot print are dropped from values, and a text ends at three quotes."""
    found = read_modelfile('# c\nFROM  x \nTEMPLATE """a\u200db\x1b\u00a0\n"c""" \n')
    assert found == {"from": ["x"], "template": ['ab\n"c']}
    for broken in ('TEMPLATE """x"""', 'FROM x\nTEMPLATE """x', "FROM x\n!y z"):
        with pytest.raises(ValueError, match=r"no FROM line|unexpected end|no command"):
            read_modelfile(broken)
    for template in ("{{ .Prompt }}", "{{ range $m := .Messages }}{{ evil }}{{ end }}"):
        with pytest.raises(ValueError, match=r"does not range|unpack"):
            run_template(template, [("user", "q")])


@pytest.mark.parametrize("name", ["json", "text", "openai", "ollama", "promptfoo", "urial"])
@given(system=TEXTS, asked=TEXTS, answered=TEXTS, said=TEXTS, form=st.sampled_from([*FORMATS]))
def test_any_pack_is_sent_as_it_is_or_refused(
    name: str, system: str, asked: str, answered: str, said: str, form: str
) -> None:
    """Byte equality for any texts; a refusal says what cannot be carried and leaves no file."""
    pack = Pack(Prompt(system, (Example(asked, answered),), FORMATS[form]))
    exporter = load_exporter(name)
    turns = () if name == "text" else (Turn(said, answered),)
    item = Example(said, turns=turns)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / exporter.suffix
        refused = ""
        try:
            exporter.write(pack, place)
        except UserError as error:
            refused = str(error)
        if refused:
            assert name == "urial" and "cannot carry" in refused
            assert not list(Path(folder).iterdir())
        else:
            assert exporter.render(place, [item]) == [pack.prompt.render(item)]
