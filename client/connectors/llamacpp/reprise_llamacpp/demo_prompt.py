"""The demo's two prompts: this project's own documentation, and a question about it.

Both are token ids, so that their lengths and their common prefix are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Tokenize = Callable[[str], list[int]]

_OPENING = "<|im_start|>user\nRead this documentation.\n\n"
_QUESTIONS = (
    "\n\nIn one short paragraph: what is Reprise, and what does it do?",
    "\n\nIn one short paragraph: what does a store check, and what does a client check?",
)
_ANSWER = "<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Prompts:
    """Token ids. The second prompt shares exactly its first `shared_tokens` with the first."""

    whole: list[int]
    partial: list[int]
    shared_tokens: int
    documentation_tokens: int
    """Of the first prompt: what is not chat template or question."""


def documentation(tree: Path) -> str:
    """README.md, the pages of docs/ and the folders' READMEs of a source tree, in that order.

    Raises FileNotFoundError if `tree` holds none of them.
    """
    pages = [
        tree / "README.md",
        *sorted((tree / "docs").glob("*.md")),
        *sorted(tree.glob("*/README.md")),
    ]
    texts = [page.read_text() for page in dict.fromkeys(pages) if page.is_file()]
    if not texts:
        raise FileNotFoundError(
            f"{tree.absolute()} has no README.md and no docs/: name the source tree with --docs"
        )
    return "\n\n".join(texts)


def make_prompts(
    text: str, tokenize: Tokenize, *, whole_tokens: int, partial_tokens: int, shared_tokens: int
) -> Prompts:
    """Two prompts of exactly these lengths.

    Raises ValueError if the text is too short, or the lengths leave no room for both questions.
    """
    opening, pages = tokenize(_OPENING), tokenize(text)
    questions = [tokenize(question + _ANSWER) for question in _QUESTIONS]
    first_pages = whole_tokens - len(opening) - len(questions[0])
    other_pages = partial_tokens - shared_tokens - len(questions[1])
    shared_pages = shared_tokens - len(opening)
    if min(first_pages - shared_pages, other_pages) < 1 or shared_pages < 0:
        raise ValueError(
            f"prompts of {whole_tokens} and {partial_tokens} tokens that share {shared_tokens} "
            "leave no room for the questions"
        )
    # The second prompt goes on with later pages than the first, from where they differ at once.
    start = first_pages
    while start < len(pages) and pages[start] == pages[shared_pages]:
        start += 1
    if start + other_pages > len(pages):
        raise ValueError(
            f"the documentation has {len(pages)} tokens, needed are {start + other_pages}; "
            "ask for shorter prompts"
        )
    whole = opening + pages[:first_pages] + questions[0]
    partial = whole[:shared_tokens] + pages[start : start + other_pages] + questions[1]
    return Prompts(whole, partial, shared_tokens, first_pages)
