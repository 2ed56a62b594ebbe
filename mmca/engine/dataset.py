"""Build a data set, and explain why one cannot be built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mmengine.dataset import BaseDataset

from mmca.errors import InputError


def build_dataset(
    kind: type, explain: Callable[[Any, Exception], None], attributes: Mapping, /, **settings: Any
) -> Any:
    """Build a data set from its settings.

    Args:
        kind: its class.
        explain: called with the data set and the exception if loading its annotations fails; it
            raises an InputError if it knows the reason.
        attributes: of the data set, there before its `__init__` runs.
    """
    dataset = object.__new__(kind)
    vars(dataset).update(attributes)
    try:
        dataset.__init__(**settings)
    except InputError:
        raise
    except Exception as error:
        if hasattr(dataset, 'pipeline'):  # built before the annotations are read
            explain(dataset, error)
        raise
    return dataset


def explain_missing_images(dataset: BaseDataset, error: Exception) -> None:
    """Name the folders in which a data set finds no images."""
    if not isinstance(error, ValueError) or dataset.data_list:
        return
    places = [place for place in (dataset.ann_file, *dataset.data_prefix.values()) if place]
    suffix = getattr(dataset, 'img_suffix', '')
    raise InputError(
        f'no image{suffix and f" named *{suffix}"} in {", ".join(places)}; correct data_prefix'
        + (', or img_suffix' * bool(suffix))
    ) from error
