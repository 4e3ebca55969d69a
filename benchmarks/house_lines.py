"""How many lines the house has, room by room, and how many of them score and compare.

Purpose: size is a cost; figures that are quoted must be counted the same way each time.
What counts as scoring and comparing: from predictions or features and their truth to figures, comparisons, files and
the page. Not: fitting a segmenter or classifier, predicting, reading labels.
Hardware: none to speak of, under a second.
Command: python benchmarks/house_lines.py
"""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCORING = {
    "figures and statistics": ["medssl/evaluation/**/*.py"],
    "tasks and kinds of data that score": [
        "medssl/domains/class_results.py",
        "medssl/domains/class_task.py",
        "medssl/domains/dense.py",
        "medssl/domains/task.py",
        "medssl/tasks/dense_samples.py",
        "medssl/tasks/scored_masks.py",
        "medssl/tasks/task_*.py",
        "pointcloud/tasks/dense_samples.py",
        "pointcloud/tasks/scores.py",
    ],
    "the verb and its protocols": [
        f"medssl/workflows/{name}.py"
        for name in (
            "arm_tables",
            "arms",
            "dense_probe",
            "earlier_scores",
            "evaluate",
            "evaluate_settings",
            "few_label",
            "frozen",
            "labelled",
            "landmarks",
            "one_shot",
            "place_features",
            "place_study",
            "places_shown",
            "probe",
            "prompt",
            "protocols",
            "retrieval",
            "run_classes",
            "score_files",
        )
    ],
    "the report and auto": [
        *(
            f"medssl/reporting/{name}.py"
            for name in (
                "answers",
                "chance",
                "class_section",
                "evaluation_section",
                "parts_section",
                "score_blocks",
                "scored",
            )
        ),
        "medssl/chains/auto_outcome.py",
    ],
}


def code_lines(text: str) -> int:
    """Return how many lines hold code: no comments, no docstrings, no blank ones."""
    held = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        and token.type != tokenize.ENDMARKER
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            said = node.body[0]
            held -= set(range(said.lineno, (said.end_lineno or said.lineno) + 1))
    return len(held)


def counted(files: list[Path]) -> tuple[int, int, int]:
    """Return how many files there are, their lines, and those of code."""
    texts = [file.read_text(encoding="utf-8") for file in files]
    return len(texts), sum(text.count("\n") for text in texts), sum(map(code_lines, texts))


def matching(patterns: list[str]) -> list[Path]:
    """Return the files of some patterns; each has to match."""
    found = {pattern: sorted(ROOT.glob(pattern)) for pattern in patterns}
    lost = [pattern for pattern, files in found.items() if not files]
    if lost:
        raise SystemExit(f"no file matches {', '.join(lost)}: mend the list of {__file__}")
    return [file for files in found.values() for file in files]


def show(rows: dict[str, list[Path]], title: str) -> None:
    """Print a table."""
    print(f"{title:<44}{'files':>8}{'lines':>8}{'code':>8}")
    for name, files in rows.items():
        print(f"{name:<44}{''.join(f'{n:>8,}' for n in counted(files))}")
    print(f"{'all':<44}{''.join(f'{n:>8,}' for n in counted([f for own in rows.values() for f in own]))}\n")


def main() -> None:
    """Count."""
    rooms: dict[str, list[Path]] = {}
    for package in ("medssl", "pointcloud", "pipelines"):
        for file in sorted((ROOT / package).rglob("*.py")):
            inside = file.relative_to(ROOT).parts
            rooms.setdefault("/".join(inside[:2]) if len(inside) > 2 else package, []).append(file)
    show(rooms, "room")
    show({name: matching(patterns) for name, patterns in SCORING.items()}, "scores and compares")


if __name__ == "__main__":
    main()
