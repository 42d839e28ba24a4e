"""A wheel and an sdist of a clean checkout: all files are in them, and what is installed runs by its own name."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
ELSEWHERE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # nothing of this checkout


def command(*words, cwd, status=0):
    done = subprocess.run([str(w) for w in words], cwd=cwd, env=ELSEWHERE, capture_output=True, text=True)
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def wheel_of(source, folder):
    """Path of the wheel that pip builds of a folder or an sdist, with what this interpreter has installed."""
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    command(*pip, "--wheel-dir", folder, source, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel of a clean checkout, wheel of its sdist, the package's tracked files)"""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout: git says which files are the repository's")
    tracked = command("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    checkout, first, second = (tmp_path_factory.mktemp(name) for name in ("checkout", "wheel", "of_sdist"))
    for name in tracked:
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
    build = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    command(sys.executable, "-c", build, cwd=checkout)
    sdist = next((checkout / "dist").glob("*.tar.gz"))
    package = {name for name in tracked if name.startswith("revisit_ssl/") and (ROOT / name).is_file()}
    return wheel_of(checkout, first), wheel_of(sdist, second), package


def test_wheel_and_sdist_hold_every_file_of_the_package(built):
    *wheels, package = built
    for wheel in wheels:
        held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("revisit_ssl/")}
        assert held == package, f"missing {package - held}, too much {held - package}"


def test_an_installed_wheel_runs_by_its_name(built, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    scripts = tmp_path / "venv" / "bin"
    own = command(
        scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path
    ).strip()
    pip = [sys.executable, "-m", "pip", "--python", scripts / "python", "install", "--no-deps", "--no-index"]
    command(*pip, built[1], cwd=tmp_path)
    # Behind its own packages those of this interpreter: TensorFlow is large, and no network is needed.
    (pathlib.Path(own) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    home = command(scripts / "python", "-c", "import revisit_ssl; print(revisit_ssl.__file__)", cwd=tmp_path)
    assert home.startswith(own)
    assert "usage: revisit-ssl run PRETEXT" in command(scripts / "revisit-ssl", "run", "--help", cwd=tmp_path)
    # Nothing is trained, which would be the same as in the checkout: the wheels hold every file.
    printed = command(scripts / "revisit-ssl", "run", "random", "--preset", "smoke", "--probes", cwd=tmp_path)
    run = tmp_path / "runs" / "random-resnet18-k1-digits-s0"
    assert printed.startswith("preset smoke") and "<img" in (run / "report.html").read_text()
    usage = command(scripts / "python", "-m", "revisit_ssl", "sweep", "--help", cwd=tmp_path)
    assert usage.startswith("usage: python -m revisit_ssl sweep")
