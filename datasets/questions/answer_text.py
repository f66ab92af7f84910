"""Answers of people as the evaluation of VQA compares them, and the soft score that each is worth.

Source: visualqa.org/evaluation.html (lower case, number words, articles, contractions, punctuation; the mean over all
sets of nine of the ten annotators). The answers of a list by minimum occurrence are normalised alike.
"""

import functools
import re
from collections import Counter

_DIGITS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}
_DIGITS |= {"seven": "7", "eight": "8", "nine": "9", "ten": "10"}
_ARTICLES = {"a", "an", "the"}
_MARKS = re.compile(r"""[][;/"{}()=+\\_\-<>@`,?!]""")  # all but apostrophe, colon and period
_ENDINGS = {  # of a contraction: the words it follows; those that are words without their apostrophe ("well") stay
    "n't": "ai are ca could did do does had has have is might must need ought sha should was were wo would",
    "'ve": "could might must not should they we what where who would you",
    "'d": "he how it somebody someone something that there they where who you",
    "'ll": "how it somebody someone something that they what who why you",
    "'re": "there they what why you",
    "'s": "he how let somebody someone something that there what when where who why",
}
_CONTRACTIONS = {word + end.replace("'", ""): word + end for end, words in _ENDINGS.items() for word in words.split()}


@functools.lru_cache(maxsize=1 << 18)
def normalised(answer):
    """An answer as it is compared: "The two dogs." -> "2 dogs"."""
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    joins = re.search(r"\d,\d", text)
    for mark in set(_MARKS.findall(text)):  # gone beside a blank and in "1,000", otherwise a blank itself
        text = text.replace(mark, "" if joins or f"{mark} " in answer or f" {mark}" in answer else " ")
    text = re.sub(r"\.(?!\d)", "", text)
    words = (_DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def soft_scores(answers):
    """{normalised answer: soft score} of the answers of all annotators, the commonest first.

    Of ten annotators n gave an answer: the mean of min(1, others / 3) over the sets of nine is min(1, 3 n / 10). The
    same share counts where there are more or fewer of them, so that a single answer is worth 1.

    Args:
        answers: list of str.
    """
    counts = Counter(map(normalised, answers))
    return {answer: min(1.0, 3 * count / len(answers)) for answer, count in counts.most_common()}
