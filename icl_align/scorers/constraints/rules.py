"""All rules by the names of their kinds."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from icl_align.scorers.constraints.counting import (
    existence,
    forbidden_words,
    frequency,
    letter_frequency,
    nth_paragraph_first_word,
    number_paragraphs,
    number_sentences,
    number_words,
)
from icl_align.scorers.constraints.language import (
    capital_word_frequency,
    english_capital,
    english_lowercase,
    response_language,
)
from icl_align.scorers.constraints.shape import (
    constrained_response,
    end_checker,
    json_format,
    multiple_sections,
    no_comma,
    number_bullet_lists,
    number_highlighted_sections,
    number_placeholders,
    postscript,
    quotation,
    repeat_prompt,
    title,
    two_responses,
)
from icl_align.scorers.constraints.targets import (
    flexible_match,
    keywords,
    keywords_avoided,
    length,
    level,
    precise_match,
    word_target,
)
from icl_align.scorers.constraints.values import Rule

IFEVAL: Mapping[str, Rule] = MappingProxyType(
    {
        "keywords:existence": existence,
        "keywords:frequency": frequency,
        "keywords:forbidden_words": forbidden_words,
        "keywords:letter_frequency": letter_frequency,
        "language:response_language": response_language,
        "length_constraints:number_sentences": number_sentences,
        "length_constraints:number_paragraphs": number_paragraphs,
        "length_constraints:number_words": number_words,
        "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
        "detectable_content:number_placeholders": number_placeholders,
        "detectable_content:postscript": postscript,
        "detectable_format:number_bullet_lists": number_bullet_lists,
        "detectable_format:constrained_response": constrained_response,
        "detectable_format:number_highlighted_sections": number_highlighted_sections,
        "detectable_format:multiple_sections": multiple_sections,
        "detectable_format:json_format": json_format,
        "detectable_format:title": title,
        "combination:two_responses": two_responses,
        "combination:repeat_prompt": repeat_prompt,
        "startend:end_checker": end_checker,
        "startend:quotation": quotation,
        "change_case:capital_word_frequency": capital_word_frequency,
        "change_case:english_capital": english_capital,
        "change_case:english_lowercase": english_lowercase,
        "punctuation:no_comma": no_comma,
    }
)
"""IFEval's 25 kinds (Zhou et al. 2023, 2311.07911, table 1), under its own names."""

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **IFEVAL,
        "ruler:precise_match": precise_match,
        "ruler:flexible_match": flexible_match,
        "ruler:level": level,
        "ruler:word_target": word_target,
        "codi:length": length,
        "codi:keywords": keywords,
        "codi:keywords_avoided": keywords_avoided,
    }
)
"""Every rule by the name of its kind; a rule's docstring tells its values, in order."""
