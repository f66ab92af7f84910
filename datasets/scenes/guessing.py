"""How far one gets without looking: the commonest training answer, over all and for each kind of question."""

from collections import Counter, defaultdict


def guessing_scores(train, entries):
    """Scores of two guessers, which know the training answers and (the second one) the kind of a question.

    Args:
        train, entries: questions with `kind` and `answers`, which are (answer, score) pairs.
    Returns:
        {"questions": number of entries, "majority": {"answer", "accuracy"}, "by_kind": {"accuracy", "kinds"}}, where
        kinds maps a kind to {"questions", "answer", "accuracy"}; accuracies in [0, 1], None without questions. The
        accuracy of an answer is its score, as VQA counts.
    """
    of_kind = defaultdict(list)
    for entry in entries:
        of_kind[entry.kind].append(entry)
    guess = _commonest(train)
    kinds, points = {}, 0.0
    for kind, asked in sorted(of_kind.items()):
        best = _commonest([entry for entry in train if entry.kind == kind]) or guess
        kinds[kind] = {"questions": len(asked), "answer": best, "accuracy": _accuracy(best, asked)}
        points += _points(best, asked)
    return {
        "questions": len(entries),
        "majority": {"answer": guess, "accuracy": _accuracy(guess, entries)},
        "by_kind": {"accuracy": round(points / len(entries), 4) if entries else None, "kinds": kinds},
    }


def _commonest(entries):
    """The answer with the largest sum of scores, the first one in the alphabet among equals; None without entries."""
    sums = Counter()
    for entry in entries:
        sums.update(dict(entry.answers))
    return min(sums, key=lambda answer: (-sums[answer], answer), default=None)


def _points(answer, entries):
    return sum(dict(entry.answers).get(answer, 0.0) for entry in entries)


def _accuracy(answer, entries):
    return round(_points(answer, entries) / len(entries), 4) if entries else None
