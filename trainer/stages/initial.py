"""The weights of another run's fold, by name of layer, to start from.

`trainer.fold_run` reads them before it builds a model of its own, `trainer.running.setup` puts them
in before anything is made of the model's variables, such as their averages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from pipeline import storage
from pipeline.errors import SettingsError
from pipeline.metadata import MetadataEncoder
from pipeline.predictions import output_classes
from pipeline.records.label import LabelInfo
from trainer.exported.weights import load_trained
from trainer.models.groups import layer_groups
from trainer.stages.source import Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """Arrays by name of layer, and what of them means the same here."""

    folder: str
    layers: Mapping[str, Sequence[npt.NDArray[Any]]]
    has_same_classes: bool
    has_same_metadata: bool

    def put_into(self, model: Any) -> str:
        """Gives layers of the same name and shapes these weights; says which are left out, and why.

        In the scope of the model's strategy. Head and metadata's layers may stay new, the backbone
        may not.

        Raises:
          SettingsError: a layer of the backbone is not there, or of another shape.
        """
        left_out = []
        for group, layers in layer_groups(model).items():
            for layer in filter(_has_weights, layers):
                misfit = self._misfit(group, layer)
                if misfit is None:
                    layer.set_weights(self.layers[layer.name])
                elif group in ("fusion", "head"):
                    left_out.append(f"{layer.name} ({misfit})")
                else:
                    raise SettingsError(
                        f"init: the backbone must be that of {self.folder}, got {misfit} for its "
                        f"{layer.name}"
                    )
        new = f"; new are {', '.join(left_out)}" if left_out else ""
        return f"starts from the weights of {self.folder}{new}"

    def _misfit(self, group: str, layer: Any) -> str | None:
        values = self.layers.get(layer.name)
        if values is None:
            return "no such layer"
        if [value.shape for value in values] != [tuple(weight.shape) for weight in layer.weights]:
            return "another shape"
        if layer.name == "target" and not self.has_same_classes:
            return "other classes"
        if group == "fusion" and not self.has_same_metadata:
            return "other metadata"
        return None


def read_initial(
    source: Source, label: LabelInfo, encoder: MetadataEncoder | None
) -> InitialWeights:
    """The weights that made the predictions of `source`: averaged or best where its recipe says so.

    For a fold of this label and metadata. Builds that run's model, outside any strategy.
    """
    tf.keras.backend.clear_session()  # Keras numbers the layers that it names, from here on
    theirs = source.predictions
    trained = load_trained(
        source.config.model,
        # Not where Vertex AI says, which is of this run.
        storage.join(source.folder, "checkpoints"),
        {name: value for name, value in theirs.run.items() if name.endswith("_digest")},
        image_size_px=source.config.data.image_size_px or 0,
        metadata_width=len(source.encoder.names) if source.encoder else 0,
        outputs=len(output_classes(theirs.label)),
    )
    layers = filter(_has_weights, trained.model.layers)
    return InitialWeights(
        folder=source.folder,
        layers={layer.name: layer.get_weights() for layer in layers},
        has_same_classes=(theirs.label.kind, theirs.label.classes) == (label.kind, label.classes),
        has_same_metadata=source.encoder == encoder,
    )


def _has_weights(layer: Any) -> bool:
    return bool(layer.weights)
