"""The lookup prompt and its marking, on a stub that reads letters and remembers what it is told."""

from __future__ import annotations

import numpy as np
import pytest

from bench.fidelity.lookup import KEYS, Lookup, accuracy, lookup


class Letters:
    """A tokenizer of one token a letter after a begin token, and a model that says the right next
    letter, except at the positions in `wrong`.
    """

    def __init__(self) -> None:
        self.prefilled: list[str] = []
        self.wrong: set[int] = set()

    def tokenize(self, text: str) -> np.ndarray:
        return np.array([0, *(ord(letter) for letter in text)], np.int32)

    def prefill(self, tokens: np.ndarray) -> Letters:
        self.prefilled.append("".join(chr(token) for token in tokens[1:]))
        return self

    def kv(self) -> list[tuple[np.ndarray, np.ndarray]]:
        rows = np.zeros((len(self.prefilled[-1]) + 1, 1, 1), np.float32)
        return [(rows, rows)]

    def hidden_from(self, kv: list, first_position: int, tokens: np.ndarray) -> np.ndarray:
        assert first_position == len(kv[0][0])
        said = np.append(tokens[1:], 0)
        said[list(self.wrong)] = 1
        return np.eye(128, dtype=np.float32)[said]

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        return hidden


@pytest.fixture(name="asked")
def _asked() -> tuple[Letters, Lookup, str]:
    model = Letters()
    prompt = lookup(model)
    return model, prompt, "".join(chr(token) for token in prompt.questions)


def test_every_key_is_listed_and_asked_once_with_its_own_value(
    asked: tuple[Letters, Lookup, str],
) -> None:
    model, prompt, questions = asked
    listed = model.prefilled[0].splitlines()[1:]
    asked_lines = questions.splitlines()
    assert len(listed) == len(set(listed)) == KEYS == len(prompt.values)
    assert sorted(listed) == sorted(asked_lines)
    assert listed != asked_lines
    for value, line in zip(prompt.values, asked_lines, strict=True):
        assert questions[value] == " " + line.split(" is ")[1]


def test_an_answer_counts_when_it_is_right_as_a_whole(asked: tuple[Letters, Lookup, str]) -> None:
    model, prompt, _ = asked
    kv = model.kv()
    assert accuracy(model, prompt, kv) == 1.0
    # What is said at a position is the next token: the first of a value is said just before it.
    model.wrong = {prompt.values[3].start - 1, prompt.values[8].stop - 2, prompt.values[9].stop}
    assert accuracy(model, prompt, kv) == pytest.approx(1 - 2 / KEYS)
