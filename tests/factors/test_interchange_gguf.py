"""GGUF files as llama.cpp's loader wants them, alone or as a copy of a model."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants
from longrope_factors.factor_file import schema
from longrope_factors.formats import gguf_factors

from tests.factors.examples import document, write
from tests.factors.test_interchange import refused, run


def factors(tmp_path: Path, **changes: Any) -> Path:
    content = document()
    content["model"].update(changes)
    content["sets"][2]["attention_factor"] = 1.1
    return write(tmp_path / "x.json", content)


def metadata(path: Path) -> dict[str, Any]:
    fields = GGUFReader(path).fields.items()
    return {name: field.contents() for name, field in fields if not name.startswith("GGUF.")}


def tensors(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}


def model(path: Path, theta: float | None = 100000.0, architecture: str = "llama") -> Path:
    """A GGUF file with a quantised tensor, rope tensors of its own and arrays of metadata."""
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(8192)
    if theta is not None:
        writer.add_rope_freq_base(theta)
    writer.add_rope_scaling_factor(2.0)
    writer.add_token_list(["a", "b"])
    writer.add_token_scores([0.5, 1.5])
    writer.add_chat_template("{{ x }}")
    weights = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    kind = GGMLQuantizationType.Q4_1
    writer.add_tensor("blk.0.attn_q.weight", quants.quantize(weights, kind), raw_dtype=kind)
    writer.add_tensor("output_norm.weight", np.ones(64, dtype=np.float32))
    writer.add_tensor("rope_freqs.weight", np.ones(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_factors_alone(tmp_path: Path) -> None:
    output = tmp_path / "out" / "x.gguf"
    result = run("export", factors(tmp_path), "--to", "gguf", "-o", output)
    assert result.exit_code == 0
    assert metadata(output) == {
        "general.architecture": "llama",
        "llama.context_length": 32768,
        "llama.rope.dimension_count": 64,
        "llama.rope.freq_base": 100000.0,
        "llama.rope.scaling.type": "longrope",
        "llama.rope.scaling.original_context_length": 8192,
        "llama.rope.scaling.attn_factor": float(np.float32(1.1)),
    }
    found = tensors(output)
    assert {name: tensor.tensor_type for name, tensor in found.items()} == {
        gguf_factors.SHORT: GGMLQuantizationType.F32,
        gguf_factors.LONG: GGMLQuantizationType.F32,
    }
    assert found[gguf_factors.SHORT].data.tolist() == [1.0] * 32
    assert found[gguf_factors.LONG].data.tolist() == [4.0] * 32
    for words in ("max_length 16384", "one attention factor", "float32", "provenance"):
        assert words in result.stderr


def test_exact_factors_are_not_called_rounded(tmp_path: Path) -> None:
    content = document()
    del content["sets"][1]
    file = write(tmp_path / "x.json", content)
    lost = gguf_factors.write(schema.load(file), tmp_path / "x.gguf")
    assert len(lost) == 1
    assert "provenance" in lost[0]


def test_a_model_keeps_all_but_its_rope(tmp_path: Path) -> None:
    source, output = model(tmp_path / "model.gguf"), tmp_path / "out.gguf"
    result = run("export", factors(tmp_path), "--to", "gguf", "--gguf", source, "-o", output)
    assert result.exit_code == 0, result.stderr
    assert "rope_freqs.weight are replaced" in result.stderr
    before, after = metadata(source), metadata(output)
    assert "llama.rope.scaling.factor" not in after
    del before["llama.rope.scaling.factor"]
    assert after == {
        **before,
        "llama.context_length": 32768,
        "llama.rope.dimension_count": 64,
        "llama.rope.scaling.type": "longrope",
        "llama.rope.scaling.original_context_length": 8192,
        "llama.rope.scaling.attn_factor": float(np.float32(1.1)),
    }
    theirs, ours = tensors(source), tensors(output)
    assert ours.keys() - theirs.keys() == {gguf_factors.SHORT, gguf_factors.LONG}
    assert theirs.keys() - ours.keys() == {"rope_freqs.weight"}
    for name in theirs.keys() & ours.keys():
        assert ours[name].tensor_type == theirs[name].tensor_type
        assert ours[name].shape.tolist() == theirs[name].shape.tolist()
        assert ours[name].data.tobytes() == theirs[name].data.tobytes()


def test_a_second_export_replaces_the_first(tmp_path: Path) -> None:
    file, output = factors(tmp_path), tmp_path / "out.gguf"
    model(output)
    for length in (32768, 16384):
        export = ("export", file, "--to", "gguf", "--gguf", output, "-o", output)
        assert run(*export, "--length", length).exit_code == 0
    assert tensors(output)[gguf_factors.LONG].data.tolist() == [2.0] * 32
    assert metadata(output)["llama.context_length"] == 16384


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"theta": 10000.0}, "llama.rope.freq_base is 10000.0, but the factors are for 100000.0"),
        ({"theta": None}, "llama.rope.freq_base is 10000.0"),
        ({"architecture": "phi3"}, "general.architecture is 'phi3'"),
    ],
)
def test_another_model_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    source, output = model(tmp_path / "model.gguf", **changes), tmp_path / "out.gguf"
    export = ("export", factors(tmp_path), "--to", "gguf", "--gguf", source, "-o", output)
    assert words in refused(*export)
    assert not output.exists()


FULL = """
import resource, sys
from pathlib import Path
from longrope_factors.factor_file import schema
from longrope_factors.formats import gguf_factors
from longrope_factors.factor_file.errors import FactorFileError
factor_file, output = schema.load(sys.argv[1]), Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
try:
    gguf_factors.write(factor_file, output)
except FactorFileError as error:
    print(error)
"""


NAMES = [f"blk.{layer}.attn_q.weight" for layer in range(5)]


def pieces(
    folder: Path, name: str = "model", each: int = 2, tensors: list[str] = NAMES, **changes: Any
) -> list[Path]:
    """A model of which each file has so many tensors, as gguf's own writer splits it."""
    folder.mkdir(exist_ok=True)
    whole = folder / f"{name}.gguf"
    writer = GGUFWriter(whole, "llama", split_max_tensors=each, **changes)
    writer.add_context_length(8192)
    writer.add_rope_freq_base(100000.0)
    writer.add_token_list(["a", "b"])
    for number, tensor in enumerate(tensors):
        writer.add_tensor(tensor, np.full((4, 64), number, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob(f"{name}*.gguf"))


@pytest.mark.parametrize(
    ("each", "named", "small_first"),
    [(2, 0, False), (2, 1, False), (2, 2, False), (1, 4, False), (4, 1, False), (2, 3, True)],
)
def test_a_model_in_pieces_is_written_whole(
    tmp_path: Path, each: int, named: int, small_first: bool
) -> None:
    found = pieces(tmp_path / "in", each=each, small_first_shard=small_first)
    assert len(found) > named
    output = tmp_path / "out.gguf"
    export = ("export", factors(tmp_path), "--to", "gguf", "--gguf", found[named], "-o", output)
    result = run(*export)
    assert result.exit_code == 0, result.stderr
    ours = tensors(output)
    assert list(ours) == [gguf_factors.SHORT, gguf_factors.LONG, *NAMES]
    for number, name in enumerate(NAMES):
        assert ours[name].data.tolist() == [[float(number)] * 64] * 4
    about = metadata(output)
    assert about["tokenizer.ggml.tokens"] == ["a", "b"]
    assert about["llama.rope.scaling.type"] == "longrope"
    assert not [key for key in about if key.startswith("split.")]


def swap(one: Path, other: Path) -> None:
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def replace(found: list[Path], at: int, tensors: list[str], each: int = 2) -> None:
    """A piece of another model in the place of ours."""
    pieces(found[0].parent, "other", each, tensors)[at].rename(found[at])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda found: found[2].unlink(), "model-00003-of-00003.gguf: is missing"),
        (lambda found: found[0].unlink(), "model-00001-of-00003.gguf: is missing"),
        (
            lambda found: found[2].write_bytes(found[0].read_bytes()),
            "model-00003-of-00003.gguf: is named as piece 3 of 3, but says that it is piece 1 of 3",
        ),
        (
            lambda found: swap(found[0], found[2]),
            "model-00001-of-00003.gguf: is named as piece 1 of 3, but says that it is piece 3 of 3",
        ),
        (
            lambda found: found[2].write_bytes(found[2].read_bytes()[:-200]),
            "model-00003-of-00003.gguf: is not a GGUF file that can be read",
        ),
        (lambda found: model(found[2]), "has no split.no and split.count"),
        (
            lambda found: replace(found, 1, [*NAMES, "x"]),
            "model-00002-of-00003.gguf: is a piece of another model",
        ),
        (
            lambda found: replace(found, 0, [*NAMES[2:], "x", "y"]),
            "each with its own name: they are not of one model",
        ),
        (
            lambda found: replace(found, 1, NAMES, each=1),
            "is named as piece 2 of 3, but says that it is piece 2 of 5",
        ),
    ],
)
def test_pieces_that_are_not_one_model_are_refused(tmp_path: Path, spoil: Any, words: str) -> None:
    found = pieces(tmp_path / "in")
    spoil(found)
    output = tmp_path / "out.gguf"
    export = ("export", factors(tmp_path), "--to", "gguf", "--gguf", found[1], "-o", output)
    assert words in refused(*export)
    assert not output.exists()


def test_a_piece_without_its_name_is_refused(tmp_path: Path) -> None:
    file = factors(tmp_path)
    for number in range(3):
        folder = tmp_path / str(number)
        piece = pieces(folder)[number].rename(folder / f"part{number}.gguf")
        words = refused("export", file, "--to", "gguf", "--gguf", piece, "-o", tmp_path / "o")
        assert f"part{number}.gguf: is one of 3 pieces by its split.count" in words


def test_a_whole_model_that_is_named_as_a_piece_is_refused(tmp_path: Path) -> None:
    source = model(tmp_path / "model-00001-of-00001.gguf")
    words = refused("export", factors(tmp_path), "--to", "gguf", "--gguf", source, "-o", "o.gguf")
    assert "has no split.no and split.count: give it another name" in words


def test_an_output_that_is_named_as_a_piece_is_refused(tmp_path: Path) -> None:
    found = pieces(tmp_path / "in")
    before = found[0].read_bytes()
    export = ("export", factors(tmp_path), "--to", "gguf", "--gguf", found[0])
    for output in (found[0], found[2], tmp_path / "out-00001-of-00002.gguf"):
        assert "has the name of one piece of several" in refused(*export, "-o", output)
    assert found[0].read_bytes() == before


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the end of the disk: write fails alike."""
    output = model(tmp_path / "out.gguf")
    before = output.read_bytes()
    command = [sys.executable, "-c", FULL, str(factors(tmp_path)), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{output}: cannot be written: ")
    assert output.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.gguf", "x.json"]


def test_files_that_are_no_gguf(tmp_path: Path) -> None:
    file = factors(tmp_path)
    for source in (file, write(tmp_path / "empty", ""), tmp_path / "none"):
        words = refused("export", file, "--to", "gguf", "--gguf", source, "-o", tmp_path / "o")
        assert str(source) in words


def test_an_architecture_whose_factors_llama_cpp_does_not_load(tmp_path: Path) -> None:
    file = factors(tmp_path, architecture="FalconForCausalLM")
    assert "FalconForCausalLM" in refused("export", file, "--to", "gguf", "-o", tmp_path / "o")
