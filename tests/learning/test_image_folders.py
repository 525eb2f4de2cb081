import numpy as np
import pytest
import torch
from PIL import Image

from dcomp import stages
from dcomp.errors import DataError, UsageError
from dcomp.learning import datasets
from dcomp.learning.datasets import ImageForm
from dcomp.learning.task_data import TaskData
from dcomp.progress.observer import Observer
from dcomp.settings import DataSettings, EvalSettings, TrainSettings


def photo(path, mode="RGB", size=(50, 40), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes of photos, of all modes that files have."""
    for part, count in (("train", 6), ("val", 2)):
        for label in ("cat", "dog"):
            for number in range(count):
                photo(tmp_path / "photos" / part / label / f"{number}.jpg", seed=number)
    train = tmp_path / "photos" / "train"
    photo(train / "cat" / "gray.JPEG", "L")
    photo(train / "cat" / "print.jpg", "CMYK")
    photo(train / "dog" / "palette.png", "P")
    photo(train / "dog" / "clear.png", "RGBA", size=(9, 70))
    return tmp_path / "photos"


def load(folder, **form):
    return datasets.load(f"imagefolder:{folder}", form=ImageForm(**{"crop": 28, "workers": 0, **form}))


def everything(split):
    return [torch.cat(parts) for parts in zip(*split.batches(torch.arange(len(split)).split(3)), strict=True)]


def test_photos_of_every_mode_are_squares_of_three_channels(folder):
    data = load(folder)
    images, labels = everything(data.train)
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (16, 3, 32, 32))
    assert labels.tolist() == [0] * 8 + [1] * 8
    assert (len(data.test), data.test.classes, data.test.size) == (4, 2, 28)
    assert data.train.preprocessing.train(images, "auto", torch.Generator()).shape == (16, 3, 28, 28)


def test_a_grayscale_network_gets_one_channel(folder):
    images, _ = everything(load(folder, grayscale=True).train)
    assert images.shape == (16, 1, 32, 32)


def test_the_short_side_is_resized_and_the_centre_cut(tmp_path):
    image = np.zeros((40, 120, 3), np.uint8)
    image[:, 40:80] = 255
    (tmp_path / "a").mkdir()
    for name in ("1.png", "2.png"):
        Image.fromarray(image).save(tmp_path / "a" / name)
    stored, _ = everything(load(tmp_path, resize=40).train)
    assert stored.min() > 250


def test_workers_and_cache_give_the_same_images(folder, tmp_path):
    plain, workers, cached = (
        everything(load(folder, **form).train)
        for form in ({}, {"workers": 2}, {"workers": 2, "cache": tmp_path / "cache"})
    )
    for images, labels in (workers, cached):
        assert torch.equal(images, plain[0])
        assert torch.equal(labels, plain[1])


def test_the_cache_is_made_once_and_anew_when_photos_change(folder, tmp_path):
    notes = []

    class Watching(Observer):
        def note(self, text):
            notes.append(text)

    def first():
        return next(load(folder, cache=tmp_path / "cache", observer=Watching()).train.batches([torch.tensor([0])]))[0]

    before = first()
    assert torch.equal(first(), before)
    assert len(notes) == 1
    assert "16 photos" in notes[0]
    photo(folder / "train" / "cat" / "0.jpg", seed=99)
    assert not torch.equal(first(), before)
    assert len(notes) == 2
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npy", ".npy"]


def test_a_damaged_cache_says_what_to_delete(folder, tmp_path):
    everything(load(folder, cache=tmp_path / "cache").test)
    path = next((tmp_path / "cache").iterdir())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=rf"the cache {path} is damaged .*delete it"):
        everything(load(folder, cache=tmp_path / "cache").test)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_photo_is_read_and_what_is_none_is_named(folder, workers):
    broken = folder / "train" / "cat" / "0.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    assert len(everything(load(folder, workers=workers).train)[0]) == 16
    broken.write_text("no photo")
    with pytest.raises(DataError, match=rf"^{broken} is no image that can be read .*mend or remove it$"):
        everything(load(folder, workers=workers).train)


def test_subsets_have_the_photos_asked_for(folder):
    data = load(folder)
    images, labels = everything(data.train)
    parts = TaskData.of(data, "photos", DataSettings()).split_validation(0.25, seed=0)
    train, validation = (part.split for part in parts)
    found = everything(validation)[1].tolist() + everything(train)[1].tolist()
    assert (len(validation), sorted(found)) == (4, labels.tolist())
    chosen = data.train.subset(torch.tensor([9, 2]))
    assert torch.equal(everything(chosen)[0], images[[9, 2]])


def test_one_folder_of_classes_is_split_by_chance(folder):
    data = load(folder / "train")
    assert (len(data.train), len(data.test), data.train.classes) == (13, 3, 2)


def test_classes_must_agree_and_photos_be_there(folder, tmp_path):
    (folder / "val" / "dog").rename(folder / "val" / "cow")
    with pytest.raises(DataError, match="only one has cow, dog"):
        load(folder)
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="empty is no folder of photos"):
        load(tmp_path / "empty")


def test_photos_must_not_be_stored_smaller_than_they_are_seen(folder):
    with pytest.raises(UsageError, match="--resize 20 is less than the 28 pixels"):
        load(folder, resize=20)


def test_photos_are_judged_at_the_size_they_were_trained_at(folder):
    data = f"imagefolder:{folder}"
    settings = TrainSettings(architecture="lenet5", data=data, workers=0, crop=28, resize=36, epochs=1, val_split=0)
    trained = stages.train(settings)
    assert trained.metadata["dcomp.resize"] == "36"
    usual, same, other = (
        stages.evaluate(trained, EvalSettings(data=data, workers=0, resize=size)) for size in (None, 36, 60)
    )
    assert usual == same
    assert usual.loss != other.loss


def test_a_failed_download_says_what_to_put_where(folder, tmp_path, monkeypatch):
    from dcomp.learning import vision

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(vision.datasets, "Imagenette", no_network)
    with pytest.raises(DataError, match=rf"not in {tmp_path}/imagenette2-160 and .*no network.*put its folders train"):
        datasets.load("imagenette:160px", tmp_path)
    folder.rename(tmp_path / "imagenette2-160")
    assert len(datasets.load("imagenette:160px", tmp_path).test) == 4


def test_photos_are_found_in_the_folder_of_data_sets(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    form = ImageForm(crop=28, workers=0)
    assert len(datasets.load("imagefolder:photos", folder.parent, form).train) == 16
    monkeypatch.setenv("DCOMP_DATA", str(folder.parent))
    assert len(datasets.load("imagefolder:photos", form=form).train) == 16
    assert len(datasets.load("ImageFolder:photos", form=form).train) == 16


def test_photos_in_the_current_folder_come_first(folder, monkeypatch, tmp_path):
    photo(tmp_path / "here" / "photos" / "train" / "a" / "1.jpg")
    photo(tmp_path / "here" / "photos" / "val" / "a" / "1.jpg")
    monkeypatch.chdir(tmp_path / "here")
    assert len(datasets.load("imagefolder:photos", folder.parent, ImageForm(crop=28, workers=0)).train) == 1


def test_home_is_expanded_in_the_path_of_photos(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(datasets.load("imagefolder:~/photos", form=ImageForm(crop=28, workers=0)).train) == 16


def test_photos_that_are_nowhere_name_both_places(tmp_path):
    with pytest.raises(DataError, match=f"^none and {tmp_path}/none: no such folder of photos"):
        datasets.load("imagefolder:none", tmp_path)
