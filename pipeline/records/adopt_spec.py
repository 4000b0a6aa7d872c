"""What others' TFRecord features mean: said in a TOML file, or guessed from their names.

    name = "isic512"
    rename = { anatom_site_general = "anatom_site_general_challenge" }
    roles = { image_name = "id", patient_id = "group", sex = "category", diagnosis = "category" }
    codes = { sex = ["male", "female"], diagnosis = { 0 = "unknown", 2 = "melanoma" } }
    parts = { "train0*" = "fold0", "train1*" = "fold1", "test*" = "test" }
    is_red_blue_swapped = false
    [label]
    classes = ["benign", "malignant"]

Called by `pipeline.records.adopt`. All names but those of `rename` are the new ones.
"""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.dataset.parts import GIVEN_PARTS, fold_of
from pipeline.errors import SettingsError
from pipeline.records.features import Dtype, Feature, Role
from pipeline.records.wire import Kind
from pipeline.settings import from_tables, load_toml, nearest

# Names under which others store the features that the pipeline must know, the likeliest first.
_NAMES: dict[Role, tuple[str, ...]] = {
    "image": ("image", "image_raw", "image/encoded", "img", "jpeg"),
    "id": ("image_name", "image_id", "isic_id", "id", "filename", "image/filename"),
    "group": ("patient_id", "patient", "subject_id", "lesion_id", "group"),
    "target": ("target", "label", "class", "image/class/label"),
    "category": (
        "sex", "gender", "site", "anatom_site", "anatom_site_general",
        "anatom_site_general_challenge",
    ),
    "number": ("age", "age_approx"),
}  # fmt: skip
_ONCE: tuple[Role, ...] = ("image", "id", "group", "target")
_DTYPES: dict[Role, tuple[Dtype, ...]] = {
    "image": ("bytes",),
    "id": ("string", "int64"),
    "group": ("string", "int64"),
    "category": ("string", "int64"),
    "number": ("float32", "int64"),
    "target": ("int64", "float32"),
    "values": ("float32",),
    "extra": ("bytes", "string", "float32", "int64"),
}
_DTYPE_OF: dict[Kind, Dtype] = {"bytes": "string", "float": "float32", "int64": "int64"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdoptLabel:
    """The classes behind the target, in the order of their numbers."""

    classes: tuple[str, ...] | None = None  # None: 0, 1, … as far as they occur
    positive: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdoptSpec:
    """What others' features mean; whatever is not said is guessed by name."""

    name: str = "adopted"
    rename: Any = dataclasses.field(default_factory=dict)  # name in the record -> name here
    roles: Any = dataclasses.field(default_factory=dict)  # name here -> role
    codes: Any = dataclasses.field(default_factory=dict)  # name here -> texts, or code -> text
    parts: Any = dataclasses.field(default_factory=dict)  # pattern of file names -> part
    label: AdoptLabel = AdoptLabel()
    is_red_blue_swapped: bool = False  # the images were encoded from BGR pixels as if from RGB

    def __post_init__(self) -> None:
        for setting in ("rename", "roles", "codes", "parts"):
            table = getattr(self, setting)
            if not isinstance(table, Mapping):
                raise ValueError(f"{setting} must be a table, got {table!r}")
        for name, role in self.roles.items():
            if role not in _DTYPES:
                raise ValueError(f"roles.{name} must be one of {', '.join(_DTYPES)}, got {role!r}")
        for pattern, part in self.parts.items():
            if fold_of(str(part)) < 0 and part not in GIVEN_PARTS:
                raise ValueError(
                    f"parts.{pattern!r} must be foldN or one of {', '.join(GIVEN_PARTS)}, "
                    f"got {part!r}"
                )

    def codes_of(self, name: str) -> tuple[tuple[int, str], ...] | None:
        """The codes of a feature; -1 is missing unless it is said to be something else."""
        table = self.codes.get(name)
        if table is None:
            return None
        items = table.items() if isinstance(table, Mapping) else enumerate(table)
        try:
            codes = {-1: ""} | {int(code): str(text) for code, text in items}
        except ValueError as error:
            raise SettingsError(f"codes.{name}: a code must be a whole number: {error}") from error
        return tuple(sorted(codes.items()))


def read_adopt_spec(path: str | None) -> AdoptSpec:
    """The spec in a TOML file, or the one that leaves all to guessing."""
    return from_tables(AdoptSpec, load_toml(path), path) if path else AdoptSpec()


def name_features(
    example: Mapping[str, tuple[Kind, Any]], spec: AdoptSpec
) -> tuple[tuple[Feature, ...], list[str]]:
    """Name, role, type and shape of each feature of an example, and what was guessed of these."""
    _refuse_unknown("rename", spec.rename, example)
    names = {key: str(spec.rename.get(key, key)) for key in example}
    for setting in ("roles", "codes"):
        _refuse_unknown(setting, getattr(spec, setting), names.values())
    roles, notes = _guess_roles(names.values(), spec.roles)
    features = []
    for key, (kind, values) in example.items():
        name, role = names[key], roles[names[key]]
        codes = spec.codes_of(name)
        stored = role if role in ("image", "target") else name  # the stream knows them so
        is_bytes = role == "image" or not _is_text(kind, values)
        dtype: Dtype = "bytes" if is_bytes else _DTYPE_OF[kind]
        length = len(values) if role in ("target", "values") else None
        shape: tuple[int | None, ...] = () if len(values) == 1 else (length,)
        _check_type(name, role, dtype, shape)
        if codes is not None and (dtype != "int64" or shape):
            raise SettingsError(f"codes.{name}: the feature must be one int64, got {dtype}")
        features.append(
            Feature(
                name=stored, dtype=dtype, shape=shape, role=role,
                key=None if key == stored else key, codes=codes,
            )
        )  # fmt: skip
    twice = [name for name, n in collections.Counter(f.name for f in features).items() if n > 1]
    if twice:
        raise SettingsError(f"rename: names must differ, got {twice[0]!r} for several features")
    return tuple(sorted(features, key=lambda feature: feature.name)), notes


def _guess_roles(
    names: Iterable[str], said: Mapping[str, Role]
) -> tuple[dict[str, Role], list[str]]:
    roles: dict[str, Role] = dict(said)
    names, notes = list(names), []
    for role in _ONCE:
        named = [name for name in names if said.get(name) == role]
        if len(named) > 1:
            raise SettingsError(f"roles: there must be one {role}, got {', '.join(named)}")
    for role, candidates in _NAMES.items():
        open_names = [name for name in candidates if name in names and name not in roles]
        if role in _ONCE:
            open_names = [] if role in roles.values() else open_names[:1]
        for name in open_names:
            roles[name] = role
            notes.append(f"{name} is the {role}" if role in _ONCE else f"{name} is a {role}")
    return {name: roles.get(name, "extra") for name in names}, notes


def _is_text(kind: Kind, values: Sequence[Any]) -> bool:
    """False for bytes that are no UTF-8."""
    try:
        return kind != "bytes" or all(isinstance(value.decode(), str) for value in values)
    except UnicodeDecodeError:
        return False


def _check_type(name: str, role: Role, dtype: Dtype, shape: tuple[int | None, ...]) -> None:
    is_list_wanted = role == "values" or (role, dtype) == ("target", "float32")
    fits = role == "extra" or (bool(shape) == is_list_wanted)
    if dtype not in _DTYPES[role] or not fits:
        what = "a list" if shape else "one"
        raise SettingsError(
            f"roles.{name}: {role} must be {' or '.join(_DTYPES[role])}, got {what} of {dtype}; "
            f'give it another role, such as roles.{name} = "extra"'
        )


def _refuse_unknown(setting: str, named: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for name in named:
        if name not in known:
            raise SettingsError(f"{setting}: no feature {name!r} in the records; "
                                f"{nearest(name, known)}")  # fmt: skip


def part_of(file: str, spec: AdoptSpec, notes: list[str]) -> str:
    for pattern, part in spec.parts.items():
        if fnmatch.fnmatchcase(file, pattern):
            return str(part)
    if spec.parts:
        patterns = ", ".join(spec.parts)
        raise SettingsError(f"parts: every file must match a pattern ({patterns}), got {file}")
    begins = [part for part in ("train", "val", "test") if file.lower().startswith(part)]
    part = begins[0] if begins else "train"
    notes.append(f"{file} is of part {part}")
    return part
