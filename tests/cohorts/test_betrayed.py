import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from cohorts.betrayed import betrayed, telling


@pytest.mark.parametrize("everybody", ["1", "p1", "patient0001", "person12", "sub-003", "sample_17", "000123"])
def test_what_any_data_set_may_call_somebody_tells_nothing(everybody):
    assert telling(everybody) == ""


@pytest.mark.parametrize("somebody", ["0X1A2B3C4D5E6F", "Mueller^Anna", "PID-83472911x", "1.2.840.113619.2.55"])
def test_what_is_hardly_anybody_elses_is_looked_for(somebody):
    assert telling(somebody)


def test_a_patients_name_is_found_in_a_file_name_a_table_and_a_header(tmp_path):
    people = ["Mueller^Anna^1954", "0X1A2B3C4D5E6F", "Schneider_Karl", "Nobody_Elsewhere"]
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "images" / "0x1a2b3c4d5e6f.png")
    (tmp_path / "labels.csv").write_text("image,note\nx.png,MUELLER^ANNA^1954\n")
    words = PngImagePlugin.PngInfo()
    words.add_text("Comment", "from Schneider_Karl")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "x.png", pnginfo=words)
    assert betrayed(tmp_path, people) == set(people) - {"Nobody_Elsewhere"}


def test_a_release_that_counts_its_files_betrays_nobody(tmp_path):
    (tmp_path / "patient0001.txt").write_text("patient0001 patient0002")
    assert betrayed(tmp_path, ["patient0001", "patient0002"]) == frozenset()
