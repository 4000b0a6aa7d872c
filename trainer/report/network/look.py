"""Which fold's network is asked about which row: the one that the row was left out of.

Called by `trainer.report.__main__` for `--grad_cam` and `--feature_maps`.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.errors import SettingsError
from pipeline.predictions import output_classes, positive_places
from pipeline.records.label import LabelInfo
from pipeline.records.manifest import Manifest
from pipeline.stream.render import decode
from trainer.report.examples import Shown
from trainer.report.network.draw import CHANNELS, channel_sheet, overlay
from trainer.report.page.pictures import Picture
from trainer.trained_run import TrainedRun, read_trained_run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sheet:
    """The strongest channels of one layer for one image."""

    id: str
    layer: str
    jpeg: bytes
    about: str  # how many channels, and of what size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looks:
    """What a run's networks looked at."""

    run: str
    places: str  # of the map behind an overlay, such as `7 × 7 places`
    overlays: Mapping[tuple[str, str], bytes]  # JPEG by id and the class said
    sheets: tuple[Sheet, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gallery:
    """Rows of the records by id, and their pictures; what the networks of a run are shown."""

    manifest: Manifest
    rows: pd.DataFrame
    pictures: Mapping[str, Picture]


def choose_run(names: Sequence[str]) -> TrainedRun:
    """The first of them that is a run of networks.

    Raises:
      SettingsError: none is.
    """
    reasons = []
    for name in names:
        if name.endswith(".parquet"):
            continue
        try:
            return read_trained_run(name, "run")
        except SettingsError as error:
            reasons.append(str(error))
    why = f": {reasons[0]}" if reasons else ""
    raise SettingsError(
        "--grad_cam, --feature_maps: among the runs must be the folder of one that trainer.task "
        f"trained, got {', '.join(names)}{why}"
    )


def look(
    run: TrainedRun,
    gallery: Gallery,
    alarms: Sequence[Shown],
    misses: Sequence[Shown],
    *,
    cam_layer: str | None = None,
    layers: Sequence[str] = (),
    layers_of: Sequence[Shown] = (),
) -> Looks:
    """Overlays of mistakes: what spoke for a false alarm, and what against a positive missed.

    Raises:
      SettingsError: the records are not those of the run, or a layer is not there.
      CheckpointError: a fold's weights are gone.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from trainer.report.network.maps import grad_cams, layer_maps

    _check_records(run, gallery.manifest)
    signed = [*((one, 1.0) for one in alarms), *((one, -1.0) for one in misses)]
    overlays: dict[tuple[str, str], bytes] = {}
    sheets: list[Sheet] = []
    places = ""
    for number, ids in _by_fold(run, [*(one.id for one, _ in signed), *_ids(layers_of)]).items():
        model = run.load(number).model
        asked = [(one, sign) for one, sign in signed if one.id in ids]
        if asked:
            images, inputs = _inputs(gallery, run, number, _ids(one for one, _ in asked))
            classes = [_outputs(run.label, one.said) for one, _ in asked]
            signs = [sign for _, sign in asked]
            cams = grad_cams(model, inputs, classes, signs, cam_layer)
            places = f"{cams.shape[1]}\u00a0×\u00a0{cams.shape[2]} places"
            for (one, _), image, cam in zip(asked, images, cams, strict=True):
                overlays[one.id, one.said] = overlay(image, cam)
        shown = [id_ for id_ in _ids(layers_of) if id_ in ids]
        if layers and shown:
            _, inputs = _inputs(gallery, run, number, shown)
            for name, maps in layer_maps(model, inputs, layers).items():
                sheets += [
                    Sheet(id=id_, layer=name, jpeg=channel_sheet(of), about=_about(of))
                    for id_, of in zip(shown, maps, strict=True)
                ]
    order = {id_: place for place, id_ in enumerate(_ids(layers_of))}
    in_order = sorted(sheets, key=lambda sheet: (order[sheet.id], layers.index(sheet.layer)))
    return Looks(run=run.folder, places=places, overlays=overlays, sheets=tuple(in_order))


def _check_records(run: TrainedRun, manifest: Manifest) -> None:
    about = next(iter(run.folds.values())).run
    for name in ("plan_digest", "render_digest"):
        if about.get(name) != getattr(manifest, name):
            raise SettingsError(
                f"--records must be those that {run.folder} was trained on, got {manifest.name!r} "
                f"of another {name.replace('_', ' ')}; leave --grad_cam and --feature_maps out, or "
                "name those records"
            )


def _by_fold(run: TrainedRun, ids: Sequence[str]) -> dict[int, set[str]]:
    """The ids that each fold predicted, of folds that have any."""
    wanted = set(ids)
    found = {
        number: wanted & set(predictions.frame["id"]) for number, predictions in run.folds.items()
    }
    return {number: of_fold for number, of_fold in found.items() if of_fold}


def _inputs(
    gallery: Gallery, run: TrainedRun, number: int, ids: Sequence[str]
) -> tuple[list[npt.NDArray[np.uint8]], dict[str, npt.NDArray[np.float32]]]:
    """uint8 [S, S, 3] each, and the model's inputs, as the evaluation makes them."""
    is_swapped = gallery.manifest.is_red_blue_swapped
    images = [
        decode(gallery.pictures[id_].stored, run.size_px, is_swapped=is_swapped) for id_ in ids
    ]
    inputs = {"image": np.stack(images).astype(np.float32) * np.float32(1 / 255)}
    if encoder := run.encoder(number):
        inputs["metadata"] = encoder.encode(gallery.rows.set_index("id").loc[list(ids)])
    return images, inputs


def _outputs(label: LabelInfo, said: str) -> list[int]:
    """The outputs that make up the score `said`."""
    if label.kind == "multiclass" and label.positive:
        return positive_places(label)
    return [output_classes(label).index(said)]


def _ids(shown: Sequence[Shown] | Iterator[Shown]) -> list[str]:
    return [one.id for one in shown]


def _about(maps: npt.NDArray[np.float32]) -> str:
    height, width, channels = maps.shape
    return f"{min(channels, CHANNELS)} of {channels} channels, {height} × {width}"
