"""Downloads the packages of wheels.txt and sdists.txt from PyPI and unpacks them without installing them.

Usage: unpack.py FOLDER
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, is_source in [("wheels.txt", False), ("sdists.txt", True)]:
        for pin in pathlib.Path(name).read_text().split():
            package = pin.partition("==")[0]
            with tempfile.TemporaryDirectory() as directory:
                kind = ["--no-binary", package] if is_source else ["--only-binary", package]
                pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", *kind]
                subprocess.run([*pip, "--dest", directory, pin], check=True, stdout=sys.stderr)
                [archive] = pathlib.Path(directory).iterdir()
                unpacked = pathlib.Path(directory) / "unpacked"
                shutil.unpack_archive(archive, unpacked, "gztar" if is_source else "zip")
                # A source package has one folder with its name and version.
                shutil.move(next(unpacked.iterdir()) if is_source else unpacked, folder / package)


main()
