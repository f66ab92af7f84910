"""A corpus on disk: texts as token ids, documents, and where their images' features lie; memory-mapped and shared."""


class Corpus:
    """Documents of a corpus, without anything of it in memory that is not used.

    Attributes:
        path: the corpus TSV.
        tokens: TextTokens of all texts: text number d < D is the caption (or question) of document d, further numbers
            are tags and answers, as `text_b` gives them.
        image: [D] int32, the image key of each document by number; equal numbers are equal keys.
        questions: [Q] int32, rising, the documents whose text_b is an answer.
        regions: RegionSource by image number.
    """
