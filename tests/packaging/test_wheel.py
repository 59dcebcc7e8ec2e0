"""The wheel, because pytest itself imports the source tree."""

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("factors", "loadtest", "plugin", "server")
PACKAGES = {name: ROOT / name / f"longrope_{name}" for name in FOLDERS}
LIBRARY = ROOT / "factors" / "library"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy of the tree, so that nothing is left in it."""
    copy = tmp_path_factory.mktemp("source")
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(copy)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = (copy / "dist").glob("longrope-*.whl")
    return zipfile.ZipFile(file)


@pytest.mark.long
@pytest.mark.parametrize("name", PACKAGES)
def test_every_file_of_a_package_is_in_the_wheel(wheel: zipfile.ZipFile, name: str) -> None:
    files = {
        f"longrope_{name}/{file.relative_to(PACKAGES[name])}"
        for file in PACKAGES[name].rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert f"longrope_{name}/__init__.py" in files
    assert files <= set(wheel.namelist())


def test_the_library_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    library = {
        f"longrope_factors/library/{file.relative_to(LIBRARY)}"
        for pattern in ("*.json", "*/*.json", "*/*.safetensors")
        for file in LIBRARY.glob(pattern)
    }
    assert "longrope_factors/library/smollm2-135m.json" in library
    assert "longrope_factors/library/smollm2-135m-32k/adapter_model.safetensors" in library
    assert library <= set(wheel.namelist())


def test_nothing_else_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    roots = {name.split("/")[0] for name in wheel.namelist()}
    assert {root for root in roots if not root.endswith(".dist-info")} == {
        path.name for path in PACKAGES.values()
    }


def test_the_wheel_names_its_entry_points(wheel: zipfile.ZipFile) -> None:
    (file,) = [name for name in wheel.namelist() if name.endswith("/entry_points.txt")]
    assert wheel.read(file).decode().split("\n\n") == [
        "[console_scripts]\nlongrope = longrope_server.cli:main",
        "[vllm.endpoint_plugins]\nlongrope = longrope_server.front_end.endpoint:LongRoPEEndpoint",
        "[vllm.general_plugins]\nlongrope = longrope_plugin:register\n",
    ]


@pytest.mark.parametrize("group", ["vllm.general_plugins", "vllm.endpoint_plugins"])
def test_vllm_finds_and_loads_the_plug_ins(group: str) -> None:
    (found,) = entry_points(group=group, name="longrope")
    assert callable(found.load())


def test_the_endpoint_plug_in_keeps_vllms_protocol() -> None:
    from longrope_server.front_end.endpoint import LongRoPEEndpoint
    from vllm.plugins.endpoint_plugins.interface import EndpointPlugin

    assert isinstance(LongRoPEEndpoint(), EndpointPlugin)


def test_an_installed_wheel_finds_its_library(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = "from longrope_factors.factor_file import shipped; print(shipped.path('smollm2-135m'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(
        tmp_path / "longrope_factors" / "library" / "smollm2-135m.json"
    )
