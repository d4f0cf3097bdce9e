"""Situations that users of such software meet, each with its outcome and the tests that prove it;
and the messages that docs/troubleshooting.md explains are those that the code prints.
"""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent

# situation | outcome | tests
SITUATIONS = """
fewer calibration images than the target coverage needs | said before training with what they support; what lies beyond all is rejected | rejection/test_few_calibration_images.py::test_coverage_is_as_announced_and_far_images_are_rejected tune/test_hands.py::test_two_labels_and_few_images_never_answer_everything
two labels: none can be held out | run, report and predict say that confidence assumes a sign | tune/test_hands.py::test_two_labels_and_few_images_never_answer_everything
folders train, valid, test instead of signers | refused with the settings that fit | data/test_layouts.py::test_splits_of_a_data_set_are_no_people data/test_layouts.py::test_folders_named_train_valid_and_test data/test_layouts.py::test_splits_taken_for_labels
signers are not known | nothing is said about people whom the models have not seen | tune/test_without_signers.py::test_without_signers_the_notes_say_what_that_hides report/test_console_tables.py::test_signers_are_unseen_only_where_they_are_known
frames of one video on both sides of a split | split in file order; near twins are counted and named | data/test_near_twins.py::test_frames_of_a_video_are_named data/test_manifest.py::test_without_signers_the_last_files_are_held_out pipeline/test_preparation.py::test_without_signers_neighbouring_files_share_a_fold
labels that are dropped, one name in several spellings | one name by NFC and strip, each drop named with its reason | data/test_manifest.py::test_one_name_in_several_spellings data/test_manifest.py::test_every_label_that_is_not_used_is_named_with_its_reason
a label called rejected | the decision is a column of its own | pipeline/test_prediction.py::test_answers_and_refusals
names that YAML reads as numbers | a name is what was typed | core/test_command_line.py::test_names_are_what_was_typed core/test_command_line.py::test_other_texts_of_a_file_are_what_was_typed
mirrored pictures and left hands | read as right hands | tune/test_hands.py::test_predict_says_who_read_what_and_refuses_walls_and_pairs
a folder called nothing | asked: far set or label | data/test_layouts.py::test_labels_that_usually_name_no_sign data/test_manifest.py::test_images_without_a_sign_are_a_far_set_of_the_test_signers
a table of pixels | how to convert it, in one short line | data/test_manifest.py::test_a_table_of_pixels_says_how_to_convert_it
commands that see different files of one folder | one walk; what is left out is counted and named | data/test_picture_files.py::test_every_command_sees_the_same data/test_picture_files.py::test_a_folder_that_may_not_be_read
file names that are not UTF-8 | escaped, no answer is lost | pipeline/test_prediction.py::test_names_of_any_bytes_and_brackets_lose_no_answer
an output that cannot be written | refused before images are read | pipeline/test_prediction.py::test_out_is_tried_before_images_are_read
square brackets in paths and labels | printed as they are | report/test_console_tables.py::test_brackets_are_no_markup_in_a_terminal
two commands on one run | the second names who works on it | core/test_run_lock.py::test_every_command_that_writes_into_a_run_is_refused core/test_run_lock.py::test_a_killed_commands_lock_does_not_block
a dead Ray | asked for seconds; refused if given, passed over if found | core/test_running_ray.py::test_a_dead_or_other_server_is_refused_within_seconds core/test_running_ray.py::test_what_was_only_found_is_named_and_not_used
a Ray of another version | both versions are named | core/test_running_ray.py::test_other_versions_are_named
paths too long or not permitted for Ray | another folder is taken, or the remedy named | core/test_ray_folder.py::test_another_folder_is_taken core/test_ray_folder.py::test_without_any_folder_the_remedy_is_named
one folder written in several ways | one run name | core/test_run_folder.py::test_one_folder_has_one_name core/test_run_folder.py::test_every_path_becomes_absolute
a full or read-only disk | one sentence with the file and the remedy | test_bad_input.py::test_a_full_disk_names_the_file_and_the_remedy test_bad_input.py::test_a_member_that_cannot_be_written_is_named
an output in Latin-1, full or closed | every file is written all the same | test_bad_input.py::test_output_never_decides_whether_a_file_is_written
more trials for an ended search | it goes on; other changes are refused by name | tune/test_more_trials.py::test_more_trials_go_on_from_the_ended_ones core/test_run_folder.py::test_what_would_change_ended_trials_is_refused
WANDB_MODE against the setting, or unknown | said, or refused | tracking/test_tracker.py::test_the_user_learns_what_is_logged_where tracking/test_tracker.py::test_an_unknown_mode_in_the_environment_is_refused
HEIC, video, addresses | named for what they are, with the remedy | data/test_file_kinds.py::test_a_file_is_called_what_it_is pipeline/test_prediction.py::test_what_cannot_be_read_is_called_what_it_is data/test_picture_files.py::test_addresses_are_refused_with_the_remedy
"""  # noqa: E501
ROWS = [row.split(" | ") for row in SITUATIONS.strip().splitlines()]
# In a message, what differs from case to case, and what the system says.
DIFFERS = re.compile(
    r"No space left on device|Read-only file system|Permission denied|bogus|online|offline|disabled"
    r"|…|\d[\d.]*|\b[A-Z]\b|\b(?:RUN|USER|HOST|UID)\b|[:;,()'&]"
)
LEAST_FOUND = 0.6  # share of a message's words that must stand next to their neighbours in the code


@lru_cache
def names_of_tests(file: str) -> set[str]:
    """The names of a file's tests."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@lru_cache
def texts_of_the_code() -> str:
    """All texts in the package, a line for each."""
    found = []
    for path in (ROOT / "sign_ensemble").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(" ".join(node.value.split()))
    return "\n".join(found)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_every_situation_has_its_outcome_and_tests(row: list[str]) -> None:
    _, outcome, named = row
    assert outcome
    for test in named.split():
        file, _, name = test.partition("::")
        assert name in names_of_tests(file), test


def messages() -> list[str]:
    """What the page explains."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    return [message for row in rows for message in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("message", messages())
def test_a_message_that_is_explained_is_printed(message: str) -> None:
    words = DIFFERS.sub(" | ", message).split()
    pairs = [" ".join(pair) for pair in pairwise(words) if "|" not in pair]
    assert pairs
    missing = [pair for pair in pairs if pair not in texts_of_the_code()]
    assert len(missing) <= (1 - LEAST_FOUND) * len(pairs), missing
