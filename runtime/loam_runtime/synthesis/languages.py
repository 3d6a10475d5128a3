"""What filters and prompts know of the languages of ISO 639-1: their names, and their capitals."""

from __future__ import annotations

_TABLE = """
af:Afrikaans am:Amharic an:Aragonese ar:Arabic as:Assamese az:Azerbaijani be:Belarusian
bg:Bulgarian bn:Bengali br:Breton bs:Bosnian ca:Catalan cs:Czech cy:Welsh da:Danish de:German
dz:Dzongkha el:Greek en:English eo:Esperanto es:Spanish et:Estonian eu:Basque fa:Persian
fi:Finnish fo:Faroese fr:French ga:Irish gl:Galician gu:Gujarati he:Hebrew hi:Hindi hr:Croatian
hu:Hungarian hy:Armenian id:Indonesian is:Icelandic it:Italian ja:Japanese jv:Javanese
ka:Georgian kk:Kazakh km:Khmer kn:Kannada ko:Korean ku:Kurdish ky:Kyrgyz la:Latin
lb:Luxembourgish lo:Lao lt:Lithuanian lv:Latvian mg:Malagasy mk:Macedonian ml:Malayalam
mn:Mongolian mr:Marathi ms:Malay mt:Maltese ne:Nepali nl:Dutch no:Norwegian oc:Occitan or:Odia
pa:Punjabi pl:Polish ps:Pashto pt:Portuguese qu:Quechua ro:Romanian ru:Russian rw:Kinyarwanda
se:Sami si:Sinhala sk:Slovak sl:Slovenian sq:Albanian sr:Serbian sv:Swedish sw:Swahili ta:Tamil
te:Telugu th:Thai tl:Tagalog tr:Turkish ug:Uyghur uk:Ukrainian ur:Urdu vi:Vietnamese vo:Volapük
wa:Walloon xh:Xhosa zh:Chinese zu:Zulu
"""
# Whose nouns begin with a capital letter, so that one says nothing of a name.
CAPITALISE_NOUNS = frozenset({"de", "lb"})
NAMES = dict(pair.split(":") for pair in _TABLE.split())


def name_language(code: str) -> str:
    """The English name; of a code that is not listed, the code with what it is."""
    return NAMES.get(code, f'the language with the ISO 639-1 code "{code}"')
