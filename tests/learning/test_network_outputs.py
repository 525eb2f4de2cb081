import pytest
import torch

from dcomp.learning.network_outputs import answer_to, class_dimension, float_tensors, logits_of, main_tensor

LOGITS = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))


def test_logits_are_the_main_tensor_wherever_they_stand():
    assert main_tensor({"hidden": torch.zeros(2, 5), "logits": LOGITS}) is LOGITS
    assert main_tensor((torch.ones(2, dtype=torch.long), LOGITS)) is LOGITS
    assert main_tensor({"loss": torch.tensor(1.0), "text": "x"}) is None


def test_tensors_of_floats_have_their_places_as_names_and_single_precision():
    output = {"a": (LOGITS.bfloat16(), 5), "loss": torch.tensor(1.0), "labels": torch.ones(2, dtype=torch.long)}
    assert list(float_tensors(output)) == ["a.0"]
    assert float_tensors(LOGITS.bfloat16())[""].dtype == torch.float32


def test_logits_of_a_mapping_are_its_scores_and_an_output_without_any_stays():
    assert torch.equal(logits_of({"logits": LOGITS}), LOGITS)
    assert logits_of(LOGITS) is LOGITS
    assert logits_of("text") == "text"


def test_an_input_is_a_tensor_a_mapping_of_keywords_or_a_list_of_arguments():
    def model(first, second=1):
        return first + second

    assert [answer_to(model, 5), answer_to(model, [5, 2]), answer_to(model, {"second": 3, "first": 5})] == [6, 7, 8]


@pytest.mark.parametrize(("shape", "size"), [((2, 3), 3), ((2, 3, 5, 7), 3), ((2, 3, 5, 7, 9), 3), ((2, 5, 3), 3)])
def test_classes_are_dimension_1_of_vectors_and_images_and_the_last_of_sequences(shape, size):
    tensor = torch.zeros(shape)
    assert tensor.shape[class_dimension(tensor)] == size
