"""`longrope serve`: checks what is to be served, then hands over to vLLM's own `vllm serve`.

Everything that can be refused is refused before vLLM is imported, which takes seconds.
"""

import importlib.util
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from longrope_factors.factor_file import hf, hub, schema, shipped
from longrope_factors.factor_file.adapters import adapter_files
from longrope_factors.factor_file.base import Base
from longrope_factors.factor_file.errors import FactorFileError
from longrope_factors.factor_file.schema import FactorFile
from longrope_plugin.selection import Policy

from longrope_server.errors import UsageError
from longrope_server.front_end.settings import Settings
from longrope_server.serve import compiler, embedded, environment, front_end_flags, precision
from longrope_server.serve.arguments import Arguments, conflict, merge, parse_length
from longrope_server.serve.vllm_command import run_vllm_serve

POLICIES: tuple[str, ...] = get_args(Policy)


@dataclass(frozen=True)
class Command:
    """What is passed to vLLM, and what is said to the user."""

    words: list[str]
    notes: list[str] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)


def serve(words: list[str]) -> None:
    """Serves what `words`, the command line after `longrope serve`, ask for.

    Raises UsageError or FactorFileError, one sentence, for what cannot be served.
    """
    if importlib.util.find_spec("vllm") is None:
        raise UsageError(
            "vLLM is not installed: on a CPU install requirements/cpu.txt with --no-deps "
            "(scripts/setup does), on a GPU longrope[cuda]."
        )
    front_end_flags.refuse_other_front_ends(words, os.environ)
    command = compose(words)
    environment.allow_endpoint_plugin(os.environ)
    room = environment.reserve_kv_space(os.environ)
    cores = environment.compute_on_every_core(os.environ)
    environment.keep_what_was_compiled(os.environ)
    for note in (*command.notes, room, cores):
        if note:
            print(f"longrope: {note}", file=sys.stderr, flush=True)
    with environment.front_end(os.environ, command.settings):
        run_vllm_serve(command.words)


def compose(words: list[str]) -> Command:
    """The words after `vllm serve`: the model, our flags, then the user's own unchanged.

    Raises UsageError for what cannot be served.
    """
    arguments = Arguments(words)
    if (ours := arguments.of_file(("factors", "selection", *front_end_flags.OURS))) is not None:
        raise UsageError(
            f"The --config file sets {ours}, which vLLM does not know: give --{ours} on the "
            "command line."
        )
    settings, drain = front_end_flags.take(arguments, os.environ)
    command = _compose(arguments)
    chosen, notes = _for_this_cpu(command.words)
    model, *words = command.words
    return Command([model, *drain, *chosen, *words], [*command.notes, *notes], settings=settings)


def _for_this_cpu(words: list[str]) -> tuple[list[str], list[str]]:
    """The words that choose what a CPU does best, and sentences about them."""
    if not environment.on_cpu():
        return [], []
    import torch  # takes seconds, and vLLM needs it anyway

    dtype, about_dtype = precision.chosen(words, torch.cpu.get_capabilities())
    eager, about_eager = compiler.chosen(words, os.environ)
    return [*dtype, *eager], [note for note in (about_dtype, about_eager) if note]


def _compose(arguments: Arguments) -> Command:
    model = arguments.take_model()
    factors, policy = arguments.take("factors"), arguments.take("selection")
    if policy is not None and policy not in POLICIES:
        raise UsageError(f"--selection is {policy!r}; it should be one of {', '.join(POLICIES)}.")
    ours: list[str] = []
    if model is None:
        model = str(embedded.model_directory())
        factors = factors or embedded.NAME
        if arguments.peek("served-model-name") is None:
            # This flag comes before others, so that its list ends.
            ours += ["--served-model-name", *embedded.SERVED_NAMES]

    overrides = arguments.take_object("hf-overrides")
    config = served_config(model, arguments)
    factor_file, directory = None, Path(model)
    notes: list[str] = []
    if config is not None:
        config = merge(config, overrides)
        named = hf.named_file(config)
        directory = hub.base_dir(model, named, arguments.peek("revision"))
        if factors is None and named is not None:
            factors = str(directory / named)
    if factors is not None:
        path = factors_path(factors)
        base = None if config is None else hf.base(config, model, directory)
        factor_file, overrides, notes = _from_file(path, config, base, overrides)
    elif config is not None and hf.is_longrope(config):
        factor_file = hf.two_list(config, model)

    if overrides:
        ours += ["--hf-overrides", json.dumps(overrides)]
    if factor_file is None:
        return _unchanged(model, ours, arguments, policy, config)

    ours += _served_length(factor_file, arguments)
    selection = {"longrope_selection": policy} if policy else {}
    additional = _merged(arguments.take_object("additional-config"), selection, "additional-config")
    if additional:
        ours += ["--additional-config", json.dumps(additional)]
    limits = ", ".join(f"{factor_set.max_length:,}" for factor_set in factor_file.sets)
    note = f"{model} is served with factor sets up to {limits} tokens."
    return Command([model, *ours, *arguments.rest], [note, *notes])


def _from_file(
    path: Path, config: dict[str, Any] | None, base: Base | None, overrides: dict[str, Any]
) -> tuple[FactorFile, dict[str, Any], list[str]]:
    """The factor file, checked against the model, the overrides that make vLLM read it, and notes.

    The overrides replace the config's own rope parameters: what they scale is not scaled again.
    """
    factor_file = schema.load(path)
    adapter_files.check(factor_file, path)  # the plug-in also checks it against the model's weights
    notes = []
    if base is not None:
        base.check(factor_file, path)
        if base.replaces_scaling(factor_file):
            notes.append(_about_replaced(base, factor_file))
    ours = hf.hf_overrides(factor_file, path, config)
    return factor_file, _merged(overrides, ours, "hf-overrides"), notes


def _about_replaced(base: Base, factor_file: FactorFile) -> str:
    window = base.identity.original_max_position_embeddings
    same = factor_file.sets[factor_file.select(window)].max_length
    return (
        f"What the config scales already is the set of "
        f"{same:,} tokens; shorter requests are served with the sets before it."
    )


def factors_path(factors: str) -> Path:
    """What --factors names: a file, or else a factor file of the library."""
    is_file = os.path.isfile(factors)  # False if it cannot be looked at
    return shipped.path(factors) if not is_file and factors in shipped.names() else Path(factors)


def _merged(theirs: dict[str, Any], ours: dict[str, Any], flag: str) -> dict[str, Any]:
    if (key := conflict(ours, theirs)) is not None:
        raise UsageError(
            f"--{flag} sets {key} to another value than longrope needs: leave {key} out of it."
        )
    return merge(theirs, ours)


def _unchanged(
    model: str,
    ours: list[str],
    arguments: Arguments,
    policy: str | None,
    config: dict[str, Any] | None,
) -> Command:
    if policy is not None:
        raise UsageError(
            f"--selection chooses between factor sets, but {model} has none: name a factor file "
            "with --factors."
        )
    if config is None:
        note = f"The config of {model} cannot be read before vLLM does: nothing was checked."
    else:
        note = f"{model} has no longrope factors and is served unchanged."
        if _is_static_yarn(config):
            note += (
                " Its config scales every request alike by yarn, short ones too: with --factors, "
                "each would be rotated by its own length (docs/qwen.md)."
            )
    return Command([model, *ours, *arguments.rest], [note])


def _is_static_yarn(config: dict[str, Any]) -> bool:
    """Whether people put yarn into the config of a model that was trained without it.

    Its max_position_embeddings is then still the one before scaling. False for any config that
    cannot be read as factors.
    """
    try:
        base, stated = hf.base(config), hf.served_window(config)
    except FactorFileError:
        return False
    window = base.identity.original_max_position_embeddings
    return base.unscaled is not None and stated < window


def _served_length(factor_file: FactorFile, arguments: Arguments) -> list[str]:
    longest = factor_file.max_length
    asked = arguments.peek("max-model-len")
    if asked is None:
        return ["--max-model-len", str(longest)]
    length = parse_length(asked)
    if length is not None and length > longest:
        raise UsageError(
            f"--max-model-len is {length}, but the largest factor set of "
            f"{factor_file.model.name} covers {longest} tokens: ask for at most that."
        )
    return []


def served_config(model: str, arguments: Arguments) -> dict[str, Any] | None:
    """The model's config.json, from its directory or from the hub.

    None if only vLLM can read it: a single file, an address of an object store, a model in
    Mistral's own format, or one of ModelScope's.
    """
    place = arguments.peek("hf-config-path") or model
    if os.path.isdir(place):
        if (Path(place) / "params.json").exists() and not (Path(place) / "config.json").exists():
            return None
        return hf.read_config(place)
    if os.path.isfile(place) or "://" in place or _is_modelscopes():
        return None
    return _config_from_hub(place, arguments.peek("revision"))


def _is_modelscopes() -> bool:
    return os.environ.get("VLLM_USE_MODELSCOPE", "").strip().lower() in ("1", "true")


def _config_from_hub(name: str, revision: str | None) -> dict[str, Any] | None:
    import huggingface_hub
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
    )

    try:
        file = huggingface_hub.hf_hub_download(name, "config.json", revision=revision)
    except HFValidationError:
        raise UsageError(f"{name} is neither a directory here nor a name on the hub.") from None
    except RemoteEntryNotFoundError:  # the hub has the model, but in another format
        return None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
        raise UsageError(
            f"{name} is not a directory here, and its config cannot be had from the hub: check the "
            "name and the connection."
        ) from None
    return hf.read_config(Path(file).parent)
