"""Words of a caption as the official toolkit's tokeniser gives them: Penn Treebank's, lower case, no punctuation.

The toolkit (pycocoevalcap 1.2) calls Stanford CoreNLP 3.4.1 in Java; these are its rules for what captions hold, so
that scores need no Java. At each place the longest of all patterns counts, of equally long ones the first; what a
pattern looks ahead at counts as well.

Source: Penn Treebank tokenisation; the tokeniser's answers to 30,000 words and odd strings, see
tests/fuzz/compare_ptb.py.
"""

import functools
import re

# Dropped after tokenisation. Brackets are there in capitals, and tokens are lower case: "-lrb-" stays a word.
PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)


def tokenize(text):
    """The words of a caption, a list of str; every kind of white space divides words, a line end as well.

    "5 1/2" and "(555) 123-4567" are one word each, with a no-break space inside: one for ROUGE-L, two for other scores.

    Upstream: a carriage return or a Unicode line separator inside a caption moves all later captions to the next one.
    """
    return [token for token in tokens(" ".join(text.split())) if token not in PUNCTUATION]


@functools.lru_cache(maxsize=1 << 17)  # references come again with every evaluation
def tokens(line):
    """All tokens of one line, punctuation included, as a tuple of str."""
    found, place = [], 0
    while place < len(line):
        plain = _PLAIN.match(line, place)
        if plain and plain[1].lower() not in _TWO_WORDS:
            found.append(plain[1].lower())
            place = plain.end()
            continue
        if line[place] == " ":
            place += 1
            continue
        written, place = _longest(line, place)
        found += written
    return tuple(found)


_PLAIN = re.compile(r"([A-Za-z]+)(?: |$)")  # most words are no more than this
_TWO_WORDS = {"cannot": 3, "gonna": 3, "gotta": 3, "lemme": 3, "gimme": 3, "wanna": 3}


def _longest(line, place):
    """([tokens here], where the next one begins)."""
    action, end, reach = None, place + 1, place
    for pattern, act in _RULES:
        match = pattern.match(line, place)
        if match and match.end() > reach:
            last = match.end("token") if "token" in pattern.groupindex else match.end()
            if last > place:
                action, end, reach = act, last, match.end()
    return (action(line[place:end], line[end:]) if action else []), end  # unknown signs are dropped


# ---- what becomes of the text of a token; `rest` follows it


def _same(text, rest):
    return [text.lower().replace("\u00ad", "").replace(" ", "\u00a0")]


def _cut(text, rest):
    """Two words in one: "cannot", "gonna"."""
    return [text[:3].lower(), text[3:].lower()]


def _straight(text):
    return re.sub(f"[{_APOSTROPHES}]", "'", text.lower())


def _apostrophe_word(text, rest):
    return [_straight(text)]


def _number(text, rest):
    return [_bracketed(text)]


def _bracketed(text):
    return text.lower().replace("(", "-lrb-").replace(")", "-rrb-").replace(" ", "\u00a0")


def _sign(text, rest):
    return [_SIGNS.get(text, text.lower())]


def _dashes(text, rest):
    return [text if len(text) == 1 or len(text) > 4 else "--"]


def _double_quote(text, rest):
    return ["``" if re.match("[A-Za-z0-9$]", rest) else "''"]


def _single_quote(text, rest):
    """A quotation begins where a letter and something more follow."""
    return ["`" if text == "'" and re.match(r"[A-Za-z]\S", rest) else "'"]


def _abbreviation(text, rest):
    """Its full stop ends a sentence, too, where a capital follows."""
    ends = text[:-1].lower() in _MAY_END and re.match(" +[A-Z]", rest)
    return [text.lower(), "."] if ends else [text.lower()]


def _acronym(text, rest):
    return [text.lower(), "."] if _SENTENCE.match(rest) else [text.lower()]


def _initial(text, rest):
    return [text[0].lower(), "."] if _SENTENCE.match(rest) else [text.lower()]


_APOSTROPHES = "'\u2019\u0092"
_SIGNS = {
    **dict.fromkeys("\u2013\u2014\u2015\u0096\u0097", "--"),
    **dict.fromkeys("\u201c\u00ab\u0093", "``"),
    **dict.fromkeys("\u201d\u00bb\u0094", "''"),
    **dict.fromkeys("\u2018\u201b\u2039\u0091", "`"),
    **dict.fromkeys("\u2019\u203a\u0092", "'"),
    **{"\u2026": "...", "\u0085": "...", "\u00bd": "1/2", "\u00bc": "1/4", "\u00be": "3/4"},
    **{"\u2153": "1/3", "\u2154": "2/3", "\u00a2": "cents", "\u00a3": "#", "\u20ac": "$", "\u0080": "$"},
    **{"{": "-lcb-", "}": "-rcb-", "[": "-lsb-", "]": "-rsb-", "(": "-lrb-", ")": "-rrb-"},
    **{"&amp;": "&", "&lt;": "<", "&gt;": ">", "&AMP;": "&", "&LT;": "<", "&GT;": ">"},
}

# Words whose full stop belongs to them. The tokeniser's own list, as far as its answers show it.
_KEEP_STOP = """
    adj adv alex atty attys ave brig capt cf cmdr col comdr cpl dept det dr drs ft gen gov govs hon jos lieut
    lt maj messrs mfg mlle mme mr mrs ms mt natl pfc ph pres prof profs pvt rep reps rev sen sens sgt st ste
    supt supts vs wm
"""
# The same, and the stop ends a sentence as well where a capital follows.
_MAY_END_TEXT = """
    al ala apr ariz aug bldg blvd bros calif co colo conn corp ct dak dec esq est etc ext feb fla fri ga inc
    ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn plc rd rt
    sep sept seq sq sr tel tenn thu thurs tue tues univ va vt wed wis wisc wyo
"""
_BEFORE_NUMBERS = "art ca fig figs no nos op pp prop"
_STATES = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"  # with a capital only: others are words
# What begins a sentence, so that the full stop of "U.S." ends one.
_BEGINNINGS = """
    A The In He As That It At Her She You An But This They One Their When After There What About We Then Other
    So More If Some Now While Such Many These Since However Here Last Our Once According Yet Earlier
    Additionally
"""

_MAY_END = {*_MAY_END_TEXT.split(), *_STATES.lower().split()}
_SENTENCE = re.compile(rf" +(?:{'|'.join(_BEGINNINGS.split())})(?: |$)")
_STOPPED = "|".join([*_KEEP_STOP.split(), *_MAY_END_TEXT.split()])
_CAPITAL = "|".join(name for word in _STATES.split() for name in (word, word.upper()))

_A = f"[{_APOSTROPHES}]"
_ODD = (  # signs that stay, each a token of its own; some of them are letters or numbers to Python
    r"\u00a1\u00a5-\u00a9\u00ac\u00ae-\u00b4\u00b6-\u00b9\u00bf\u00d7\u00f7\u037e\u0387\u0589\u05be\u05c0\u05c3\u05c6"
    r"\u060c\u061b\u061e\u061f\u066a\u066d\u06d4\u0700-\u070d\u0964\u0965\u0e3f\u0e4f\u2016\u2017\u201a\u201e-\u2023"
    r"\u2030-\u2038\u203b\u203e-\u2042\u2044\u2070\u2074-\u207e\u2080-\u208e\u20a4\u2100\u2101\u2103-\u2106\u2108\u2109"
    r"\u2114\u2116-\u2118\u211e-\u2123\u2125\u2127\u2129\u212e\u2155-\u215e\u2190-\u2bff\u3001\u3002\u3012\u30fb"
    r"\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0\uffe1\uffe5\uffe6"
)
_MARKS = (
    r"\u02c2-\u02df\u02e5-\u036f\u0483-\u0487\u0591-\u05bd\u064b-\u065e\u0670\u06d6-\u06dc"
    r"\u0900-\u0903\u093c-\u094e\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
)
_FRACTIONS = r"\u00bc-\u00be\u2150-\u2189"
_L = rf"(?:[^\W\d_{_ODD}{_FRACTIONS}]|[{_MARKS}])"  # letters of any script, and what is written above and below them
_W = rf"{_L}(?:{_L}|[\d\u00ad])*(?:[.!?]{_L}(?:{_L}|\d)*)*"
_DASH = r"[\-\u2010\u2011\u058a]"  # of compounds
_NAMES = "o'clock|ne'er|li'l|cap'n|nor'easter|ev'ry|s'mores|hawai'i".replace("'", _A)
_ENDINGS = (  # of file names
    "bat|bmp|c|cgi|class|cpp|dll|docx?|exe|gif|gz|h|html?|jar|java|jpe?g|mov|mp3|pdf|php|pl|png|ppt|ps|py|sql|tar|txt"
    "|wav|x|xml|zip"
)
_SHORT = r"(?:[msdMSD]|[rR][eE]|[vV][eE]|[lL][lL])"
_SUFFIX = rf"(?:'{_SHORT}(?![A-Za-z])|[\u2019\u0092]{_SHORT})"
_NOT = rf"[nN]{_A}[tT]"
_NUMBER = r"(?:\d*(?:[.:,]\d+)+|\d+)"


def _rule(pattern, action):
    return re.compile(pattern), action


_RULES = [
    # in angle brackets, and addresses
    _rule(r"<(?:/?[A-Za-z][A-Za-z0-9_:.\-]*(?: +[A-Za-z][^>\s]*)* */?|[!?][A-Za-z\-][^>]*)>", _same),
    _rule(r"&(?:amp|AMP|lt|LT|gt|GT);", _sign),
    _rule(r"&quot;", _double_quote),
    _rule(r"&nbsp;", lambda text, rest: []),
    _rule(r"&#\d+;", _same),
    _rule(r"(?i:https?)://[^\s\"<>|(){}]+[^\s\"<>|.!?(){},\-]", _same),
    _rule(
        r"(?:www\.(?:[^\s\"<>|.!?(){},]+\.)+[a-zA-Z]{2,4}|(?:[^\s\"`'<>|.!?(){},\-_$:/&]+\.)+(?:com|net|org|edu))"
        r"(?:/[^\s\"<>|()]+[^\s\"<>|.!?(){},\-])?",
        _same,
    ),
    _rule(r"[a-zA-Z0-9][^\s\"<>|(){}\u00a0]*@(?:[^\s\"<>|().{}\u00a0]+\.)*[^\s\"<>|()\[\].,;:{}\u00a0]+", _same),
    _rule(r"@[A-Za-z_][A-Za-z_0-9]*|#[A-Za-z]+(?:_[A-Za-z]+)*", _same),
    # contractions
    _rule(r"(?i:cannot|gonna|gotta|lemme|gimme|wanna)", _cut),
    _rule(r"(?P<token>'[tT])(?i:is|was)", _apostrophe_word),
    _rule(rf"(?P<token>{_W})(?:{_SUFFIX})", _same),
    _rule(rf"(?P<token>[A-Za-z]*(?![nN])[A-Za-z]){_NOT}", _same),
    _rule(rf"{_NOT}", _apostrophe_word),
    _rule(rf"{_SUFFIX}", _apostrophe_word),
    _rule(rf"{_A}[nN](?:{_A}|(?![-\w]))|(?:[lLdDjJ]|[dD]unkin|[sS]omethin|[oO]l){_A}|{_A}(?:em|EM|Em)", _same),
    _rule(r"'(?i:cause|till?)|[yY]'(?=[A-Za-z])|(?i:c'mon)", _same),
    _rule(rf"[dDoOlLnNeE]{_A}{_L}{{2,}}(?:-?[A-Za-z0-9]+)*", _same),
    _rule(rf"(?:{_L}*(?i:ma{_A}am)|(?i:{_NAMES})){_L}*|{_L}+(?i:y{_A}all)(?![A-Za-z])", _same),
    _rule(rf"{_A}\d\d(?:s|(?= |$))", _same),
    # words with signs inside
    _rule(rf"{_W}", _same),
    _rule(rf"\d+{_L}(?:{_L}|\d)*", _same),
    _rule(rf"(?:{_L}|\d)+(?:_(?:{_L}|\d)+)+", _same),
    _rule(rf"(?:{_L}|\d)(?:{_L}|[\d.,]|_(?={_L}|\d))*(?:{_DASH}(?:[A-Za-z](?:\.[A-Za-z])+\.|(?:{_L}|\d)+))+", _same),
    _rule(r"(?i:anti|pro)-(?= |$)", _same),
    _rule(rf"[A-Za-z0-9.]+\.(?:{_ENDINGS})(?![A-Za-z0-9])", _same),
    _rule(r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}", _same),
    _rule(r"(?:\d{1,4}[- ])?\d{1,4}/\d{1,4}(?:-[A-Za-z]+)*", _same),
    _rule(r"[A-Z]+(?:&[A-Z]+)+", _same),
    _rule(r"(?:[A-Za-z]\+\+|[cC]#)(?![A-Za-z])", _same),
    _rule(r"\(\d{3}\) ?\d{3}[- ]\d{4}", _number),
    # abbreviations
    _rule(rf"(?i:{_STOPPED})\.", _abbreviation),
    _rule(rf"(?:{_CAPITAL})\.", _abbreviation),
    _rule(rf"(?P<token>(?i:{_BEFORE_NUMBERS.replace(' ', '|')})\.) ?\d", _same),
    _rule(r"[A-Za-z](?:\.[A-Za-z])+\.?(?![A-Za-z])", _acronym),
    _rule(r"(?i:ph\.d\.)", _acronym),
    _rule(rf"(?P<token>(?:{_L}|\d)+\.)[,;:]", _same),
    _rule(r"[A-Za-z]\.", _initial),
    # numbers and money
    _rule(rf"[-+]?{_NUMBER}|\({_NUMBER}\)", _number),
    _rule(r"[A-Z]*\$|[\u00a2-\u00a5\u0080\u20ac]", lambda text, rest: [_SIGNS.get(text, text.lower())]),
    _rule(r"[\u00bc-\u00be\u2153\u2154]", _sign),
    _rule(rf"[{_ODD}]", _same),
    # punctuation
    _rule(r"[?!]+", _same),
    _rule(r"\.\.\.+(?:\.\.)?", lambda text, rest: ["..."]),
    _rule(r"[\u2026\u0085]", _sign),
    _rule(r"[.,;:]", _same),
    _rule(r"-+", _dashes),
    _rule(r"[\u2013\u2014\u2015\u0096\u0097]", _sign),
    _rule(r"``|''", _same),
    _rule(r"\"", _double_quote),
    _rule(_A, _single_quote),
    _rule(r"[`\u2018\u201b\u2039\u203a\u201c\u201d\u00ab\u00bb\u0091\u0093\u0094]", _sign),
    _rule(r"[<>]?[:;=]['\-o*]?[()DPdpO\\{@|\[\]](?![A-Za-z0-9])", lambda text, rest: [_bracketed(text)]),
    _rule(r"([\^=\-])_\1|>_<|<<|>>|\*+|_+|#+|@+|[(){}\[\]<>&@%~^|\\/+=]", _sign),
]
