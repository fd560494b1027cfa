"""The specs that are judged: files, folders of them, and codecs by name."""

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import kvc
from kvc.hf import spec_of

from .errors import SpecRefused, Usage

#: What of a spec's model section must be the model's.
_FIELDS = ("layers", "q_heads", "kv_heads", "head_dim", "softmax_scale",
           "logit_softcap")
#: The dtype of the model that judges.
_DTYPE = "f32"


class Entry(NamedTuple):
    """A spec to judge: what it is called, the file or codecs it is from, the
    dtype that it was written for, and its Program over f32."""

    name: str
    source: str
    dtype: str
    program: Any


class _OtherModel(SpecRefused):
    """The spec is for a model with other layers or heads."""


def specs_of(config, paths=(), codecs=(), device="cpu"):
    """([Entry], notes) of a model's config.

    paths   files; of a folder, all *.json that are specs for this model, the
            others are named in the notes
    codecs  "int8", "k=bf16,v=int8", an object, or a spec's file, whose codecs
            are taken for this model: every token of every layer. Of a folder
            all such files; one with stores of its own is named in the notes

    Raises SpecRefused with every fault of every spec.
    """
    wanted = _wanted(config)
    entries, notes, faults = [], [], []
    for path in map(Path, paths):
        if not path.exists():
            raise Usage(f"--spec: {path} is not there")
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not files:
            raise Usage(f"--spec: no *.json in {path}")
        others = []
        for file in files:
            try:
                entries.append(_entry(file, str(file), wanted, device))
            except _OtherModel as refused:
                if path.is_dir():
                    others.append(file.name)
                else:
                    faults.append(str(refused))
            except SpecRefused as refused:
                faults.append(str(refused))
        if others:
            notes.append(f"{path}: left out, as they are for other models: "
                         f"{', '.join(others)}")
    for codec in _codecs_of(codecs, notes):
        try:
            entries.append(_entry(_of_codec(config, codec),
                                  f"--codec {codec}", wanted, device))
        except SpecRefused as refused:
            faults.append(str(refused))
    if faults:
        raise SpecRefused("\n".join(faults))
    if not entries:
        raise Usage("nothing to judge: give --spec FILE, or --codec NAME"
                    + "".join(f"\n  {note}" for note in notes))
    return _named_apart(entries), notes


def _wanted(config):
    """The model section of a spec for this model, None where its config does
    not tell."""
    try:
        return spec_of(config, dtype=_DTYPE)["model"]
    except ValueError:
        return None


def _codecs_of(codecs, notes):
    """With the files of folders in their place."""
    for codec in codecs:
        if not (folder := Path(codec)).is_dir():
            yield codec
            continue
        files = sorted(folder.glob("*.json"))
        if not files:
            raise Usage(f"--codec: no *.json in {folder}")
        several = [file.name for file in files if "stores" in _read(file)]
        if several:
            notes.append(f"{folder}: left out, as their layers differ: "
                         f"{', '.join(several)}")
        yield from (str(file) for file in files if file.name not in several)


def _read(file):
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Usage(f"--codec: {file}: {error}") from error
    if not isinstance(found, dict):
        raise Usage(f"--codec: {file} is no spec")
    return found


def _of_codec(config, text):
    """The spec of "int8", "k=bf16,v=int8", of an object: a codec, or one for
    each of k and v, or of the codecs of a spec's file."""
    if text.endswith(".json"):
        name, streams = _streams_of_file(text)
    else:
        streams = (_streams_of_object(text) if text.startswith("{") else
                   _streams_of_names(text))
        name = None
    k, v = (streams.get(each, _DTYPE) for each in "kv")
    name = name or (_name_of(k) if k == v else
                    f"k-{_name_of(k)}.v-{_name_of(v)}")
    try:
        return spec_of(config, k, v, _DTYPE, name=name)
    except ValueError as error:
        raise SpecRefused(f"--codec {text}: {error}") from error


def _streams_of_file(file):
    found = _read(file)
    streams = found.get("streams")
    if "stores" in found or not isinstance(streams, dict):
        raise Usage(f"--codec: {file} has stores of its own; give it to --spec, "
                    "with a model section that is the model's")
    codecs = {each: stream.get("codec") for each, stream in streams.items()
              if isinstance(stream, dict)}
    return found.get("name"), {each: codec for each, codec in codecs.items()
                               if codec is not None}


def _streams_of_names(text):
    streams = {}
    for part in text.split(","):
        stream, equals, codec = part.partition("=")
        if not equals:
            stream, codec = "kv", part
        if stream not in ("k", "v", "kv") or not codec:
            raise Usage(f"--codec: expected NAME, k=NAME,v=NAME or an object, "
                        f"found {text!r}")
        streams.update(dict.fromkeys(stream, codec))
    return streams


def _streams_of_object(text):
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Usage(f"--codec: {text!r} is no JSON: {error}") from error
    if "kind" in found:
        return dict.fromkeys("kv", found)
    if not found.keys() <= {"k", "v"}:
        raise Usage('--codec: expected an object with a "kind", or with "k" '
                    f'and "v", found {text!r}')
    return found


def _name_of(codec):
    """int4-min-g32: what names a codec in tables, its scale's type left out."""
    if not isinstance(codec, dict):
        return codec
    zero = codec.get("zero", "none")
    zero = zero.get("kind") if isinstance(zero, dict) else zero
    parts = [codec.get("kind")] + ([] if zero == "none" else [zero])
    if "group" in codec:
        parts.append(f"g{codec['group']}")
    name = "-".join(str(part) for part in parts)
    # What is no name is refused as the codec that it is of.
    return name if re.fullmatch(r"[\w.-]{1,31}", name, re.ASCII) else "codec"


def _entry(what, source, wanted, device):
    try:
        program = kvc.load(kvc.compile(what), device)
    except kvc.SpecError as error:
        hint = ""
        if wanted and any(each.pointer.startswith("/model") or
                          '"model"' in each.message or
                          "`model`" in each.message
                          for each in error.diagnostics):
            hint = _legal(wanted)
        raise SpecRefused(f"{source}: it does not compile\n{error}{hint}"
                          ) from error
    except OSError as error:
        raise Usage(f"--spec: {source}: {error}") from error
    if wanted:
        _check_model(source, program, wanted)
    dtype = program.model.dtype
    if dtype != _DTYPE:
        program = kvc.load(kvc.compile(over_f32(program.spec)), device)
    return Entry(program.name, source, dtype, program)


def _legal(wanted):
    return f'\n  help: for this model, "model": {json.dumps(wanted)}'


def _check_model(source, program, wanted):
    model = program.model
    found = {"layers": model.layers, "q_heads": model.q_heads,
             "kv_heads": model.kv_heads, "head_dim": model.head_dim_k,
             "softmax_scale": model.softmax_scale,
             "logit_softcap": program.spec["model"].get("logit_softcap")}
    if model.head_dim_v != model.head_dim_k:
        found["head_dim"] = (model.head_dim_k, model.head_dim_v)
    differ = [f"{name} {found[name]}, expected {wanted.get(name)}"
              for name in _FIELDS if not _same(found[name], wanted.get(name))]
    has_logits = any("logits" in store.get("attend", {}) for store in
                     program.spec.get("stores", [program.spec]))
    if has_logits:  # an expression may be the softcap
        differ = [each for each in differ if "logit_softcap" not in each]
    if differ:
        raise _OtherModel(f"{source}: it is for another model: "
                          f"{'; '.join(differ)}{_legal(wanted)}")


def _same(a, b):
    if isinstance(a, float) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=1e-6)
    return a == b


def over_f32(spec):
    """The spec of an artifact, which has every default written out, codecs too,
    for a model whose K, V and Q are f32. A model that rounds its own K and V
    would hide what the codec does."""
    return {**spec, "model": {**spec["model"], "dtype": _DTYPE}}


def _named_apart(entries):
    """With names of their own: a page and a table know specs by them."""
    taken, found = set(), []
    for entry in entries:
        name = entry.name
        if name in taken:
            name = f"{entry.name} ({Path(entry.source).stem})"
        number = 2
        while name in taken:
            name, number = f"{entry.name} #{number}", number + 1
        taken.add(name)
        found.append(entry._replace(name=name))
    return found
