"""A retrieval pack as DSPy's KNN: the same exemplars, as demos of a DSPy program."""

from __future__ import annotations

from typing import Any

from icl_align.retrieval.pack import RetrievalPack
from icl_align.types import Example


def dspy_knn(pack: RetrievalPack, query: str = "query", answer: str = "answer") -> Any:
    """Gives a `dspy.KNN` that finds what the pack chooses, nearest first.

    It differs from DSPy's own in what it leaves out: the query itself and doubles. Its demos are of
    single turns; exemplars with earlier turns bring their last one.

    Args:
        pack: The retrieval pack.
        query: The signature's input field.
        answer: Its output field.
    """
    import dspy

    trainset = [
        dspy.Example(**{query: one.query, answer: one.answer}).with_inputs(query)
        for one in pack.pack.prompt.exemplars
    ]

    class PackKNN(dspy.KNN):  # type: ignore[misc]
        """Asks the pack; DSPy's own vectors are not needed."""

        def __init__(self) -> None:
            self.k, self.trainset = pack.recipe.k, trainset
            self.trainset_vectors = pack.vectors

        def __call__(self, **inputs: Any) -> list[Any]:
            chosen = pack.choose([Example(str(inputs[query]))])[0]
            found = [trainset[index] for index in chosen]
            return found[::-1] if pack.recipe.nearest_last else found

    return PackKNN()


def dspy_few_shot(pack: RetrievalPack, query: str = "query", answer: str = "answer") -> Any:
    """Gives a `dspy.KNNFewShot` whose demos are the pack's choice, none of them bootstrapped.

    DSPy shuffles a query's demos (its LabeledFewShot draws a sample), so their order is not the
    pack's; the set is.

    Args:
        pack: The retrieval pack.
        query: The signature's input field.
        answer: Its output field.
    """
    import dspy

    made = dspy.KNNFewShot.__new__(dspy.KNNFewShot)
    made.KNN = dspy_knn(pack, query, answer)
    made.few_shot_bootstrap_args = {
        "max_bootstrapped_demos": 0,
        "max_labeled_demos": pack.recipe.k,
    }
    return made
