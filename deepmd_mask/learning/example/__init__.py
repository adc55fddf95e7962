# SPDX-License-Identifier: LGPL-3.0-or-later
"""What `dp-mask learn init` writes: the files here but this one, an example that runs as it is."""

import shutil
from pathlib import Path

NOT_OF_IT = ("__init__.py", "__pycache__")


def init(folder: Path) -> list[Path]:
    """Write the example to a folder.

    Parameters
    ----------
    folder
        Made if it is not there.

    Returns
    -------
    list of pathlib.Path
        What was written.

    Raises
    ------
    FileExistsError
        If one of the files is there. Nothing is written then.
    """
    sources = [path for path in sorted(Path(__file__).parent.iterdir()) if _is_of_it(path)]
    written = [folder / path.name for path in sources]
    for path in written:
        if path.exists():
            raise FileExistsError(f"{path} exists; choose another folder, or move it away")
    folder.mkdir(parents=True, exist_ok=True)
    for source, path in zip(sources, written, strict=True):
        shutil.copyfile(source, path)
    return written


def _is_of_it(path: Path) -> bool:
    return path.name not in NOT_OF_IT and path.is_file()
